/*
 * standin.c: what heapledger.h declares, as far as the Go package needs it, for
 * tests without a preload. It calls reclaimers as the ledger does: on a thread
 * that is not Go's, with a stack of 1 MiB and all signals blocked.
 */
#include "standin.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROOM 64

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int absent;
    uint32_t level;
    int level_file;
    struct hl_reclaimer table[ROOM];
    uint64_t handles[ROOM];
    uint64_t last_handle;
    uint64_t called; /* the handle whose call is in flight */
    size_t asked_bytes;
} ledger = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .level_file = -1};

void standin_set_absent(int absent)
{
    ledger.absent = absent;
}

int hl_snapshot(struct hl_books *books)
{
    if (ledger.absent || books->bytes < sizeof *books)
        return -1;
    *books = (struct hl_books){.bytes = sizeof *books, .sees_c = 1, .c = {.live_bytes = 7}, .all = {.live_bytes = 7}};
    return 0;
}

uint32_t hl_pressure_level(void)
{
    return __atomic_load_n(&ledger.level, __ATOMIC_SEQ_CST);
}

int hl_pressure_fd(void)
{
    return ledger.level_file = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void standin_set_level(uint32_t level)
{
    uint64_t one = 1;
    __atomic_store_n(&ledger.level, level, __ATOMIC_SEQ_CST);
    if (write(ledger.level_file, &one, sizeof one) < 0)
        _exit(99);
}

int hl_request_cleanup(size_t bytes)
{
    ledger.asked_bytes = bytes;
    return ledger.absent ? -1 : 0;
}

size_t standin_asked_bytes(void)
{
    return ledger.asked_bytes;
}

uint64_t hl_register(const struct hl_reclaimer *reclaimer)
{
    uint64_t handle = 0;
    pthread_mutex_lock(&ledger.lock);
    for (int i = 0; i < ROOM && !handle && !ledger.absent && reclaimer->priority <= HL_RECLAIM_ALLOCATOR; i++)
        if (!ledger.handles[i]) {
            ledger.table[i] = *reclaimer;
            ledger.table[i].name = strdup(reclaimer->name);
            handle = ledger.handles[i] = ++ledger.last_handle;
        }
    pthread_mutex_unlock(&ledger.lock);
    return handle;
}

void hl_unregister(uint64_t handle)
{
    pthread_mutex_lock(&ledger.lock);
    for (int i = 0; i < ROOM; i++)
        if (ledger.handles[i] == handle)
            ledger.handles[i] = 0;
    while (ledger.called == handle)
        pthread_cond_wait(&ledger.changed, &ledger.lock);
    pthread_mutex_unlock(&ledger.lock);
}

int standin_registered(void)
{
    int live = 0;
    pthread_mutex_lock(&ledger.lock);
    for (int i = 0; i < ROOM; i++)
        live += ledger.handles[i] != 0;
    pthread_mutex_unlock(&ledger.lock);
    return live;
}

struct cleanup {
    struct hl_reclaim_request request;
    struct standin_claims *claims;
};

static void call(int index, struct cleanup *cleanup)
{
    pthread_mutex_lock(&ledger.lock);
    struct hl_reclaimer called = ledger.table[index];
    ledger.called = ledger.handles[index];
    pthread_mutex_unlock(&ledger.lock);
    if (!ledger.called)
        return;
    struct standin_claims *claims = cleanup->claims;
    int64_t claimed = called.reclaim(called.context, &cleanup->request);
    claims->names[claims->count] = called.name;
    claims->claimed_bytes[claims->count++] = claimed;
    pthread_mutex_lock(&ledger.lock);
    ledger.called = 0;
    pthread_cond_broadcast(&ledger.changed);
    pthread_mutex_unlock(&ledger.lock);
}

static void *run(void *of)
{
    struct cleanup *cleanup = of;
    for (uint32_t priority = 0; priority <= HL_RECLAIM_ALLOCATOR; priority++)
        for (int i = 0; i < ROOM; i++)
            if (ledger.table[i].priority == priority)
                call(i, cleanup);
    return NULL;
}

void standin_cleanup(uint32_t number, int64_t target_bytes, int64_t within_ns, struct standin_claims *claims)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct cleanup cleanup = {
        .request = {.bytes = sizeof cleanup.request, .number = number, .level = HL_LEVEL_HIGH, .target_bytes = target_bytes},
        .claims = claims,
    };
    if (within_ns)
        cleanup.request.deadline_mono_ns = (uint64_t)(now.tv_sec * 1000000000 + now.tv_nsec + within_ns);
    sigset_t all, before;
    pthread_attr_t small;
    pthread_t thread;
    sigfillset(&all);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 1 << 20);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, &small, run, &cleanup) != 0)
        _exit(99);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&small);
}

int standin_cleanup_in_child(void)
{
    pid_t child = fork();
    if (child == 0) {
        struct standin_claims claims = {.count = 0};
        struct cleanup cleanup = {.request = {.bytes = sizeof cleanup.request, .number = INT_MAX}, .claims = &claims};
        run(&cleanup);
        _exit(claims.count);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
