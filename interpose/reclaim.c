/*
 * reclaim.c: the program's reclaimers. A table of fixed size; registering
 * allocates nothing. The lock is held for a few instructions with signals
 * blocked, never over a call of a reclaimer.
 */
#include <sys/mman.h>
#include <time.h>

#include "api.h"

/* entry.state */
enum { FREE = 0, LIVE = 1, LEAVING = 2 /* unregistered while it is called */ };

typedef struct entry {
    uint32_t state;
    uint32_t generation; /* tells handles of one place apart */
    uint32_t priority;
    int64_t (*reclaim)(void *context, const struct hl_reclaim_request *request);
    void *context;
    char name[HL_RECLAIMER_NAME_BYTES];
} entry;

/* How often a wait for a call looks whether the thread that makes it is still there. */
#define LOOK_AGAIN_NS 1000000000u

/* Reached under the lock. A forked child inherits what is registered. */
static entry table[HL_MAX_RECLAIMERS];

/* ---- what is gone after a fork ---- */

static _Alignas(HL_PAGE_BYTES) union {
    hl_transient is;
    char pages[(sizeof(hl_transient) + HL_PAGE_BYTES - 1) / HL_PAGE_BYTES * HL_PAGE_BYTES];
} transient;

/* The kernel is asked at the first use; where it cannot (before Linux 4.14), helper.c's handler wipes. */
hl_transient *hl_transient_now(void)
{
    static uint32_t asked;
    if (!__atomic_load_n(&asked, __ATOMIC_RELAXED) && !__atomic_exchange_n(&asked, 1, __ATOMIC_RELAXED))
        HL_SYS3(SYS_madvise, &transient, sizeof transient, 18 /* MADV_WIPEONFORK */);
    return &transient.is;
}

