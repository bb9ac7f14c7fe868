/*
 * One workload of malloc and free in slices of at most a millisecond, each timed
 * by itself: the shortest slice is what the code costs, whatever else the
 * machine does meanwhile.
 *
 *     workload pair|window|cross THREADS MILLISECONDS [CALLS]
 *     workload pair|window|cross THREADS OPERATIONS CALLS operations
 *
 *   pair    malloc(64), free
 *   window  random replacement among 10,000 blocks of 16 to 1,016 bytes
 *   cross   blocks of 64 bytes, each freed by the other thread (two threads)
 *
 * CALLS lie between the thread's beginning and its slices: two in three of them keep
 * no frame pointer.
 *
 * Two threads have a processor each and begin each slice together, and only
 * slices in which both ran from beginning to end count: otherwise what threads
 * cost each other would depend on what else the machine does. For enough of
 * them they go on up to four times as long; where there are none at all, all
 * slices count.
 *
 * Goes on for that long, or for as many operations of the first thread.
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
#include <sys/resource.h>
#include <time.h>

#define WINDOW 10000
#define BATCH 1000
#define EXCHANGES 1
#define SPINS 10000
#define MAX_SLICES 65536
#define ENOUGH 20

static unsigned threads;
static double milliseconds, operations_wanted;
static unsigned operations_of_slice;

typedef struct worker {
    pthread_t thread;
    uint64_t random;
    unsigned number;
    unsigned slices;
    double cost[MAX_SLICES];
    unsigned char undisturbed[MAX_SLICES];
} worker;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* How often this thread had to leave its processor to others. */
static long preemptions(void)
{
    struct rusage used;
    getrusage(RUSAGE_THREAD, &used);
    return used.ru_nivcsw;
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
    unsigned pairs = *operations = threads == 1 ? 40000 : 1000;
    double begin = now();
    for (unsigned i = 0; i < pairs; i++) {
        void *volatile block = malloc(64);
        free(block);
    }
    return now() - begin;
}

static _Thread_local void *window[WINDOW];

static double replacements(worker *self, unsigned *operations)
{
    unsigned replacements = *operations = threads == 1 ? 8000 : 200;
    double begin = now();
    for (unsigned i = 0; i < replacements; i++) {
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

/* Two threads pass together; what they wait here is in no slice. */
static void meet(void)
{
    if (threads == 1)
        return;
    unsigned target = (atomic_fetch_add(&arrived, 1) / 2 + 1) * 2;
    for (unsigned turns = 1; (int)(atomic_load(&arrived) - target) < 0; turns++)
        if (turns % SPINS == 0)
            sched_yield(); /* both may be on one processor */
}

static double exchanges(worker *self, unsigned *operations)
{
    double spent = 0;
    *operations = EXCHANGES * BATCH;
    for (unsigned round = 0; round < EXCHANGES; round++) {
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

/* How many slices there are; the first worker says it before the last one. */
static atomic_uint last = MAX_SLICES;

/* Two threads on one processor would never run together. */
static void go_to_own_processor(unsigned number)
{
    cpu_set_t allowed, own;
    if (threads == 1 || sched_getaffinity(0, sizeof allowed, &allowed) || CPU_COUNT(&allowed) < 2)
        return;
    int processor = -1;
    for (unsigned i = 0; i <= number; i++)
        do
            processor++;
        while (!CPU_ISSET(processor, &allowed));
    CPU_ZERO(&own);
    CPU_SET(processor, &own);
    sched_setaffinity(0, sizeof own, &own);
}

static worker workers[2];

/* Whether no thread was preempted during a slice. */
static int is_undisturbed(unsigned number)
{
    return workers[0].undisturbed[number] && (threads == 1 || workers[1].undisturbed[number]);
}

/* The other thread's last slice may not have ended, so it is not looked at. */
static int is_last(worker *self, double spent)
{
    if (operations_wanted)
        return (self->slices + 4.0) * operations_of_slice >= operations_wanted; /* three are warming up */
    double limit = milliseconds * 1e6;
    if (spent < limit)
        return 0;
    unsigned undisturbed = 0;
    for (unsigned i = 0; i + 1 < self->slices && undisturbed < ENOUGH; i++)
        undisturbed += (unsigned)is_undisturbed(i);
    return threads == 1 || undisturbed == ENOUGH || spent >= 4 * limit;
}

static void work_at_once(worker *self)
{
    go_to_own_processor(self->number);
    for (unsigned i = 0; slice == replacements && i < WINDOW; i++)
        window[i] = malloc(16 + next_random(&self->random) % 1001);
    unsigned operations;
    for (unsigned warm = 0; warm < 3; warm++)
        slice(self, &operations);
    operations_of_slice = operations;
    double begin = now();
    long before = preemptions();
    while (self->slices < atomic_load(&last)) {
        if (self->number == 0 && is_last(self, now() - begin))
            atomic_store(&last, self->slices + 1);
        meet();
        self->cost[self->slices] = slice(self, &operations) / operations;
        long after = preemptions();
        self->undisturbed[self->slices++] = after == before;
        before = after;
    }
}

/* ---- the calls before ---- */

static unsigned calls;
static void go_on(worker *self, unsigned left);

#define CALL(name, bytes)                                                  \
    __attribute__((noinline, noclone)) static void name(worker *self, unsigned left) \
    {                                                                      \
        char locals[bytes];                                                \
        __asm__ volatile("" : : "r"(locals) : "memory");                   \
        go_on(self, left);                                                 \
        __asm__ volatile("" : : "r"(locals) : "memory");                   \
    }
CALL(small, 8)
CALL(middling, 56)
__attribute__((optimize("no-omit-frame-pointer"))) CALL(framed, 200)
#undef CALL

static void go_on(worker *self, unsigned left)
{
    static void (*const all[])(worker *, unsigned) = {small, middling, framed};
    if (left)
        all[left % 3](self, left - 1);
    else
        work_at_once(self);
}

static void *work(void *argument)
{
    go_on(argument, calls);
    return NULL;
}

/* Takes out the slices in which a worker was preempted. */
static void keep_undisturbed(void)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < workers[0].slices; i++)
        if (is_undisturbed(i)) {
            workers[0].cost[kept] = workers[0].cost[i];
            workers[1].cost[kept++] = workers[1].cost[i];
        }
    if (kept)
        workers[0].slices = workers[1].slices = kept;
}

static int by_cost(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

int main(int count, char **words)
{
    threads = count > 2 ? (unsigned)atoi(words[2]) : 1;
    if (count < 4 || threads < 1 || threads > 2)
        return 2;
    slice = strcmp(words[1], "pair") == 0 ? pairs : strcmp(words[1], "window") == 0 ? replacements : exchanges;
    milliseconds = atof(words[3]);
    calls = count > 4 ? (unsigned)atoi(words[4]) : 0;
    operations_wanted = count > 5 ? milliseconds : 0;
    if (slice == exchanges)
        threads = 2;
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
    if (threads == 2)
        keep_undisturbed();
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
