/*
 * More stacks than the table has rows: every path of 19 calls through two functions
 * allocates once, and four threads walk half of the paths each. Nothing is lost of
 * the sums, and what found no row is in the row of those.
 *
 * expect: outcome=exit:0 processes=1 losses.foreign_frees=0
 * expect: site=path_end allocated_blocks=524288 freed_blocks=262144 live_blocks=262144
 */
#include "program.h"

enum { CALLS = 18 };

SITE static void path_end(unsigned path)
{
    void *block = opaque(malloc(24));
    if (path % 2)
        free(block);
}

static void left(unsigned path, int calls);
static void right(unsigned path, int calls);

SITE static void go_on(unsigned path, int calls)
{
    if (!calls)
        path_end(path);
    else if (path >> (calls - 1) & 1)
        right(path, calls - 1);
    else
        left(path, calls - 1);
    __asm__ volatile("" ::: "memory"); /* no tail call */
}

SITE static void left(unsigned path, int calls)
{
    go_on(path, calls);
    __asm__ volatile("" ::: "memory");
}

SITE static void right(unsigned path, int calls)
{
    go_on(path, calls);
    __asm__ volatile("" ::: "memory");
}

static void *walk(void *first)
{
    for (unsigned path = (unsigned)(uintptr_t)first, i = 0; i < 1u << (CALLS - 1); i++)
        go_on((path + i) & ((1u << CALLS) - 1), CALLS);
    return NULL;
}

int main(void)
{
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        threads[i] = start_thread(walk, (void *)(i << (CALLS - 1)));
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    say(1, "walked\n");
}
