/*
 * Blocks 128 GiB apart share a place in the short way to the owner map: the first
 * one's leaf has it, and the others' are found the long way.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=near_alloc allocated_blocks=1000 live_blocks=500 live_bytes=500*u(64)
 * expect: site=far_alloc allocated_blocks=1000 live_blocks=500 live_bytes=500*u(64)
 * expect: site=filler_alloc allocated_blocks=64 live_blocks=64
 * expect: losses.foreign_frees=0
 */
#include "program.h"

static void *blocks[2][1000];

SITE void near_alloc(void)
{
    for (int i = 0; i < 1000; i++)
        blocks[0][i] = opaque(malloc(64));
}

SITE void far_alloc(void)
{
    for (int i = 0; i < 1000; i++)
        blocks[1][i] = opaque(malloc(64));
}

SITE void filler_alloc(void)
{
    for (int i = 0; i < 64; i++)
        REQUIRE(opaque(malloc((size_t)2 << 30))); /* never touched */
}

int main(void)
{
    mallopt(M_MMAP_MAX, 0); /* so that large blocks lie in the heap, one behind another */
    near_alloc();
    filler_alloc();
    far_alloc();
    REQUIRE((uintptr_t)blocks[1][0] - (uintptr_t)blocks[0][0] >= (uintptr_t)128 << 30);
    for (int i = 0; i < 1000; i += 2) {
        free(blocks[0][i]);
        free(blocks[1][i]);
    }
}
