/*
 * Item 15. Ten thousand short threads, at most eight at once: sums exact, and
 * the ledger as large as for eight.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=short_alloc allocated_blocks=50000 freed_blocks=40000 live_blocks=10000 live_bytes=10000*u(72)
 * expect: thread_rows_at_most=20
 * expect: losses.foreign_frees=0 losses.slots_overflowed=0
 */
#include "program.h"

SITE void *short_alloc(void)
{
    return opaque(malloc(72));
}

static void *body(void *unused)
{
    void *blocks[5];
    for (int i = 0; i < 5; i++)
        blocks[i] = short_alloc();
    for (int i = 1; i < 5; i++)
        free(blocks[i]);
    return unused;
}

int main(void)
{
    for (int batch = 0; batch < 1250; batch++) {
        pthread_t threads[8];
        for (int i = 0; i < 8; i++)
            threads[i] = start_thread(body, NULL);
        for (int i = 0; i < 8; i++)
            pthread_join(threads[i], NULL);
    }
    say(1, "10000 threads\n");
}
