/*
 * Item 19. Sixteen threads at once and room for four (HEAPLEDGER_MAX_SLOTS):
 * the others share a slot, and the sums are still exact.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=crowded_alloc allocated_blocks=160000 requested_bytes=160000*40 freed_blocks=80000 live_blocks=80000 live_bytes=80000*u(40)
 * expect: losses.foreign_frees=0 losses.slots_overflowed>0
 */
#include "program.h"

enum { THREADS = 16, ROUNDS = 10000 };
static pthread_barrier_t together;

SITE void *crowded_alloc(void)
{
    return opaque(malloc(40));
}

static void *body(void *unused)
{
    pthread_barrier_wait(&together);
    for (int i = 0; i < ROUNDS; i++) {
        void *block = crowded_alloc();
        if (i % 2 == 0)
            free(block);
    }
    pthread_barrier_wait(&together);
    return unused;
}

int main(void)
{
    pthread_t threads[THREADS];
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        threads[i] = start_thread(body, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    say(1, "16 threads\n");
}
