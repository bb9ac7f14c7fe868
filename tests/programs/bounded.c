/*
 * Very many blocks by few stacks, or few blocks by very many.
 *
 *     bounded churn N     N blocks from sixteen stacks, five hundred live at once, some moved
 *     bounded paths N     N blocks, each from a stack of its own and freed by the next call
 *
 * expect: outcome=exit:0 processes=1 losses.foreign_frees=0
 */
#include "program.h"

#define AFTER() __asm__ volatile("" ::: "memory") /* no tail call */
#define LIVE 500
#define DEPTH 20 /* branches of a path: a million different ones */

SITE void *allocate(size_t bytes)
{
    void *block = malloc(bytes);
    AFTER();
    return block;
}

SITE void *move(void *block, size_t bytes)
{
    block = realloc(block, bytes);
    AFTER();
    return block;
}

SITE void *deeper(unsigned levels, size_t bytes)
{
    void *block = levels ? deeper(levels - 1, bytes) : allocate(bytes);
    AFTER();
    return block;
}

/* Each bit of the number says where the next call stands. */
SITE void *along(unsigned long number, unsigned levels)
{
    void *block;
    if (levels == 0)
        block = allocate(40);
    else if (number & 1)
        block = along(number >> 1, levels - 1);
    else {
        AFTER();
        block = along(number >> 1, levels - 1);
        AFTER();
    }
    AFTER();
    return block;
}

static void churn(unsigned long blocks)
{
    static void *live[LIVE];
    uint64_t random = 1;
    for (unsigned long i = 0; i < blocks; i++) {
        uint64_t word = next_random(&random);
        void **place = &live[word % LIVE];
        size_t bytes = 16 + word / LIVE % 200;
        if (*place && word >> 60 == 0) {
            REQUIRE(*place = opaque(move(*place, bytes)));
            continue;
        }
        free(*place);
        REQUIRE(*place = opaque(deeper(word >> 40 & 15, bytes)));
    }
    for (int i = 0; i < LIVE; i++)
        free(live[i]);
}

int main(int count, char **words)
{
    REQUIRE(count == 3);
    unsigned long blocks = strtoul(words[2], NULL, 10);
    if (strcmp(words[1], "churn") == 0)
        churn(blocks);
    else
        for (unsigned long i = 0; i < blocks; i++)
            free(opaque(along(i, DEPTH)));
    return 0;
}
