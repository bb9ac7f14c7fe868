/*
 * A child is killed by SIGKILL while it waits; its parent goes on.
 *
 * expect: outcome=exit:0 processes=2
 * expect: site=parent_alloc allocated_blocks=200 live_blocks=200 live_bytes=200*u(64)
 * expect: in=child_alloc outcome=signal:SIGKILL
 * expect: in=child_alloc site=child_alloc allocated_blocks=300 live_blocks=300 live_bytes=300*u(64)
 */
#include "program.h"

SITE void parent_alloc(void)
{
    for (int i = 0; i < 200; i++)
        opaque(malloc(64));
}

SITE void child_alloc(void)
{
    for (int i = 0; i < 300; i++)
        opaque(malloc(64));
}

int main(void)
{
    int ready[2];
    char byte;
    REQUIRE(pipe(ready) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        child_alloc();
        REQUIRE(write(ready[1], "r", 1) == 1);
        for (;;)
            pause();
    }
    REQUIRE(read(ready[0], &byte, 1) == 1);
    parent_alloc();
    int status = 0;
    kill(pid, SIGKILL);
    REQUIRE(waitpid(pid, &status, 0) == pid && WTERMSIG(status) == SIGKILL);
    say(1, "child killed\n");
}
