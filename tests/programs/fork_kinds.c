/*
 * Item 16. fork, raw clone, vfork and posix_spawn while eight threads churn,
 * over the signal-safe allocator, since a raw clone takes no malloc lock along.
 * A child's ledger begins with what was live; a vfork child writes its parent's.
 *
 * expect: outcome=exit:0 processes=4
 * expect: site=main_alloc allocated_blocks=1000 freed_blocks=0 live_blocks=1000 live_bytes=1000*64
 * expect: site=vforked_alloc allocated_blocks=10 live_blocks=10 live_bytes=10*128
 * expect: site=after_alloc allocated_blocks=77 live_blocks=77 live_bytes=77*128
 * expect: losses.foreign_frees=0 losses.children_untracked=0
 *
 * expect: in=forked_alloc outcome=exit:3
 * expect: in=forked_alloc site=main_alloc allocated_blocks=1000 allocated_bytes=1000*64 freed_blocks=300 live_blocks=700 live_bytes=700*64
 * expect: in=forked_alloc site=forked_alloc allocated_blocks=200 requested_bytes=200*20 freed_blocks=50 live_blocks=150 live_bytes=150*32
 * expect: in=forked_alloc site=vforked_alloc allocated_blocks=0
 * expect: in=forked_alloc losses.foreign_frees=0
 *
 * expect: in=cloned_alloc outcome=exit:4
 * expect: in=cloned_alloc site=main_alloc allocated_blocks=1000 freed_blocks=100 live_blocks=900 live_bytes=900*64
 * expect: in=cloned_alloc site=cloned_alloc allocated_blocks=200 freed_blocks=50 live_blocks=150 live_bytes=150*32
 * expect: in=cloned_alloc losses.foreign_frees=0
 *
 * expect: in=spawned_alloc outcome=exit:5
 * expect: in=spawned_alloc site=main_alloc allocated_blocks=0
 * expect: in=spawned_alloc site=spawned_alloc allocated_blocks=100 live_blocks=100 live_bytes=100*32
 */
#include "program.h"

#include <spawn.h>

extern char **environ;
static void *blocks[1000];
static atomic_int stop, churning;

SITE void main_alloc(void)
{
    for (int i = 0; i < 1000; i++)
        blocks[i] = malloc(50);
}

#define CHILD_ALLOC(name)                      \
    SITE void name(int count)                  \
    {                                          \
        for (int i = 0; i < count; i++) {      \
            void *block = opaque(malloc(20));  \
            if (i < 50 && count == 200)        \
                free(block);                   \
        }                                      \
    }
CHILD_ALLOC(forked_alloc)
CHILD_ALLOC(cloned_alloc)
CHILD_ALLOC(spawned_alloc)

SITE void vforked_alloc(void)
{
    for (int i = 0; i < 10; i++)
        opaque(malloc(100));
}

SITE void after_alloc(void)
{
    for (int i = 0; i < 77; i++)
        opaque(malloc(128));
}

SITE void *churn_alloc(size_t size)
{
    return opaque(malloc(size));
}

static void *churn(void *seed)
{
    uint64_t random = (uintptr_t)seed;
    void *window[16] = { NULL };
    atomic_fetch_add(&churning, 1);
    while (!atomic_load(&stop)) {
        int at = (int)(next_random(&random) % 16);
        free(window[at]);
        window[at] = churn_alloc(1 + next_random(&random) % 4000);
    }
    for (int i = 0; i < 16; i++)
        free(window[i]);
    return NULL;
}

static void child(void (*alloc)(int), int frees, int code)
{
    for (int i = 0; i < frees; i++)
        free(blocks[i]);
    alloc(200);
    _exit(code);
}

static void expect_exit(pid_t pid, int code)
{
    int status = 0;
    REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid);
    REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == code);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        spawned_alloc(100);
        return 5;
    }
    main_alloc();
    pthread_t threads[8];
    for (uintptr_t i = 0; i < 8; i++)
        threads[i] = start_thread(churn, (void *)(i + 17));
    while (atomic_load(&churning) < 8)
        sched_yield();
    pid_t pid = fork();
    if (pid == 0)
        child(forked_alloc, 300, 3);
    expect_exit(pid, 3);
    pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        child(cloned_alloc, 100, 4);
    expect_exit(pid, 4);
    pid = vfork();
    if (pid == 0) {
        vforked_alloc();
        _exit(6);
    }
    expect_exit(pid, 6);
    char *spawned[] = { argv[0], (char *)"spawned", NULL };
    REQUIRE(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, spawned, environ) == 0);
    expect_exit(pid, 5);
    after_alloc();
    atomic_store(&stop, 1);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    say(1, "four children\n");
}
