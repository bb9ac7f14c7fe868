/* A C library for combinations.rs: each call keeps one block of 500 bytes (504 usable on glibc). */
#include <stdlib.h>

void *take(void);
void *take(void)
{
    void *volatile block = malloc(500);
    return block;
}
