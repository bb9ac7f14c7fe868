/*
 * Four threads pass blocks of all sizes to each other. Some are handed out past the
 * hooks, some given back past them, and all neighbours change while a block is looked
 * at: no call is a mistake.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=seen_alloc allocated_blocks=160000
 */
#include "program.h"

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

#define THREADS 4
#define STEPS 100000
#define PLACES 4096

static void *_Atomic places[PLACES];

SITE void *seen_alloc(size_t bytes)
{
    void *block = malloc(bytes);
    __asm__ volatile("" ::: "memory"); /* no tail call */
    return block;
}

/* One size in eight is long, one in four is middling. */
static size_t some_size(uint64_t random)
{
    static const size_t most[] = { 200000, 3000, 3000, 180, 180, 180, 180, 180 };
    return 16 + (random >> 8) % most[random % 8];
}

static void *allocate(unsigned step, size_t bytes)
{
    switch (step % 5) {
    case 0:
    case 1:
        return seen_alloc(bytes);
    case 2:
        return __libc_malloc(bytes);
    case 3:
        return __libc_calloc(1, bytes);
    default:
        return __libc_memalign(64, bytes);
    }
}

static void *pass_on(void *seed)
{
    uint64_t random = (uintptr_t)seed;
    for (unsigned step = 0; step < STEPS; step++) {
        size_t bytes = some_size(next_random(&random));
        char *block = opaque(allocate(step, bytes));
        REQUIRE(block != NULL);
        memset(block, (int)(next_random(&random) >> 32) | 1, bytes < 64 ? bytes : 64);
        block = atomic_exchange(&places[next_random(&random) % PLACES], block);
        if (next_random(&random) >> 62)
            free(opaque(block));
        else
            __libc_free(opaque(block));
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = start_thread(pass_on, (void *)(i + (uintptr_t)getpid()));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    say(1, "all passed on\n");
    return 0;
}
