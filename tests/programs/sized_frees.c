/*
 * Item 10. C23's free_sized and free_aligned_sized: whoever finds them has to
 * find functions that free, and whoever does not uses free.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=sized_alloc allocated_blocks=500 freed_blocks=500 live_blocks=0 live_bytes=0 allocated_bytes=500*u(120)
 * expect: site=aligned_sized_alloc allocated_blocks=500 freed_blocks=500 live_blocks=0 live_bytes=0
 * expect: losses.foreign_frees=0
 */
#include "program.h"

typedef void sized(void *, size_t);
typedef void aligned_sized(void *, size_t, size_t);

SITE void *sized_alloc(void)
{
    return opaque(malloc(120));
}

SITE void *aligned_sized_alloc(void)
{
    return opaque(aligned_alloc(64, 128));
}

int main(void)
{
    sized *free_by_size = (sized *)dlsym(RTLD_DEFAULT, "free_sized");
    aligned_sized *free_by_both = (aligned_sized *)dlsym(RTLD_DEFAULT, "free_aligned_sized");
    for (int i = 0; i < 500; i++) {
        void *plain = sized_alloc(), *aligned = aligned_sized_alloc();
        REQUIRE(plain != NULL && (uintptr_t)aligned % 64 == 0);
        if (free_by_size != NULL)
            free_by_size(plain, 120);
        else
            free(plain);
        if (free_by_both != NULL)
            free_by_both(aligned, 64, 128);
        else
            free(aligned);
    }
    if (free_by_size != NULL)
        free_by_size(NULL, 120);
    say(1, "freed\n");
}
