/*
 * Hands a block from one thread to another without any order, as no program may:
 * the sanitizer has to see it in the core's own books, or it sees nothing there.
 */
#include "program.h"

static void *_Atomic handed;

static void *take(void *unused)
{
    void *block;
    while (!(block = atomic_load_explicit(&handed, memory_order_relaxed)))
        sched_yield();
    free(block);
    return unused;
}

int main(void)
{
    pthread_t taker = start_thread(take, NULL);
    atomic_store_explicit(&handed, opaque(malloc(100)), memory_order_relaxed);
    pthread_join(taker, NULL);
    say(1, "not seen\n");
    return 0;
}
