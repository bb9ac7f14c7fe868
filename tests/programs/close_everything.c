/*
 * Item 25. All descriptors are closed, and opened again for other things; then
 * come new threads, new sites and a forked child.
 *
 * expect: outcome=exit:0 processes=2
 * expect: site=before_alloc allocated_blocks=1000 live_blocks=1000 live_bytes=1000*u(24)
 * expect: site=after_alloc allocated_blocks=1000 live_blocks=1000 live_bytes=1000*u(24)
 * expect: site=thread_alloc allocated_blocks=800 live_blocks=800 live_bytes=800*u(24)
 * expect: in=child_alloc site=child_alloc allocated_blocks=500 live_blocks=500 live_bytes=500*u(24)
 * expect: in=child_alloc site=before_alloc allocated_blocks=1000 live_blocks=1000
 * expect: losses.foreign_frees=0
 */
#include "program.h"
#include "sites.h"

SITE void before_alloc(void)
{
    for (int i = 0; i < 1000; i++)
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

SITE void child_alloc(void)
{
    for (int i = 0; i < 500; i++)
        opaque(malloc(24));
}

int main(void)
{
    before_alloc();
    say(1, "last words\n");
    for (int file = 0; file < 1024; file++)
        close(file);
    REQUIRE(open("/dev/null", O_RDWR) == 0 && dup(0) == 1 && dup(0) == 2 && dup(0) == 3);
    after_alloc();
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        threads[i] = start_thread(thread_alloc, NULL);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    pid_t pid = fork();
    if (pid == 0) {
        child_alloc();
        _exit(0);
    }
    int status = 1;
    REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
    /* Whatever of ours is still open, it is not one of these. */
    REQUIRE(fcntl(4, F_GETFD) == -1);
    for (int file = 0; file < 4; file++)
        close(file);
    return 0;
}
