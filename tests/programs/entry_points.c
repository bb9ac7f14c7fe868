/*
 * Item 11. Every function that allocates or frees, and how each fails. Nothing
 * else in this program allocates, so that the whole side adds up.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=call_malloc allocated_blocks=100 allocated_bytes=100*u(100) requested_bytes=100*100 freed_blocks=90 live_blocks=10 live_bytes=10*u(100) reallocs=0
 * expect: site=call_malloc_zero allocated_blocks=5 allocated_bytes=5*u(0) requested_bytes=0 live_blocks=5
 * expect: site=call_calloc allocated_blocks=50 allocated_bytes=50*u(200) requested_bytes=50*200 freed_blocks=0 live_blocks=50 reallocs=0
 * expect: site=call_realloc_null allocated_blocks=20 allocated_bytes=20*u(32) requested_bytes=20*32 freed_blocks=20 live_blocks=0 reallocs=0
 * expect: site=call_realloc_grow allocated_blocks=20 requested_bytes=20*5000 freed_blocks=20 live_blocks=0 reallocs=20
 * expect: site=call_realloc_shrink allocated_blocks=20 requested_bytes=20*16 freed_blocks=20 live_blocks=0 reallocs=20
 * expect: site=call_realloc_zero allocated_blocks=0 freed_blocks=0 reallocs=0
 * expect: site=call_realloc_map allocated_blocks=6 reallocs=4 freed_blocks=4 live_blocks=2
 * expect: site=call_posix_memalign allocated_blocks=30 requested_bytes=30*100 live_blocks=30
 * expect: site=call_aligned_alloc allocated_blocks=30 requested_bytes=30*256 live_blocks=30
 * expect: site=call_memalign allocated_blocks=30 requested_bytes=30*70 live_blocks=30
 * expect: site=call_valloc allocated_blocks=3 requested_bytes=3*1000 live_blocks=3
 * expect: site=call_pvalloc allocated_blocks=3 live_blocks=3
 * expect: site=call_cfree allocated_blocks=10 freed_blocks=10
 * expect: site=call_large allocated_blocks=18 freed_blocks=9 live_blocks=9 reallocs=0
 * expect: site=call_failures allocated_blocks=1 freed_blocks=0 live_blocks=1 live_bytes=u(64) reallocs=0
 * expect: side=rust allocated_blocks=0 live_bytes=0
 * expect: losses.foreign_frees=0
 */
#include "program.h"

static struct tally all, map, posix, aligned, memaligned, valloced, pvalloced, larges;

static void *count(struct tally *site, void *block, size_t requested)
{
    if (site != NULL)
        tally_alloc(site, block, requested);
    tally_alloc(&all, block, requested);
    return opaque(block);
}

static void drop(void *block)
{
    tally_free(&all, block);
    free(block);
}

SITE void call_malloc(void)
{
    for (int i = 0; i < 100; i++) {
        void *block = count(NULL, malloc(100), 100);
        if (i >= 10)
            drop(block);
    }
}

SITE void call_malloc_zero(void)
{
    for (int i = 0; i < 5; i++)
        count(NULL, malloc(any(0)), 0);
}

SITE void call_calloc(void)
{
    for (int i = 0; i < 50; i++) {
        char *block = count(NULL, calloc(any(10), 20), 200);
        for (int byte = 0; byte < 200; byte++)
            REQUIRE(block[byte] == 0);
    }
}

SITE void *call_realloc_null(void)
{
    return realloc(opaque(NULL), 32);
}

SITE void *call_realloc_grow(void *block)
{
    return realloc(block, 5000);
}

SITE void *call_realloc_shrink(void *block)
{
    return realloc(block, 16);
}

SITE void *call_realloc_zero(void *block)
{
    return realloc(block, any(0));
}

static void *resize(void *block, void *(*call)(void *), size_t size)
{
    tally_free(&all, block);
    block = count(NULL, call(block), size);
    atomic_fetch_add(&all.reallocs, 1);
    return block;
}

static void call_realloc(void)
{
    for (int i = 0; i < 20; i++) {
        char *block = count(NULL, call_realloc_null(), 32);
        memset(block, 'a' + i, 32);
        block = resize(block, call_realloc_grow, 5000);
        REQUIRE(block[0] == 'a' + i && block[31] == 'a' + i);
        block = resize(block, call_realloc_shrink, 16);
        REQUIRE(block[0] == 'a' + i && block[15] == 'a' + i);
        tally_free(&all, block);
        errno = 0;
        REQUIRE(call_realloc_zero(block) == NULL && errno == 0);
    }
}

/* Blocks that have a mapping of their own, and grow with mremap. */
SITE void call_realloc_map(void)
{
    for (int i = 0; i < 2; i++) {
        char *block = count(&map, realloc(opaque(NULL), 1 << 20), 1 << 20);
        block[1000] = 'm';
        for (size_t size = 4 << 20; size <= 16 << 20; size *= 4) {
            tally_free(&map, block);
            tally_free(&all, block);
            block = count(&map, realloc(block, size), size);
            atomic_fetch_add(&map.reallocs, 1);
            atomic_fetch_add(&all.reallocs, 1);
            REQUIRE(block[1000] == 'm');
        }
    }
}

