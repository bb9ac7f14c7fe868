/*
 * Item 26. A daemon drops root for nobody and goes on: threads, sites and the
 * counts go on too. Its child may not write where root could: tracked or said.
 *
 * expect: outcome=exit:0
 * expect: site=before_alloc allocated_blocks=100 live_blocks=100
 * expect: site=after_alloc allocated_blocks=1000 live_blocks=1000 live_bytes=1000*u(24)
 * expect: site=thread_alloc allocated_blocks=100 live_blocks=100 live_bytes=100*u(24)
 */
#include "program.h"
#include "sites.h"

SITE void before_alloc(void)
{
    HUNDRED_TIMES(opaque(malloc(24));)
}

SITE void after_alloc(void)
{
    THOUSAND_TIMES(opaque(malloc(24));)
}

SITE void *thread_alloc(void *unused)
{
    for (int i = 0; i < 100; i++)
        opaque(malloc(24));
    return unused;
}

SITE void dropped_child_alloc(void)
{
    for (int i = 0; i < 30; i++)
        opaque(malloc(24));
}

int main(void)
{
    before_alloc();
    REQUIRE(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    after_alloc();
    pthread_join(start_thread(thread_alloc, NULL), NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dropped_child_alloc();
        _exit(4);
    }
    int status = 0;
    REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 4);
    say(1, "nobody\n");
}
