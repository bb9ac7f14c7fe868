/*
 * Under HEAPLEDGER_PRESSURE, set by the test: the helper is there before main,
 * again in a forked child and in its child, does what there is (no Python, no
 * JVM: the purge alone), is called heapledger, waits without a timeout, and a
 * program whose main thread leaves with pthread_exit ends with its own last thread.
 *
 * expect: outcome=exit:0 processes=4 losses.foreign_frees=0
 * expect: in=work site=work allocated_blocks=1 live_blocks=1 requested_bytes=1000
 */
#include "pressure.h"

#include <sched.h>
#include <sys/syscall.h>

SITE void *work(void)
{
    return opaque(malloc(1000));
}

/* With nothing to do it waits without end: it wakes nobody, and opens no file that a sandbox forbids. */
static void waits_without_end(uint32_t thread)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%u/syscall", thread);
    unsigned long number = 0, word, operation = 1, seen, timeout = 0;
    while (number != SYS_futex || operation != 0 /* FUTEX_WAIT */) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t bytes = file >= 0 ? read(file, text, sizeof text - 1) : -1;
        close(file);
        if (bytes <= 0)
            return; /* this kernel does not tell */
        text[bytes] = 0;
        if (sscanf(text, "%lu %lx %lx %lx %lx", &number, &word, &operation, &seen, &timeout) != 5)
            sched_yield(); /* running */
    }
    REQUIRE(timeout == 0);
}

static void serves(void)
{
    hl_header *header = own_ledger();
    if (!header)
        return;
    hl_pressure *words = &header->pressure;
    wait_done(words, ask(words, HL_LEVEL_MODERATE, 0));
    REQUIRE(words->actions == (HL_ACTION_TRIM | HL_ACTION_PYTHON | HL_ACTION_JVM));
    REQUIRE(words->acted == HL_ACTION_TRIM && words->claimed_bytes == 0);
    char path[64], name[16] = "";
    snprintf(path, sizeof path, "/proc/self/task/%u/comm", words->helper);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(file >= 0 && read(file, name, sizeof name) > 0 && strcmp(name, "heapledger\n") == 0);
    close(file);
    waits_without_end(words->helper);
}

static void wait_for(pid_t child)
{
    int status;
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void *last(void *main_thread)
{
    pthread_join(*(pthread_t *)main_thread, NULL);
    say(1, "served\n");
#if defined(RACES_H) /* the sanitizer has a thread too, and so there ours is never the last */
    exit(0);
#endif
    return NULL;
}

static void fork_and_leave(void)
{
    pid_t child = fork();
    if (child == 0)
        pthread_exit(NULL);
    wait_for(child);
}

/* With an argument the child that leaves is all there is: it may have no ledger. */
int main(int count, char **arguments)
{
    (void)arguments;
    static pthread_t me;
    if (count > 1) {
        fork_and_leave();
        say(1, "left\n");
        return 0;
    }
    serves();
    pid_t child = fork();
    if (child == 0) {
        serves();
        pid_t grandchild = fork();
        if (grandchild == 0) {
            serves();
            _exit(0);
        }
        wait_for(grandchild);
        _exit(0);
    }
    wait_for(child);
    fork_and_leave();
    work();
    me = pthread_self();
    start_thread(last, &me);
    pthread_exit(NULL);
}
