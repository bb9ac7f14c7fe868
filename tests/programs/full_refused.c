/*
 * A realloc that fails keeps its block, where it was and with its stack; it is
 * misuse of nothing, and its free is a free.
 *
 * expect: outcome=exit:0 processes=1 losses.foreign_frees=0
 * expect: site=refused_kept allocated_blocks=1000 freed_blocks=900 live_blocks=100 live_bytes=100*u(200)
 */
#include "program.h"

SITE static void *refused_kept(void)
{
    return opaque(malloc(200));
}

SITE static void *refused_moved(void *block)
{
    return opaque(realloc(block, any(SIZE_MAX / 4)));
}

int main(void)
{
    static char *blocks[1000];
    for (int i = 0; i < 1000; i++) {
        blocks[i] = refused_kept();
        memset(blocks[i], i, 200);
    }
    for (int i = 0; i < 1000; i++)
        REQUIRE(refused_moved(blocks[i]) == NULL && blocks[i][199] == (char)i);
    for (int i = 100; i < 1000; i++)
        free(blocks[i]);
    say(1, "kept\n");
}
