/*
 * One workload of malloc and free in slices of about a millisecond, each timed
 * by itself: the shortest slice is what the code costs, whatever else the
 * machine does meanwhile.
 *
 *     workload pair|window|cross THREADS MILLISECONDS
 *
 *   pair    malloc(64), free
 *   window  random replacement among 10,000 blocks of 16 to 1,016 bytes
 *   cross   blocks of 64 bytes, each freed by the other thread (two threads)
 *
 * Prints the shortest and the median slice of all threads, in nanoseconds per
 * malloc and free.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WINDOW 10000
#define BATCH 1000
#define MAX_SLICES 4096

static pthread_barrier_t start;
static double milliseconds;

typedef struct worker {
    pthread_t thread;
    uint64_t random;
    unsigned number;
    unsigned slices;
    double cost[MAX_SLICES];
} worker;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* ---- each returns the nanoseconds of one slice, and counts its operations ---- */

static double pairs(worker *self, unsigned *operations)
{
    (void)self;
    *operations = 40000;
    double begin = now();
    for (unsigned i = 0; i < 40000; i++) {
        void *volatile block = malloc(64);
        free(block);
    }
    return now() - begin;
}

static _Thread_local void *window[WINDOW];

static double replacements(worker *self, unsigned *operations)
{
    *operations = 8000;
    double begin = now();
    for (unsigned i = 0; i < 8000; i++) {
        uint64_t random = next_random(&self->random);
        void **place = &window[(random >> 32) % WINDOW];
        free(*place);
        char *block = malloc(16 + (random & 1023) % 1001);
        *block = 1;
        *place = block;
    }
    return now() - begin;
}

static void *batches[2][BATCH];
static atomic_uint arrived;

/* Both threads pass together; what they wait here is in no slice. */
static void meet(void)
{
    unsigned target = (atomic_fetch_add(&arrived, 1) / 2 + 1) * 2;
    while ((int)(atomic_load(&arrived) - target) < 0)
        sched_yield();
}

static double exchanges(worker *self, unsigned *operations)
{
    double spent = 0;
    *operations = 20 * BATCH;
    for (unsigned round = 0; round < 20; round++) {
        double begin = now();
        for (unsigned i = 0; i < BATCH; i++)
            batches[self->number][i] = malloc(64);
        spent += now() - begin;
        meet();
        begin = now();
        for (unsigned i = 0; i < BATCH; i++)
            free(batches[!self->number][i]);
        spent += now() - begin;
        meet();
    }
    return spent;
}

static double (*slice)(worker *, unsigned *);

static void *work(void *argument)
{
    worker *self = argument;
    for (unsigned i = 0; slice == replacements && i < WINDOW; i++)
        window[i] = malloc(16 + next_random(&self->random) % 1001);
    unsigned operations;
    for (unsigned warm = 0; warm < 3; warm++)
        slice(self, &operations);
    pthread_barrier_wait(&start);
    /* Whoever frees each other's blocks has to stop at the same slice. */
    unsigned slices = slice == exchanges ? (unsigned)milliseconds / 2 : MAX_SLICES;
    double end = now() + milliseconds * 1e6;
    while (self->slices < slices && self->slices < MAX_SLICES && (slice == exchanges || now() < end)) {
        double spent = slice(self, &operations);
        self->cost[self->slices++] = spent / operations;
    }
    return NULL;
}

static int by_cost(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

int main(int count, char **words)
{
    unsigned threads = count > 2 ? (unsigned)atoi(words[2]) : 1;
    if (count != 4 || threads < 1 || threads > 2)
        return 2;
    slice = strcmp(words[1], "pair") == 0 ? pairs : strcmp(words[1], "window") == 0 ? replacements : exchanges;
    milliseconds = atof(words[3]);
    if (slice == exchanges)
        threads = 2;
    static worker workers[2];
    pthread_barrier_init(&start, NULL, threads);
    for (unsigned i = 0; i < threads; i++) {
        workers[i].number = i;
        workers[i].random = 88172645463325252u + i;
        if (i + 1 < threads)
            pthread_create(&workers[i].thread, NULL, work, &workers[i]);
        else
            work(&workers[i]); /* one thread means the main thread: glibc has no locks to take there */
    }
    for (unsigned i = 0; i + 1 < threads; i++)
        pthread_join(workers[i].thread, NULL);
    static double all[2 * MAX_SLICES];
    unsigned slices = 0;
    double shortest = 0;
    for (unsigned i = 0; i < threads; i++) {
        qsort(workers[i].cost, workers[i].slices, sizeof(double), by_cost);
        shortest += workers[i].cost[0] / threads;
        memcpy(all + slices, workers[i].cost, workers[i].slices * sizeof(double));
        slices += workers[i].slices;
    }
    qsort(all, slices, sizeof(double), by_cost);
    printf("%.3f %.3f\n", shortest, all[slices / 2]);
    return 0;
}