SITE void call_posix_memalign(void)
{
    for (int i = 0; i < 30; i++) {
        void *block = NULL;
        REQUIRE(posix_memalign(&block, 4096, 100) == 0 && (uintptr_t)block % 4096 == 0);
        count(&posix, block, 100);
    }
}

SITE void call_aligned_alloc(void)
{
    for (int i = 0; i < 30; i++)
        REQUIRE((uintptr_t)count(&aligned, aligned_alloc(128, 256), 256) % 128 == 0);
}

SITE void call_memalign(void)
{
    for (int i = 0; i < 30; i++)
        REQUIRE((uintptr_t)count(&memaligned, memalign(64, 70), 70) % 64 == 0);
}

SITE void call_valloc(void)
{
    for (int i = 0; i < 3; i++)
        REQUIRE((uintptr_t)count(&valloced, valloc(1000), 1000) % 4096 == 0);
}

SITE void call_pvalloc(void)
{
    for (int i = 0; i < 3; i++) {
        void *block = opaque(pvalloc(1000));
        REQUIRE((uintptr_t)block % 4096 == 0 && malloc_usable_size(block) >= 4096);
        count(&pvalloced, block, 1000);
    }
}

/* From 64 KiB on the hooks go other ways, below and above what glibc maps by itself. */
SITE void call_large(void)
{
    for (size_t size = 100000; size <= 400000; size += 300000) {
        void *each[] = {
            malloc(size),
            calloc(any(2), size / 2),
            realloc(opaque(NULL), size),
            reallocarray(opaque(NULL), 2, size / 2),
            aligned_alloc(128, size),
            memalign(256, size),
            valloc(size),
            pvalloc(size),
            NULL,
            NULL,
        };
        REQUIRE(posix_memalign(&each[8], 4096, size) == 0);
        REQUIRE((uintptr_t)each[4] % 128 == 0 && (uintptr_t)each[5] % 256 == 0 && (uintptr_t)each[8] % 4096 == 0);
        for (size_t byte = 0; byte < size; byte += 4000)
            REQUIRE(((char *)each[1])[byte] == 0);
        for (int i = 0; i < 9; i++)
            count(&larges, each[i], size);
        for (int i = 0; i < 9 && size == 100000; i++) {
            tally_free(&larges, each[i]);
            drop(each[i]);
        }
    }
}

SITE void call_cfree(void (*cfree)(void *))
{
    for (int i = 0; i < 10; i++) {
        void *block = count(NULL, malloc(90), 90);
        tally_free(&all, block);
        cfree(block);
    }
}

/* Each of these fails, says why, and leaves the books alone. */
SITE void call_failures(void)
{
    size_t huge = any(SIZE_MAX / 2 + 100);
    char *block = count(NULL, malloc(64), 64);
    memset(block, 7, 64);
    errno = 0;
    REQUIRE(opaque(malloc(huge)) == NULL && errno == ENOMEM);
    errno = 0;
    REQUIRE(opaque(calloc(huge, 4)) == NULL && errno == ENOMEM);
    errno = 0;
    void *same = opaque(block);
    REQUIRE(opaque(realloc(same, huge)) == NULL && errno == ENOMEM);
    errno = 0;
    REQUIRE(opaque(reallocarray(opaque(block), huge, 8)) == NULL && errno == ENOMEM);
    errno = 0;
    REQUIRE(opaque(aligned_alloc(64, huge)) == NULL && errno == ENOMEM);
    errno = 0;
    REQUIRE(opaque(memalign(64, huge)) == NULL && errno == ENOMEM);
    errno = 0;
    REQUIRE(opaque(valloc(huge)) == NULL && errno == ENOMEM);
    errno = 0;
    REQUIRE(opaque(pvalloc(huge)) == NULL && errno == ENOMEM);
    void *untouched = block;
    errno = 5;
    REQUIRE(posix_memalign(&untouched, 3, 10) == EINVAL && untouched == block && errno == 5);
    REQUIRE(posix_memalign(&untouched, 64, huge) == ENOMEM && untouched == block);
    errno = 5;
    free(opaque(NULL));
    REQUIRE(errno == 5);
    REQUIRE(malloc_usable_size(NULL) == 0);
    for (int i = 0; i < 64; i++)
        REQUIRE(block[i] == 7);
}

int main(void)
{
    void (*cfree)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "cfree");
    call_malloc();
    call_malloc_zero();
    call_calloc();
    call_realloc();
    call_realloc_map();
    call_posix_memalign();
    call_aligned_alloc();
    call_memalign();
    call_valloc();
    call_pvalloc();
    call_large();
    call_cfree(cfree != NULL ? cfree : free);
    call_failures();
    expect_tally("site=call_realloc_map", &map);
    expect_tally("site=call_posix_memalign", &posix);
    expect_tally("site=call_aligned_alloc", &aligned);
    expect_tally("site=call_memalign", &memaligned);
    expect_tally("site=call_valloc", &valloced);
    expect_tally("site=call_pvalloc", &pvalloced);
    expect_tally("site=call_large", &larges);
    expect_tally("library=entry_points", &all);
    say(1, "every entry point\n");
}
