/*
 * Frees one block twice, of as many bytes as it is told, as the second word says:
 * with the block before it free, or that after it, both, or none; or it is the last
 * of the heap. What the allocator makes of that is its affair.
 *
 *     misuse_chunks BYTES before|after|both|end|-
 *
 * expect: processes=1
 */
#include "program.h"

int main(int count, char **words)
{
    REQUIRE(count == 3);
    size_t bytes = strtoul(words[1], NULL, 10);
    int both = strcmp(words[2], "both") == 0;
    void *before = opaque(malloc(2500));
    void *block = memset(opaque(malloc(any(bytes))), 1, bytes);
    void *after = strcmp(words[2], "end") ? opaque(malloc(2500)) : NULL;
    if (after)
        opaque(malloc(16)); /* keeps it from what is left */
    if (both || strcmp(words[2], "before") == 0)
        free(before);
    if (both || strcmp(words[2], "after") == 0)
        free(after);
    free(opaque(block));
    free(opaque(block));
    return 0;
}
