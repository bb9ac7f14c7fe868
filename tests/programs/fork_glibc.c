/*
 * Item 16. Five forks in a row, each child of the one before it, over glibc's
 * malloc while eight threads churn: every generation inherits and goes on.
 *
 * expect: outcome=exit:0 processes=6
 * expect: site=main_alloc allocated_blocks=500 freed_blocks=0 live_blocks=500 live_bytes=500*u(50)
 * expect: in=generation_1 not=generation_2 site=main_alloc allocated_blocks=500 freed_blocks=10 live_blocks=490 live_bytes=490*u(50)
 * expect: in=generation_1 not=generation_2 outcome=exit:1
 * expect: in=generation_5 site=main_alloc allocated_blocks=460 freed_blocks=10 live_blocks=450 live_bytes=450*u(50)
 * expect: in=generation_5 site=generation_1 allocated_blocks=20 live_blocks=20 live_bytes=20*u(24)
 * expect: in=generation_5 site=generation_5 allocated_blocks=20 live_blocks=20 live_bytes=20*u(24)
 * expect: in=generation_5 outcome=exit:5
 * expect: losses.foreign_frees=0
 */
#include "program.h"

static void *blocks[500];
static atomic_int stop, churning;

SITE void main_alloc(void)
{
    for (int i = 0; i < 500; i++)
        blocks[i] = malloc(50);
}

#define GENERATION(number)                  \
    SITE void generation_##number(void)     \
    {                                       \
        for (int i = 0; i < 20; i++)        \
            opaque(malloc(24));             \
    }
GENERATION(1)
GENERATION(2)
GENERATION(3)
GENERATION(4)
GENERATION(5)
static void (*const generations[])(void) = { generation_1, generation_2, generation_3, generation_4, generation_5 };

SITE void *churn_alloc(size_t size)
{
    return opaque(malloc(size));
}

static void *churn(void *seed)
{
    uint64_t random = (uintptr_t)seed;
    atomic_fetch_add(&churning, 1);
    while (!atomic_load(&stop))
        free(churn_alloc(1 + next_random(&random) % 4000));
    return NULL;
}

int main(void)
{
    main_alloc();
    pthread_t threads[8];
    for (uintptr_t i = 0; i < 8; i++)
        threads[i] = start_thread(churn, (void *)(i + 17));
    while (atomic_load(&churning) < 8)
        sched_yield();
    int generation = 0;
    pid_t pid;
    while (generation < 5 && (pid = fork()) == 0) {
        for (int i = 0; i < 10; i++)
            free(blocks[generation * 10 + i]);
        generations[generation]();
        generation++;
    }
    if (generation < 5) {
        int status = 0;
        REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid);
        REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == generation + 1);
    }
    if (generation > 0)
        _exit(generation);
    atomic_store(&stop, 1);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    say(1, "five generations\n");
}
