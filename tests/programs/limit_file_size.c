/*
 * Item 24. RLIMIT_FSIZE is nought: whoever makes a file grow is killed by
 * SIGXFSZ. New threads, new sites and a forked child make the ledger grow.
 *
 * expect: outcome=exit:0
 * expect: site=before_alloc allocated_blocks=10 live_blocks=10 live_bytes=10*u(24)
 * expect: site=after_alloc allocated_blocks=1000 live_blocks=1000 live_bytes=1000*u(24)
 * expect: site=thread_alloc allocated_blocks=800 live_blocks=800 live_bytes=800*u(24)
 */
#include "program.h"
#include "sites.h"

SITE void before_alloc(void)
{
    for (int i = 0; i < 10; i++)
        opaque(malloc(24));
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

int main(void)
{
    struct rlimit none = { 0, 0 };
    before_alloc();
    REQUIRE(setrlimit(RLIMIT_FSIZE, &none) == 0);
    after_alloc();
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        threads[i] = start_thread(thread_alloc, NULL);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    pid_t pid = fork();
    if (pid == 0) {
        thread_alloc(NULL);
        _exit(6);
    }
    int status = 0;
    REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 6);
    say(1, "no file grew\n");
}
