/*
 * Blocks at the end of a known chain of calls, without frame pointers: some kept,
 * some freed, some moved. Every block is large enough to be kept apart.
 *
 *     call_chain            ends with what it holds
 *     call_chain kill       is killed then
 *     call_chain fork       forks then; the child frees a part and allocates by a chain of its own
 *     call_chain threads    a second thread does the same as well
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=innermost live_blocks=39 live_bytes=39*u(1000)
 * expect: site=moved live_blocks=1 live_bytes=u(100000)
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

#define AFTER() __asm__ volatile("" ::: "memory") /* no tail call */
#define KEPT 40

static void *kept[2][KEPT];

#define LINK(name, next)                                                                                               \
    SITE void *name(size_t bytes)                                                                                      \
    {                                                                                                                  \
        void *block = next(bytes);                                                                                     \
        AFTER();                                                                                                       \
        return block;                                                                                                  \
    }

LINK(innermost, malloc)
LINK(fifth, innermost)
LINK(fourth, fifth)
LINK(third, fourth)
LINK(second, third)
LINK(first, second)
LINK(in_the_child, fourth)

SITE void *moved(void *block, size_t bytes)
{
    block = realloc(block, bytes);
    AFTER();
    return block;
}

static void *work(void *to)
{
    void **blocks = to;
    for (int i = 0; i < KEPT; i++) {
        blocks[i] = opaque(first(any(1000)));
        free(opaque(third(any(5000))));
    }
    blocks[0] = opaque(moved(blocks[0], any(100000)));
    return NULL;
}

int main(int count, char **words)
{
    const char *word = count > 1 ? words[1] : "";
    work(kept[0]);
    if (strcmp(word, "kill") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(word, "threads") == 0) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, work, kept[1]) == 0);
        REQUIRE(pthread_join(thread, NULL) == 0);
    }
    if (strcmp(word, "fork") == 0) {
        pid_t child = fork();
        if (child == 0) {
            for (int i = 1; i <= 10; i++)
                free(kept[0][i]);
            for (int i = 0; i < 7; i++)
                opaque(in_the_child(any(2000)));
            return 0;
        }
        REQUIRE(child > 0 && waitpid(child, NULL, 0) == child);
    }
    return 0;
}
