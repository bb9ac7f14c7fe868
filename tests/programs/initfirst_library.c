/* Library of initfirst.c. */
#include "program.h"

static void *blocks[100];

__attribute__((constructor)) SITE void initfirst_constructor(void)
{
    for (int i = 0; i < 100; i++)
        blocks[i] = malloc(24);
    for (int i = 0; i < 40; i++)
        free(blocks[i]);
}

int initfirst_blocks(void)
{
    return blocks[99] != NULL ? 60 : 0;
}
