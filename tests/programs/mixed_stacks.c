/* The C part of mixed_stacks.rs. */
#include "program.h"

static inline __attribute__((always_inline)) void *take_one(size_t size)
{
    void *block = opaque(malloc(size)); /* here: take_one */
    REQUIRE(block != NULL);
    return block;
}

SITE void *take(size_t size)
{
    void *block = take_one(size); /* here: take */
    return opaque(block);
}
