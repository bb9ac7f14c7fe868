/*
 * Item 1. An IFUNC resolver and a constructor of a library allocate before
 * anybody's constructor but theirs has run, under two preloads.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=ifunc_resolver allocated_blocks=30 live_blocks=10
 * expect: site=resolver_realloc allocated_blocks=10 freed_blocks=0 reallocs=10 live_blocks=10
 * expect: site=library_constructor allocated_blocks=200 freed_blocks=100 live_blocks=100 live_bytes=100*u(100)
 * expect: site=main_alloc allocated_blocks=10 live_blocks=10 live_bytes=10*u(40)
 * expect: losses.foreign_frees=0
 */
#include "program.h"

extern int picked_at_relocation(void);

SITE void main_alloc(void)
{
    for (int i = 0; i < 10; i++)
        opaque(malloc(40));
}

int main(void)
{
    main_alloc();
    say(1, "picked %d\n", picked_at_relocation());
}
