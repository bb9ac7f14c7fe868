/*
 * In a forked child a thread that began there allocates before the thread that forked:
 * the child's ledger begins on another thread, and the one that forked goes on in its
 * scope, with its charges, and not in a slot of its parent's. A child of that child is
 * forked before the thread has booked anything in either.
 *
 * expect: outcome=exit:0 processes=3 losses.foreign_frees=0 losses.children_untracked=0
 * expect: scope=outer allocated_blocks=10 live_blocks=10 live_bytes=10*u(24)
 * expect: library=(charged) live_blocks=1 live_bytes=5000
 * expect: in=in_child outcome=exit:0 losses.foreign_frees=0
 * expect: in=in_child site=before_all allocated_blocks=200 freed_blocks=100 live_blocks=100
 * expect: in=in_child site=in_child allocated_blocks=100 freed_blocks=50 live_blocks=50 live_bytes=50*u(100)
 * expect: in=in_child scope=outer allocated_blocks=10+100 freed_blocks=10+50 live_blocks=50
 * expect: in=in_child library=(charged) live_blocks=1 live_bytes=5000
 * expect: in=in_grandchild outcome=exit:0 losses.foreign_frees=0
 * expect: in=in_grandchild site=before_all allocated_blocks=100+200 freed_blocks=100 live_blocks=200
 * expect: in=in_grandchild scope=outer allocated_blocks=10+100 freed_blocks=10+50 live_blocks=50
 * expect: in=in_grandchild library=(charged) live_blocks=1 live_bytes=5000
 */
#include "program.h"

#define HEAPLEDGER_WEAK
#include <heapledger.h>

static void *blocks[10];

SITE void in_parent(void)
{
    for (int i = 0; i < 10; i++)
        blocks[i] = opaque(malloc(24));
}

SITE void *before_all(void *unused)
{
    for (int i = 0; i < 200; i++) {
        void *block = opaque(malloc(50));
        if (i % 2)
            free(block);
    }
    return unused;
}

#define ON_THE_THREAD_THAT_FORKED(name)          \
    SITE void name(void)                         \
    {                                            \
        for (int i = 0; i < 10; i++)             \
            free(blocks[i]);                     \
        for (int i = 0; i < 100; i++) {          \
            void *block = opaque(malloc(100));   \
            if (i % 2)                           \
                free(block);                     \
        }                                        \
    }
ON_THE_THREAD_THAT_FORKED(in_child)
ON_THE_THREAD_THAT_FORKED(in_grandchild)

static void *nothing(void *unused)
{
    return unused;
}

/* On a stack that is there already: to begin the thread takes no memory. */
static void a_thread_comes_first(void)
{
    pthread_join(start_thread(before_all, NULL), NULL);
}

static void wait_for(pid_t child)
{
    int status;
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    HEAPLEDGER_CHARGE("texture", 5000);
    pthread_join(start_thread(nothing, NULL), NULL);
    HEAPLEDGER_SCOPE_PUSH("outer");
    in_parent();
    pid_t child = fork();
    if (child == 0) {
        a_thread_comes_first();
        pid_t grandchild = fork();
        if (grandchild == 0) {
            a_thread_comes_first();
            in_grandchild();
            _exit(0);
        }
        wait_for(grandchild);
        in_child();
        _exit(0);
    }
    wait_for(child);
    say(1, "three generations\n");
}
