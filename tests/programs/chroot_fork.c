/*
 * Item 26. After chroot into an empty directory nothing of ours can be opened
 * again: threads and sites are counted as before, and a forked child that can
 * have no ledger is said to have none.
 *
 * expect: outcome=exit:0
 * expect: site=before_alloc allocated_blocks=100 live_blocks=100
 * expect: site=after_alloc allocated_blocks=1000 live_blocks=1000 live_bytes=1000*u(24)
 * expect: site=thread_alloc allocated_blocks=100 live_blocks=100 live_bytes=100*u(24)
 * expect: losses.children_untracked=1 losses.foreign_frees=0
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

int main(int argc, char **argv)
{
    REQUIRE(argc == 2);
    before_alloc();
    REQUIRE(chdir(argv[1]) == 0 && chroot(".") == 0);
    after_alloc();
    pthread_join(start_thread(thread_alloc, NULL), NULL);
    pid_t pid = fork();
    if (pid == 0) {
        free(opaque(malloc(24)));
        _exit(4);
    }
    int status = 0;
    REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 4);
    say(1, "in the cage\n");
}
