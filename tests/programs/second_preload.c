/* A second interposer, as sits beside us in many containers: forwards to the next. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

static void *(*next_malloc)(size_t);
static void (*next_free)(void *);

void *malloc(size_t size)
{
    if (next_malloc == NULL)
        next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    void *block = next_malloc(size);
    __asm__ volatile("" : "+r"(block)); /* no tail call: the call site is here */
    return block;
}

void free(void *block)
{
    if (next_free == NULL)
        next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    next_free(block);
    __asm__ volatile("");
}
