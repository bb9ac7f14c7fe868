/*
 * Allocations of many sizes at a few call sites, some freed, some by another
 * thread, some moved: what is sampled of them is held to the exact books.
 *
 *     sampled            ends with what it holds
 *     sampled fork       the same, then a child that frees a part
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SITE __attribute__((noinline, noclone, no_icf))
#define AFTER() __asm__ volatile("" ::: "memory") /* no tail call */

#define SMALL 60000
#define MIXED 8000
#define LARGE 600
#define MOVED 1500
#define CROSSED 8000

static void *small[SMALL], *mixed[MIXED], *large[LARGE], *moved[MOVED], *crossed[CROSSED];
static uint32_t state = 12345;

static uint32_t some(uint32_t most)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % most + 1;
}

static SITE void *small_site(size_t bytes)
{
    void *block = malloc(bytes);
    AFTER();
    return block;
}

static SITE void *mixed_site(size_t bytes)
{
    void *block = calloc(1, bytes);
    AFTER();
    return block;
}

static SITE void *large_site(size_t bytes)
{
    void *block = malloc(bytes);
    AFTER();
    return block;
}

static SITE void *moved_site(void *block, size_t bytes)
{
    block = realloc(block, bytes);
    AFTER();
    return block;
}

static SITE void *crossed_site(size_t bytes)
{
    void *block = malloc(bytes);
    AFTER();
    return block;
}

static void *in_a_thread(void *unused)
{
    for (int i = 0; i < CROSSED; i++)
        crossed[i] = crossed_site(some(500));
    for (int i = 0; i < SMALL; i += 4) {
        free(small[i]);
        small[i] = NULL;
    }
    return unused;
}

static void allocate(void)
{
    for (int i = 0; i < SMALL; i++)
        small[i] = small_site(40 + (unsigned)i % 3 * 8);
    for (int i = 0; i < MIXED; i++)
        mixed[i] = mixed_site(some(3000));
    for (int i = 0; i < LARGE; i++)
        large[i] = large_site(some(40000));
    for (int i = 0; i < MOVED; i++)
        moved[i] = moved_site(NULL, some(200));
    for (int i = 0; i < MOVED; i++)
        moved[i] = moved_site(moved[i], 1000 + some(3000));
    pthread_t thread;
    pthread_create(&thread, NULL, in_a_thread, NULL);
    pthread_join(thread, NULL);
}

static void release(void **blocks, int count, int step)
{
    for (int i = 0; i < count; i += step) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
}

int main(int argc, char **argv)
{
    allocate();
    release(mixed, MIXED, 3);
    release(large, LARGE, 2);
    release(crossed, CROSSED, 2);
    if (argc > 1 && strcmp(argv[1], "fork") == 0) {
        pid_t child = fork();
        if (child == 0) {
            release(mixed, MIXED, 1);
            _exit(0);
        }
        int status = 1;
        if (child < 0 || waitpid(child, &status, 0) != child)
            return 99;
        return status;
    }
    return 0;
}
