/*
 * Heaps longer than a strip of the owner map, and two of them: the program's own, of
 * more than 256 MiB, and a thread's arena, which is in two pieces. Each thread frees
 * what the other allocated, changes between both with many small blocks, and a forked
 * child frees what it inherited.
 *
 * expect: outcome=exit:0 processes=2
 * expect: site=heap_alloc allocated_blocks=6000 freed_blocks=4000 live_blocks=2000 live_bytes=2000*u(60000)
 * expect: site=arena_alloc allocated_blocks=2000 freed_blocks=1000 live_blocks=1000 live_bytes=1000*u(60000)
 * expect: site=small_alloc allocated_blocks=80000 freed_blocks=80000 live_blocks=0 live_bytes=0
 * expect: in=child_alloc site=heap_alloc allocated_blocks=2000 freed_blocks=1500 live_blocks=500 live_bytes=500*u(60000)
 * expect: in=child_alloc site=arena_alloc allocated_blocks=1000 freed_blocks=900 live_blocks=100 live_bytes=100*u(60000)
 * expect: in=child_alloc outcome=exit:7
 * expect: losses.foreign_frees=0
 */
#include "program.h"

#define HEAP 6000
#define ARENA 2000
#define SMALL 20000
static void *heap[HEAP], *arena[ARENA], *small[2][SMALL];

SITE void heap_alloc(void)
{
    for (int i = 0; i < HEAP; i++)
        heap[i] = opaque(malloc(60000));
}

SITE void arena_alloc(void)
{
    for (int i = 0; i < ARENA; i++)
        arena[i] = opaque(malloc(60000));
}

SITE void small_alloc(void **blocks)
{
    for (int i = 0; i < SMALL; i++)
        blocks[i] = opaque(malloc(200));
}

static void free_range(void **blocks, int from, int to)
{
    for (int i = from; i < to; i++)
        free(blocks[i]);
}

static void *in_the_arena(void *unused)
{
    (void)unused;
    arena_alloc();
    small_alloc(small[1]);
    free_range(heap, 0, 2000);
    free_range(arena, 0, 500);
    return NULL;
}

static void *freeing(void *unused)
{
    (void)unused;
    free_range(small[0], 0, SMALL);
    free_range(small[1], 0, SMALL);
    return NULL;
}

static void *in_the_arena_again(void *unused)
{
    small_alloc(small[1]);
    return unused;
}

SITE void child_alloc(void)
{
    opaque(malloc(24));
}

int main(void)
{
    mallopt(M_TRIM_THRESHOLD, 1 << 30); /* or the heap gives its end back meanwhile */
    heap_alloc();
    REQUIRE((uintptr_t)heap[HEAP - 1] - (uintptr_t)heap[0] > (uintptr_t)256 << 20);
    pthread_join(start_thread(in_the_arena, NULL), NULL);
    small_alloc(small[0]);
    free_range(arena, 500, 1000);
    free_range(heap, 2000, 4000);
    freeing(NULL);
    small_alloc(small[0]);
    pthread_join(start_thread(in_the_arena_again, NULL), NULL);
    pthread_join(start_thread(freeing, NULL), NULL);
    pid_t pid = fork();
    if (pid == 0) {
        free_range(heap, 4000, 5500);
        free_range(arena, 1000, 1900);
        child_alloc();
        _exit(7);
    }
    int status = 0;
    REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid);
    REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}
