/* Hooks that only pass on: the least that any interposer costs. */
#include <stddef.h>

#include <dlfcn.h>

static void *(*next_malloc)(size_t);
static void (*next_free)(void *);

__attribute__((constructor)) static void find(void)
{
    next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
}

extern void *__libc_malloc(size_t);
extern void __libc_free(void *);

void *malloc(size_t bytes)
{
    return __builtin_expect(next_malloc != NULL, 1) ? next_malloc(bytes) : __libc_malloc(bytes);
}

void free(void *block)
{
    if (__builtin_expect(next_free != NULL, 1))
        next_free(block);
    else
        __libc_free(block);
}
