/*
 * How long blocks live: some no longer than it takes to free them, some through
 * a wait, some for good, some from one thread to another. Realloc begins a new
 * life. A child takes blocks of its parent's, and their age, with it.
 *
 * expect: outcome=exit:0
 * expect: site=brief allocated_blocks=1000 live_blocks=0
 * expect: site=patient allocated_blocks=50 live_blocks=0
 * expect: site=kept allocated_blocks=20 live_blocks=20
 * expect: site=handed allocated_blocks=10 live_blocks=0
 */
#include "program.h"

#include <poll.h>
#include <sys/wait.h>

#define WAIT_MS 30

SITE void *brief(void)
{
    return opaque(malloc(100));
}

SITE void *patient(void)
{
    return opaque(malloc(200));
}

SITE void *kept(void)
{
    return opaque(malloc(300));
}

SITE void *handed(void)
{
    return opaque(malloc(400));
}

static void *hand(void *blocks)
{
    for (int i = 0; i < 10; i++)
        ((void **)blocks)[i] = handed();
    return NULL;
}

SITE void *grown(void *block)
{
    return opaque(realloc(block, 5000));
}

int main(int argc, char **argv)
{
    int forks = argc == 2 && strcmp(argv[1], "fork") == 0;
    void *waiting[50];
    for (int i = 0; i < 1000; i++)
        free(brief());
    for (int i = 0; i < 50; i++)
        waiting[i] = patient();
    for (int i = 0; i < 20; i++)
        kept();
    void *from_thread[10];
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, hand, from_thread) == 0);
    REQUIRE(pthread_join(thread, NULL) == 0);
    if (argc == 2 && strcmp(argv[1], "kill") == 0)
        raise(SIGKILL);
    poll(NULL, 0, WAIT_MS);
    if (forks) {
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (!child) {
            for (int i = 0; i < 50; i++)
                free(waiting[i]);
            _exit(0);
        }
        int status;
        REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    }
    /* Old when it moves, and new afterwards. */
    free(grown(waiting[0]));
    for (int i = 1; i < 50; i++)
        free(waiting[i]);
    for (int i = 0; i < 10; i++)
        free(from_thread[i]);
    return 0;
}
