/*
 * Item 3. Any allocator underneath: jemalloc, tcmalloc, mimalloc, linked or
 * preloaded. The sizes are the allocator's, so the program states the bytes.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=take allocated_blocks=30000
 * expect: site=take_aligned allocated_blocks=3000
 * expect: losses.foreign_frees=0
 */
#include "program.h"

enum { THREADS = 3, ROUNDS = 10000, WINDOW = 64 };
static struct tally taken, aligned, grown;

SITE void *take(size_t size)
{
    return opaque(malloc(size));
}

SITE void *take_aligned(size_t alignment, size_t size)
{
    void *block = NULL;
    REQUIRE(posix_memalign(&block, alignment, size) == 0 && (uintptr_t)block % alignment == 0);
    return opaque(block);
}

SITE void *grow(void *block, size_t size)
{
    return opaque(realloc(block, size));
}

static void *churn(void *seed)
{
    uint64_t random = (uintptr_t)seed;
    struct { void *block; struct tally *tally; } window[WINDOW] = { { NULL, NULL } };
    for (int i = 0; i < ROUNDS; i++) {
        int at = (int)(next_random(&random) % WINDOW);
        size_t size = next_random(&random) % (i % 100 == 0 ? 300000 : 2000);
        if (window[at].block != NULL) {
            tally_free(window[at].tally, window[at].block);
            free(window[at].block);
        }
        window[at].block = take(size);
        window[at].tally = &taken;
        tally_alloc(&taken, window[at].block, size);
        if (i % 10 == 0) {
            int other = (at + 1) % WINDOW;
            if (window[other].block != NULL) {
                tally_free(window[other].tally, window[other].block);
                free(window[other].block);
            }
            window[other].block = take_aligned(64u << i % 5, size);
            window[other].tally = &aligned;
            tally_alloc(&aligned, window[other].block, size);
        }
        if (i % 7 == 0) {
            tally_free(window[at].tally, window[at].block);
            window[at].block = grow(window[at].block, size + 100);
            window[at].tally = &grown;
            tally_alloc(&grown, window[at].block, size + 100);
            atomic_fetch_add(&grown.reallocs, 1);
        }
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = start_thread(churn, (void *)(i * 7919 + 1));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    expect_tally("site=take", &taken);
    expect_tally("site=take_aligned", &aligned);
    expect_tally("site=grow", &grown);
    say(1, "%lu blocks\n", taken.allocated_blocks);
}