uint64_t hl_pressure_lock(void)
{
    uint32_t *lock = &hl_transient_now()->lock;
    uint64_t all = ~0ull, before = 0;
    HL_SYS4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &all, &before, sizeof all);
    uint32_t now = 0;
    if (!__atomic_compare_exchange_n(lock, &now, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        while (__atomic_exchange_n(lock, 2, __ATOMIC_ACQUIRE) != 0)
            hl_wait(lock, 2, UINT64_MAX);
    return before;
}

void hl_pressure_unlock(uint64_t mask)
{
    uint32_t *lock = &hl_transient_now()->lock;
    if (__atomic_exchange_n(lock, 0, __ATOMIC_RELEASE) == 2)
        hl_wake(lock);
    HL_SYS4(SYS_rt_sigprocmask, 2, &mask, NULL, sizeof mask);
}

uint64_t hl_mono_ns(void)
{
    return hl_clock_ns(CLOCK_MONOTONIC);
}

/* ---- the table; all under the lock ---- */

static uint64_t handle_of(uint32_t index)
{
    return (uint64_t)table[index].generation << 8 | (index + 1);
}

/* HL_MAX_RECLAIMERS: none such. */
static uint32_t index_of(uint64_t handle)
{
    uint32_t index = (uint32_t)(handle & 255) - 1;
    return index < HL_MAX_RECLAIMERS && table[index].state == LIVE && handle_of(index) == handle ? index
                                                                                                : HL_MAX_RECLAIMERS;
}

/* The caller of an entry, as far as it still lives: one that ended inside its call will not end it. */
static uint32_t caller_of(uint32_t index)
{
    uint32_t *caller = &hl_transient_now()->caller[index];
    if (*caller && HL_SYS3(SYS_tgkill, hl_getpid(), *caller, 0) == -3 /* ESRCH */)
        *caller = 0;
    return *caller;
}

static void count(void)
{
    uint32_t live = 0;
    for (uint32_t index = 0; index < HL_MAX_RECLAIMERS; index++)
        live += table[index].state == LIVE;
    __atomic_store_n(&hl.header->pressure.reclaimers, live, __ATOMIC_RELAXED);
}

/* A place that is free, or whose call a fork or the end of its thread cut off. */
static uint32_t free_place(void)
{
    for (uint32_t index = 0; index < HL_MAX_RECLAIMERS; index++) {
        if (table[index].state == LEAVING && !caller_of(index))
            table[index].state = FREE;
        if (table[index].state == FREE)
            return index;
    }
    return HL_MAX_RECLAIMERS;
}

static void fill(entry *place, const struct hl_reclaimer *from)
{
    const char *name = from->name ? from->name : "";
    size_t bytes = hl_length(name);
    bytes = bytes < sizeof place->name ? bytes : sizeof place->name - 1;
    hl_copy_bytes(place->name, name, bytes);
    place->name[bytes] = 0;
    place->priority = from->priority;
    place->reclaim = from->reclaim;
    place->context = from->context;
    place->generation++;
    /* Last: a fork on another thread may copy the table at any moment. */
    __atomic_store_n(&place->state, LIVE, __ATOMIC_RELEASE);
}

uint64_t hl_reclaim_add(const struct hl_reclaimer *reclaimer)
{
    if (reclaimer->bytes < sizeof *reclaimer || !reclaimer->reclaim || reclaimer->priority > HL_RECLAIM_ALLOCATOR)
        return 0;
    uint64_t mask = hl_pressure_lock();
    uint32_t index = free_place();
    uint64_t handle = 0;
    if (index < HL_MAX_RECLAIMERS) {
        fill(&table[index], reclaimer);
        handle = handle_of(index);
        count();
    }
    hl_pressure_unlock(mask);
    return handle;
}

void hl_reclaim_inherit(void)
{
    uint64_t mask = hl_pressure_lock();
    count();
    hl_pressure_unlock(mask);
}

/* Under the lock: unregistered, and its call is not over yet. */
static bool is_leaving(uint32_t index, uint64_t handle)
{
    if (table[index].state == LEAVING && !caller_of(index))
        table[index].state = FREE; /* the thread that called it has ended */
    return table[index].state == LEAVING && handle_of(index) == handle;
}

void hl_do_reclaim_unregister(uint64_t handle)
{
    hl_transient *now = hl_transient_now();
    uint64_t mask = hl_pressure_lock();
    uint32_t index = index_of(handle);
    if (index == HL_MAX_RECLAIMERS) {
        hl_pressure_unlock(mask);
        return;
    }
    table[index].state = LEAVING;
    count();
    bool mine = caller_of(index) == hl_gettid();
    while (!mine && is_leaving(index, handle)) {
        uint32_t ended = __atomic_load_n(&now->ended, __ATOMIC_RELAXED);
        hl_pressure_unlock(mask);
        hl_wait(&now->ended, ended, LOOK_AGAIN_NS);
        mask = hl_pressure_lock();
    }
    hl_pressure_unlock(mask);
}

uint32_t hl_do_reclaim_list(uint32_t priority, uint64_t *handles, uint32_t room)
{
    uint32_t found = 0;
    uint64_t mask = hl_pressure_lock();
    for (uint32_t index = 0; index < HL_MAX_RECLAIMERS && found < room; index++)
        if (table[index].state == LIVE && table[index].priority == priority)
            handles[found++] = handle_of(index);
    hl_pressure_unlock(mask);
    return found;
}

/* Into HL_RECLAIMER_NAME_BYTES. */
int hl_do_reclaim_name(uint64_t handle, char *name)
{
    uint64_t mask = hl_pressure_lock();
    uint32_t index = index_of(handle);
    if (index < HL_MAX_RECLAIMERS)
        hl_copy_bytes(name, table[index].name, sizeof table[index].name);
    hl_pressure_unlock(mask);
    return index < HL_MAX_RECLAIMERS ? 0 : -1;
}

/* ---- a call ---- */

/* Takes a reclaimer for a call by this thread; false: gone, or called already. */
static bool begin_call(uint64_t handle, entry *copy)
{
    uint64_t mask = hl_pressure_lock();
    uint32_t index = index_of(handle);
    bool taken = index < HL_MAX_RECLAIMERS && !caller_of(index);
    if (taken) {
        *copy = table[index];
        hl_transient_now()->caller[index] = hl_gettid();
    }
    hl_pressure_unlock(mask);
    return taken;
}

static void end_call(uint64_t handle)
{
    hl_transient *now = hl_transient_now();
    uint32_t index = (uint32_t)(handle & 255) - 1;
    uint64_t mask = hl_pressure_lock();
    now->caller[index] = 0;
    if (table[index].state == LEAVING)
        table[index].state = FREE;
    __atomic_fetch_add(&now->ended, 1, __ATOMIC_RELAXED);
    hl_pressure_unlock(mask);
    hl_wake(&now->ended);
}

int hl_do_reclaim_call(uint64_t handle, const struct hl_reclaim_request *request, hl_claim *claim)
{
    entry called;
    if (!begin_call(handle, &called))
        return -1;
    uint64_t begun = hl_mono_ns();
    uint32_t process = hl_getpid();
    int64_t claimed = called.reclaim(called.context, request);
    if (hl_getpid() != process) /* it forked, and this is the child: nothing of the program runs here */
        HL_SYS1(SYS_exit_group, 0);
    claim->took_ns = hl_mono_ns() - begun;
    claim->handle = handle;
    claim->claimed_bytes = claimed;
    claim->priority = called.priority;
    claim->reserved = 0;
    hl_copy_bytes(claim->name, called.name, sizeof claim->name);
    end_call(handle);
    return 0;
}
