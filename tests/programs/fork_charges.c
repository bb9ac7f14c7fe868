/*
 * What is charged by name stands in no map: every forked child has it, also
 * where threads fork at once, and where a child forks before it books anything.
 *
 * expect: outcome=exit:0 processes=103 losses.foreign_frees=0
 * expect: library=(charged) live_blocks=1 live_bytes=5000
 * expect: in=in_child library=(charged) live_blocks=1 live_bytes=5000
 * expect: in=in_grandchild library=(charged) live_blocks=1 live_bytes=5000
 */
#include "program.h"

#define HEAPLEDGER_WEAK
#include <heapledger.h>

static void wait_for(pid_t child)
{
    int status;
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

SITE void in_child(void)
{
    opaque(malloc(20));
}

SITE void in_grandchild(void)
{
    opaque(malloc(20));
}

static void *fork_often(void *unused)
{
    for (int i = 0; i < 25; i++) {
        pid_t child = fork();
        if (child == 0) {
            opaque(malloc(20));
            _exit(0);
        }
        wait_for(child);
    }
    return unused;
}

int main(void)
{
    HEAPLEDGER_CHARGE("texture", 5000);
    pid_t child = fork();
    if (child == 0) {
        pid_t grandchild = fork();
        if (grandchild == 0) {
            in_grandchild();
            _exit(0);
        }
        wait_for(grandchild);
        in_child();
        _exit(0);
    }
    wait_for(child);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = start_thread(fork_often, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    say(1, "forked\n");
}
