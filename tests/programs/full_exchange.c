/*
 * Eight threads allocate, each at a site and with a stack of its own, and each
 * frees what the next one has allocated: what a row holds is counted by two threads.
 *
 * expect: outcome=exit:0 processes=1 losses.foreign_frees=0
 * expect: site=exchanged_even allocated_blocks=40000 freed_blocks=40000 live_blocks=0 live_bytes=0
 * expect: site=exchanged_odd allocated_blocks=40000 freed_blocks=39992 live_blocks=8 live_bytes=8*u(300)
 */
#include "program.h"

enum { THREADS = 8, ROUNDS = 10, BLOCKS = 1000 };
static void *blocks[THREADS][BLOCKS];
static pthread_barrier_t barrier;

SITE static void *exchanged_even(void)
{
    return opaque(malloc(100));
}

SITE static void *exchanged_odd(void)
{
    return opaque(malloc(300));
}

static void *exchange(void *number)
{
    uintptr_t mine = (uintptr_t)number, next = (mine + 1) % THREADS;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < BLOCKS; i++)
            blocks[mine][i] = mine % 2 ? exchanged_odd() : exchanged_even();
        pthread_barrier_wait(&barrier);
        for (int i = 0; i < BLOCKS; i++)
            if (round + 1 < ROUNDS || next % 2 == 0 || i >= 2)
                free(blocks[next][i]);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = start_thread(exchange, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    say(1, "exchanged\n");
}
