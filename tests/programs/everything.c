/*
 * All at once, over the signal-safe allocator: eight threads free each other's
 * blocks, a signal handler allocates, a fork in the middle, 400 short threads,
 * and _exit while threads still run.
 *
 * expect: outcome=exit:0 processes=2
 * expect: site=main_alloc allocated_blocks=1000 freed_blocks=0 live_blocks=1000 live_bytes=1000*128
 * expect: site=worker_alloc allocated_blocks=80000
 * expect: site=handler_alloc allocated_blocks=6000
 * expect: site=short_alloc allocated_blocks=2000 freed_blocks=1200 live_blocks=800 live_bytes=800*64
 * expect: losses.foreign_frees=0
 *
 * expect: in=child_alloc outcome=exit:7
 * expect: in=child_alloc site=main_alloc allocated_blocks=1000 freed_blocks=200 live_blocks=800 live_bytes=800*128
 * expect: in=child_alloc site=child_alloc allocated_blocks=500 freed_blocks=0 live_blocks=500 live_bytes=500*64
 * expect: in=child_alloc site=short_alloc allocated_blocks=0
 * expect: in=child_alloc losses.foreign_frees=0
 */
#include "program.h"

enum { WORKERS = 8, ROUNDS = 10000, HANDLED = 6000 };
static struct tally worked, handled;
static _Atomic(void *) mailboxes[WORKERS];
static atomic_int half_way, finished, handler_calls;
static void *main_blocks[1000];

SITE void main_alloc(void)
{
    for (int i = 0; i < 1000; i++)
        main_blocks[i] = malloc(128);
}

SITE void child_alloc(void)
{
    for (int i = 0; i < 500; i++)
        opaque(malloc(50));
}

SITE void *worker_alloc(size_t size)
{
    return opaque(malloc(size));
}

SITE void *handler_alloc(size_t size)
{
    return opaque(malloc(size));
}

SITE void *short_alloc(void)
{
    return opaque(malloc(50));
}

static void handler(int signal)
{
    (void)signal;
    int saved = errno;
    for (int i = 0; i < 3; i++) {
        int call = atomic_fetch_add(&handler_calls, 1);
        if (call >= HANDLED)
            break;
        void *block = handler_alloc(1 + (size_t)call % 500);
        tally_alloc(&handled, block, 1 + (size_t)call % 500);
        if (call % 3 != 0) {
            tally_free(&handled, block);
            free(block);
        }
    }
    errno = saved;
}

static void *worker(void *number)
{
    uint64_t random = (uintptr_t)number + 99;
    for (int i = 0; i < ROUNDS; i++) {
        size_t size = 1 + next_random(&random) % 2000;
        void *block = worker_alloc(size);
        tally_alloc(&worked, block, size);
        block = atomic_exchange(&mailboxes[((uintptr_t)number + 1) % WORKERS], block);
        tally_free(&worked, block);
        free(block);
        if (i == ROUNDS / 2)
            atomic_fetch_add(&half_way, 1);
    }
    atomic_fetch_add(&finished, 1);
    while (pause() == -1)
        ;
    return NULL;
}

static void *short_thread(void *unused)
{
    void *blocks[5];
    for (int i = 0; i < 5; i++)
        blocks[i] = short_alloc();
    for (int i = 0; i < 3; i++)
        free(blocks[i]);
    return unused;
}

int main(void)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
    struct itimerval often = { .it_interval = { .tv_usec = 40 }, .it_value = { .tv_usec = 40 } }, never = { 0 };
    sigaction(SIGALRM, &action, NULL);
    main_alloc();
    for (uintptr_t i = 0; i < WORKERS; i++)
        start_thread(worker, (void *)i);
    setitimer(ITIMER_REAL, &often, NULL);
    while (atomic_load(&half_way) == 0)
        sched_yield();
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 200; i++)
            free(main_blocks[i]);
        child_alloc();
        _exit(7);
    }
    for (int batch = 0; batch < 50; batch++) {
        pthread_t threads[8];
        for (int i = 0; i < 8; i++)
            threads[i] = start_thread(short_thread, NULL);
        for (int i = 0; i < 8; i++)
            pthread_join(threads[i], NULL);
    }
    while (atomic_load(&finished) < WORKERS || atomic_load(&handler_calls) < HANDLED)
        sched_yield();
    setitimer(ITIMER_REAL, &never, NULL);
    int status = 0;
    REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    expect_tally("site=worker_alloc", &worked);
    expect_tally("site=handler_alloc", &handled);
    say(1, "everything\n");
    _exit(0);
}
