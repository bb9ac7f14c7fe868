/*
 * Item 29. A child without our environment and a static one cannot be tracked:
 * they run, and the recording names them.
 *
 * expect: outcome=exit:0 processes=3
 * expect: site=main_alloc allocated_blocks=10 live_blocks=10
 * expect: exe=stripped_child tracked=false
 * expect: exe=static_child tracked=false untracked_reason~static
 */
#include "program.h"

#include <spawn.h>

SITE void main_alloc(void)
{
    for (int i = 0; i < 10; i++)
        opaque(malloc(24));
}

static void run(char *program, char **environment)
{
    pid_t pid;
    int status = 0;
    char *arguments[] = { program, NULL };
    REQUIRE(posix_spawn(&pid, program, NULL, NULL, arguments, environment) == 0);
    REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
}

int main(int argc, char **argv)
{
    extern char **environ;
    char *nothing[] = { NULL };
    REQUIRE(argc == 3);
    main_alloc();
    run(argv[1], nothing);
    run(argv[2], environ);
    say(1, "two children\n");
}
