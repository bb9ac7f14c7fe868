/*
 * Memory that is handed out past the hooks, at addresses whose last free was seen,
 * and given back by free: right, whatever the ledger knows of it.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=seen_alloc allocated_blocks=8 freed_blocks=8 live_bytes=0
 * expect: site=block_around allocated_blocks=1 live_blocks=1
 * expect: losses.foreign_frees=9
 */
#include "program.h"

extern void *__libc_malloc(size_t);
extern void *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

SITE void *seen_alloc(size_t bytes)
{
    void *block = opaque(malloc(any(bytes)));
    __asm__ volatile("" ::: "memory"); /* no tail call */
    return block;
}

SITE char *block_around(void)
{
    char *block = opaque(malloc(any(3000)));
    return opaque(block);
}

/* Of every kind: cached by thread, in fast bins, in others, of a mapping, and joined to what is left at the end. */
static const size_t sizes[] = { 24, 100, 168, 1000, 2000, 60000, 300000, 500000 };

int main(void)
{
    mallopt(M_MMAP_THRESHOLD, 128 << 10); /* for good: it grows with what is freed otherwise */
    int same = 0;
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *seen = seen_alloc(sizes[i]);
        if (i % 2 == 0)
            opaque(__libc_malloc(16)); /* keeps it from what is left */
        uintptr_t was = (uintptr_t)seen;
        free(seen);
        char *past = __libc_malloc(sizes[i]);
        REQUIRE(past != NULL);
        same += (uintptr_t)past == was;
        memset(past, 0, sizes[i] / 2);
        if (i == 3)
            past = __libc_realloc(past, sizes[i] + 8); /* stays where it is */
        free(opaque(past));
    }
    char *around = block_around();
    const uintptr_t from = (uintptr_t)around;
    opaque(__libc_malloc(16)); /* keeps it from what is left */
    __libc_free(opaque(around));
    char *inside = NULL;
    for (int tries = 0; tries < 1000 && (uintptr_t)inside - from - 1 >= 3000; tries++)
        inside = __libc_malloc(1200);
    REQUIRE((uintptr_t)inside - from - 1 < 3000);
    memset(inside, 1, 1200);
    free(opaque(inside));
    REQUIRE(same >= 6); /* which ones depends on how the allocator is tuned */
    say(1, "all given back\n");
}
