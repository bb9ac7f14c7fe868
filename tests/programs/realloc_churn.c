/*
 * Item 13. Eight threads grow, shrink and hand over blocks, so that an address
 * that one of them gives up is at once another's.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=churn_realloc allocated_blocks=160000
 * expect: losses.foreign_frees=0
 */
#include "program.h"

enum { THREADS = 8, ROUNDS = 20000, SHARED = 64 };
static _Atomic(void *) shared[SHARED];
static struct tally churned;

SITE void *churn_realloc(void *block, size_t size)
{
    return opaque(realloc(block, size));
}

static void *churn(void *seed)
{
    uint64_t random = (uintptr_t)seed;
    for (int i = 0; i < ROUNDS; i++) {
        _Atomic(void *) *at = &shared[next_random(&random) % SHARED];
        size_t size = 1 + next_random(&random) % (i % 64 == 0 ? 200000 : 3000);
        void *block = atomic_exchange(at, NULL);
        if (block == NULL && i % 2 == 0)
            sched_yield();
        tally_free(&churned, block);
        if (block != NULL)
            atomic_fetch_add(&churned.reallocs, 1);
        block = churn_realloc(block, size);
        tally_alloc(&churned, block, size);
        block = atomic_exchange(at, block);
        if (block != NULL) {
            tally_free(&churned, block);
            free(block);
        }
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = start_thread(churn, (void *)(i * 104729 + 3));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    expect_tally("site=churn_realloc", &churned);
    say(1, "%lu reallocs\n", churned.allocated_blocks);
}
