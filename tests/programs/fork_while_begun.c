/*
 * Forked children that fork while another thread of theirs allocates for the first
 * time, which begins their ledger: each grandchild has a ledger too, and its parent's
 * blocks in it. The parent holds so many blocks that to begin a child's takes a while.
 *
 * expect: outcome=exit:0 processes=1+2*100 losses.foreign_frees=0 losses.children_untracked=0
 * expect: site=held allocated_blocks=30000 live_blocks=30000
 */
#include "program.h"

#define HEAPLEDGER_WEAK
#include <heapledger.h>

#ifdef FEW /* for the sanitizer, over which each fork takes long */
#define CHILDREN 6
#define BLOCKS 2000
#else
#define CHILDREN 100
#define BLOCKS 30000
#endif

static atomic_bool go;

SITE void held(void)
{
    for (int i = 0; i < BLOCKS; i++)
        REQUIRE(opaque(malloc(40)));
}

static void *nothing(void *unused)
{
    return unused;
}

static void *allocates_first(void *unused)
{
    while (!atomic_load(&go))
        ;
    free(opaque(malloc(100)));
    return unused;
}

static void wait_for(pid_t child)
{
    int status;
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void in_grandchild(void)
{
    free(opaque(malloc(1000)));
    struct hl_books books = {.bytes = sizeof books};
    REQUIRE(!hl_snapshot || (hl_snapshot(&books) == 0 && books.c.live_blocks >= BLOCKS));
    _exit(0);
}

static void in_child(int number)
{
    pthread_t thread = start_thread(allocates_first, NULL);
    atomic_store(&go, 1);
    for (volatile int i = 0; i < 200 * number; i++)
        ;
    pid_t grandchild = fork();
    if (grandchild == 0)
        in_grandchild();
    wait_for(grandchild);
    pthread_join(thread, NULL);
    _exit(0);
}

int main(void)
{
    held();
    /* On its stack the children's threads begin, which then takes no memory. */
    pthread_join(start_thread(nothing, NULL), NULL);
    for (int number = 0; number < CHILDREN; number++) {
        pid_t child = fork();
        if (child == 0)
            in_child(number);
        wait_for(child);
    }
    say(1, "all had their books\n");
}
