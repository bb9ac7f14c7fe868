/*
 * Item 14. Blocks taken straight from libc come to our free and realloc: they
 * are counted as foreign, and change nobody's books.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=main_alloc allocated_blocks=100 freed_blocks=0 live_blocks=100 live_bytes=100*u(50)
 * expect: site=foreign_realloc allocated_blocks=10 live_blocks=10 live_bytes=10*u(700) requested_bytes=7000
 * expect: losses.foreign_frees=1010
 */
#include "program.h"

SITE void main_alloc(void)
{
    for (int i = 0; i < 100; i++)
        opaque(malloc(50));
}

SITE void *foreign_realloc(void *block)
{
    return opaque(realloc(block, 700));
}

int main(void)
{
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    void *(*unseen)(size_t) = (void *(*)(size_t))dlsym(libc, "malloc");
    main_alloc();
    for (int i = 0; i < 1000; i++)
        free(unseen(60));
    for (int i = 0; i < 10; i++) {
        char *block = unseen(500);
        memset(block, 'f', 500);
        block = foreign_realloc(block);
        REQUIRE(block[0] == 'f' && block[499] == 'f');
    }
    say(1, "freed\n");
}
