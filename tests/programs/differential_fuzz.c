/*
 * Item 12. 200,000 random calls. What comes back (NULLs, errno, contents,
 * alignment) goes into a digest that must be the same without and with us.
 *
 * expect: outcome=exit:0 processes=1
 * expect: losses.foreign_frees=0
 */
#include "program.h"

enum { CALLS = 200000, WINDOW = 512 };

static struct { unsigned char *bytes; size_t size, usable; unsigned char fill; } window[WINDOW];
static struct tally all;
static uint64_t digest = 14695981039346656037u;

static void note(uint64_t value)
{
    digest = (digest ^ value) * 1099511628211u;
}

static void forget(int at)
{
    if (window[at].bytes == NULL)
        return;
    REQUIRE(malloc_usable_size(window[at].bytes) == window[at].usable);
    atomic_fetch_add(&all.freed_blocks, 1);
    atomic_fetch_add(&all.freed_bytes, window[at].usable);
}

static void learn(int at, void *block, size_t size)
{
    window[at].bytes = block;
    window[at].size = size;
    window[at].usable = malloc_usable_size(block);
    window[at].fill = (unsigned char)(size * 31 + (size_t)at);
    tally_alloc(&all, block, size);
    memset(block, window[at].fill, size < 4096 ? size : 4096);
}

static void verify(int at, size_t most)
{
    size_t size = window[at].size < most ? window[at].size : most;
    for (size_t i = 0; i < size && i < 4096; i++)
        REQUIRE(window[at].bytes[i] == window[at].fill);
    note(size != 0 ? window[at].bytes[0] : 0);
}

int main(void)
{
    uint64_t random = 20240607;
    for (int call = 0; call < CALLS; call++) {
        int at = (int)(next_random(&random) % WINDOW);
        uint64_t kind = next_random(&random) % 16;
        size_t size = next_random(&random) % (kind == 3 && call % 50 == 0 ? 400000 : 1500);
        size_t alignment = (size_t)8 << next_random(&random) % 10;
        if (kind != 5 && kind != 6 && kind != 7) {
            verify(at, SIZE_MAX);
            forget(at);
            errno = 77;
            free(window[at].bytes);
            note((uint64_t)errno);
            window[at].bytes = NULL;
            window[at].size = 0;
        }
        void *block = NULL;
        errno = 0;
        switch (kind) {
        case 5: /* grow or shrink */
        case 6: {
            verify(at, SIZE_MAX);
            struct tally before = all;
            unsigned char *old = window[at].bytes;
            forget(at);
            block = realloc(old, size);
            note(block == NULL);
            note((uint64_t)errno);
            if (block == NULL) { /* size 0 of a live block */
                REQUIRE(size == 0 && old != NULL);
                window[at].bytes = NULL;
                window[at].size = 0;
                continue;
            }
            all.reallocs += old != NULL;
            (void)before;
            window[at].bytes = block;
            verify(at, size);
            learn(at, block, size);
            continue;
        }
        case 7: /* cannot be had */
            switch (size % 4) {
            case 0: block = malloc(any(SIZE_MAX - size)); break;
            case 1: block = calloc(any(SIZE_MAX / 2), 3 + size); break;
            case 2: block = window[at].bytes ? realloc(window[at].bytes, any(SIZE_MAX - size)) : NULL; break;
            case 3: note((uint64_t)posix_memalign(&block, any(size | 1), 10)); break;
            }
            note(block == NULL);
            note((uint64_t)errno);
            REQUIRE(block == NULL);
            verify(at, SIZE_MAX);
            continue;
        case 8: note((uint64_t)posix_memalign(&block, alignment, size)); break;
        case 9: block = aligned_alloc(alignment, size); break;
        case 10: block = memalign(alignment, size); break;
        case 11: alignment = 4096, block = valloc(size % 300); size %= 300; break;
        case 12: alignment = 16, block = calloc(1 + size % 7, size / 7), size = (1 + size % 7) * (size / 7); break;
        case 13: alignment = 3, block = aligned_alloc(any(3), size), alignment = 16; break;
        default: alignment = 16, block = malloc(size); break;
        }
        note((uint64_t)errno);
        note(block == NULL);
        note((uintptr_t)block % (alignment > 16 ? alignment : 16));
        if (block == NULL)
            continue;
        if (kind == 12)
            for (size_t i = 0; i < size; i++)
                REQUIRE(((char *)block)[i] == 0);
        REQUIRE(malloc_usable_size(block) >= size);
        learn(at, block, size);
    }
    expect_tally("side=c", &all);
    say(1, "%016lx\n", digest);
}
