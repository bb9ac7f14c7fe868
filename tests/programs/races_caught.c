/*
 * Hands a block from one thread to another without any order, as no program may:
 * the sanitizer has to see it in the core's own books, or it sees nothing there.
 */
#include "program.h"

#include <stdbool.h>

static void *_Atomic handed;

static void *take(void *unused)
{
    void *block;
    while (!(block = atomic_load_explicit(&handed, memory_order_relaxed)))
        sched_yield();
    free(block);
    return unused;
}

static void hand_over(void)
{
    pthread_t taker = start_thread(take, NULL);
    atomic_store_explicit(&handed, opaque(malloc(100)), memory_order_relaxed);
    pthread_join(taker, NULL);
}

static atomic_bool over;

static void *stay(void *unused)
{
    while (!atomic_load(&over))
        sched_yield();
    return unused;
}

static void *churn(void *unused)
{
    while (!atomic_load(&over))
        free(opaque(malloc(40)));
    return unused;
}

/*
 * With "forked" it is the child of a process with several threads that does so, with
 * "cloned" one that libc knows nothing of, and with "busy" one whose parent's other
 * threads are in the core.
 */
int main(int count, char **arguments)
{
    if (count == 1) {
        hand_over();
    } else {
        bool forks = strcmp(arguments[1], "cloned") != 0, is_busy = strcmp(arguments[1], "busy") == 0;
        pthread_t other = start_thread(is_busy ? churn : stay, NULL);
        pid_t child = forks ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (child == 0) {
            hand_over();
            _exit(0);
        }
        int status;
        REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
        atomic_store(&over, true);
        pthread_join(other, NULL);
        if (status)
            _exit(WEXITSTATUS(status));
    }
    say(1, "not seen\n");
    return 0;
}
