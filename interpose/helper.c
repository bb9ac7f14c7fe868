/*
 * helper.c: the thread that serves clean-ups. It is there only where pressure
 * was asked for: HEAPLEDGER_PRESSURE names an action, or the program registers
 * a reclaimer or opens a pressure_fd. It is started from a constructor, from
 * these two calls and, where the parent had one, from a pthread_atfork handler
 * of the child; never from inside malloc.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

#include "api.h"

/* Host languages run their finalizers on it. Address space alone, until it is touched. */
#define STACK_BYTES ((size_t)1 << 20)

/* As in heapledger's policy: finalizers free after the collector has returned. */
#define SETTLE_STEP_NS 5000000u
#define SETTLE_FLAT_STEPS 4
#define SETTLE_STEPS 50

static bool wanted; /* this process, or the one it was forked off, has had a helper */
static uint32_t actions;

/* ---- settling ---- */

static int64_t live_bytes(void)
{
    return __atomic_load_n(&hl.header->live[HL_SIDE_C], __ATOMIC_RELAXED) +
           __atomic_load_n(&hl.header->live[HL_SIDE_RUST], __ATOMIC_RELAXED);
}

/* Until what finalizers free has been freed. */
static void settle(void)
{
    static const uint32_t nobody_wakes = 0;
    int64_t before = live_bytes();
    for (int step = 0, flat = 0; step < SETTLE_STEPS && flat < SETTLE_FLAT_STEPS; step++) {
        hl_wait(&nobody_wakes, 0, SETTLE_STEP_NS);
        int64_t now = live_bytes();
        flat = now == before ? flat + 1 : 0;
        before = now;
    }
}

/* What a collector runs may fork too, and the child come back: there this thread is no helper, the ledger another. */
static bool is_helper(uint32_t me)
{
    return __atomic_load_n(&hl_transient_now()->helper, __ATOMIC_RELAXED) == me;
}

/* ---- what it does, told while it does it ---- */

static hl_answers *answers; /* of this process's ledger; NULL: no page was to be had */

static void begin_answers(uint32_t number)
{
    if (!answers)
        return;
    __atomic_store_n(&answers->count, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&answers->request, number, __ATOMIC_RELEASE); /* pairs with the reader's copy: nothing of another request */
}

static hl_cleanup_call *begin_call(const char *name)
{
    uint32_t count = answers ? answers->count : HL_ANSWERS;
    if (count == HL_ANSWERS)
        return NULL;
    hl_cleanup_call *call = &answers->calls[count];
    size_t bytes = hl_length(name);
    bytes = bytes < sizeof call->name ? bytes : sizeof call->name - 1;
    *call = (hl_cleanup_call){0};
    hl_copy_bytes(call->name, name, bytes);
    __atomic_store_n(&answers->count, count + 1, __ATOMIC_RELEASE); /* pairs with the reader's copy: the name is there */
    return call;
}

static void end_call(hl_cleanup_call *call, uint64_t begun_ns, int64_t claimed)
{
    if (!call)
        return;
    uint64_t took_us = (hl_mono_ns() - begun_ns) / 1000;
    call->claimed_bytes = claimed >= 0 ? (uint64_t)claimed : HL_CLAIM_UNKNOWN;
    call->took_us = took_us < UINT32_MAX ? (uint32_t)took_us : UINT32_MAX;
    __atomic_store_n(&call->ending, HL_ENDING_RETURNED, __ATOMIC_RELEASE); /* pairs with the reader's copy: the two above are there */
}

/* It was not there, or not ready. */
static void forget_call(hl_cleanup_call *call)
{
    if (call)
        __atomic_store_n(&answers->count, answers->count - 1, __ATOMIC_RELAXED);
}

static void call_all(uint32_t priority, const struct hl_reclaim_request *request, int64_t *claimed)
{
    uint64_t handles[HL_MAX_RECLAIMERS];
    uint32_t found = hl_do_reclaim_list(priority, handles, HL_MAX_RECLAIMERS);
    for (uint32_t i = 0; i < found; i++) {
        char name[HL_RECLAIMER_NAME_BYTES];
        if (hl_do_reclaim_name(handles[i], name) != 0)
            continue;
        hl_cleanup_call *call = begin_call(name);
        uint64_t begun_ns = hl_mono_ns();
        hl_claim claim;
        if (hl_do_reclaim_call(handles[i], request, &claim) != 0) {
            forget_call(call);
            continue;
        }
        end_call(call, begun_ns, claim.claimed_bytes);
        if (claim.claimed_bytes > 0)
            *claimed = claim.claimed_bytes < INT64_MAX - *claimed ? *claimed + claim.claimed_bytes : INT64_MAX;
    }
}

/* False where this thread is no helper any more; then nothing may be written. */
static bool act(uint32_t me, uint32_t action, const char *name, bool (*work)(void), uint32_t *acted)
{
    if (!(actions & action))
        return true;
    hl_cleanup_call *call = begin_call(name);
    uint64_t begun_ns = hl_mono_ns();
    bool done = work();
    if (!is_helper(me))
        return false;
    if (done) {
        end_call(call, begun_ns, -1); /* what a collection frees no collector knows */
        *acted |= action;
    } else {
        forget_call(call);
    }
    return true;
}

/* ---- a request ---- */

/* What caches and collectors hold; false where this thread is no helper any more. */
static bool reclaim(uint32_t me, const struct hl_reclaim_request *request, int64_t *claimed, uint32_t *acted)
{
    call_all(HL_RECLAIM_CACHE, request, claimed);
    call_all(HL_RECLAIM_HOST, request, claimed);
    return act(me, HL_ACTION_PYTHON, "python", hl_python_collect, acted) &&
           act(me, HL_ACTION_JVM, "jvm", hl_jvm_collect, acted);
}

static void purge(uint32_t me, const struct hl_reclaim_request *request, int64_t *claimed, uint32_t *acted)
{
    call_all(HL_RECLAIM_ALLOCATOR, request, claimed);
    act(me, HL_ACTION_TRIM, "trim", hl_allocator_trim, acted);
}

static bool has_purge(void)
{
    uint64_t purger;
    return actions & HL_ACTION_TRIM || hl_do_reclaim_list(HL_RECLAIM_ALLOCATOR, &purger, 1);
}

static void serve(uint32_t me, uint32_t number)
{
    hl_pressure *words = &hl.header->pressure;
    uint32_t how = __atomic_load_n(&words->request_level, __ATOMIC_RELAXED);
    struct hl_reclaim_request request = {
        .bytes = sizeof request,
        .number = number,
        .level = how & ~(uint32_t)(HL_REQUEST_NO_PURGE | HL_REQUEST_PURGE),
        .target_bytes = __atomic_load_n(&words->request_target_bytes, __ATOMIC_RELAXED),
    };
    uint32_t acted = 0;
    int64_t claimed = 0;
    bool purges_alone = how & HL_REQUEST_PURGE;
    begin_answers(number);
    if (!purges_alone && !reclaim(me, &request, &claimed, &acted))
        return;
    if (!(how & HL_REQUEST_NO_PURGE) && has_purge()) {
        if (!purges_alone)
            settle();
        purge(me, &request, &claimed, &acted);
    }
    __atomic_store_n(&words->claimed_bytes, claimed, __ATOMIC_RELAXED);
    __atomic_store_n(&words->acted, acted, __ATOMIC_RELAXED);
    __atomic_store_n(&words->done, number, __ATOMIC_RELEASE); /* pairs with the driver's load: the two above are there */
    hl_wake(&words->done);
}

/* ---- the thread ---- */

/*
 * A program whose main thread went with pthread_exit ends with its last thread;
 * ours must not be the one that it waits for. So it looks every second, once it
 * has been told that the main thread has gone; before, a program under a seccomp
 * filter would die of a file that is opened for nothing. In a library that may be
 * unloaded there is no telling: there it looks from the start.
 */
#define LOOK_NS 1000000000u
static uint32_t main_is_watched;

/* Read from /proc/self/stat: the state of the main thread, the number of all. */
static bool is_last(void)
{
    char text[512];
    long bytes = hl_read_file("/proc/self/stat", text, sizeof text - 1);
    long at = bytes > 0 ? bytes : 0;
    text[at] = 0;
    while (at > 0 && text[at] != ')')
        at--;
    if (!at || text[at + 1] != ' ' || text[at + 2] != 'Z')
        return false;
    for (int field = 2; field < 20 && text[at]; at++)
        field += text[at] == ' ';
    return text[at] == '2' && text[at + 1] == ' ';
}

/*
 * A driver outside that was killed can take nothing back, and its last level would
 * keep the program's caches small for ever: so it renews a level while that
 * stands, every five seconds, and a clean-up takes ten at most.
 */
#define LEASE_NS 20000000000u

typedef struct {
    uint32_t beat;
    uint64_t since_ns;
} lease;

static bool is_leased(const hl_pressure *words, uint32_t level)
{
    return level && __atomic_load_n(&words->beat, __ATOMIC_RELAXED) && !__atomic_load_n(&words->driver, __ATOMIC_RELAXED);
}

static void give_up_driver(hl_pressure *words, lease *last, uint32_t level)
{
    uint32_t beat = __atomic_load_n(&words->beat, __ATOMIC_RELAXED);
    uint64_t now_ns = hl_mono_ns();
    if (beat != last->beat || !is_leased(words, level)) {
        *last = (lease){beat, now_ns};
        return;
    }
    /* Released as a driver would: who reads the level then finds nothing armed. */
    if (now_ns - last->since_ns >= LEASE_NS) {
        __atomic_store_n(&words->armed_bytes, INT64_MAX, __ATOMIC_RELAXED);
        __atomic_compare_exchange_n(&words->level, &level, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
    }
}

static void *helper(void *unused)
{
    uint32_t me = hl_gettid();
    HL_SYS5(SYS_prctl, PR_SET_NAME, "heapledger", 0, 0, 0);
    __atomic_store_n(&hl_transient_now()->helper, me, __ATOMIC_RELAXED);
    hl_pressure *words = &hl.header->pressure;
    uint32_t done = __atomic_load_n(&words->done, __ATOMIC_RELAXED);
    uint32_t level = __atomic_load_n(&words->level, __ATOMIC_RELAXED);
    uint32_t page = words->answers ? words->answers : hl_pages_take(1);
    answers = page ? hl_page_address(page) : NULL;
    __atomic_store_n(&words->answers, page, __ATOMIC_RELEASE); /* pairs with the driver's load: the page is there */
    __atomic_store_n(&words->actions, actions, __ATOMIC_RELAXED);
    __atomic_store_n(&words->helper, me, __ATOMIC_RELEASE); /* pairs with the driver's load: from here on requests are served */
    lease last = {0};
    while (is_helper(me)) {
        uint32_t bell = __atomic_load_n(&words->bell, __ATOMIC_ACQUIRE);
        uint32_t request = __atomic_load_n(&words->request, __ATOMIC_ACQUIRE);
        uint32_t level_now = __atomic_load_n(&words->level, __ATOMIC_ACQUIRE);
        if (request == done && level_now == level) {
            bool looks = !__atomic_load_n(&main_is_watched, __ATOMIC_RELAXED);
            hl_wait(&words->bell, bell, looks ? LOOK_NS : is_leased(words, level) ? LEASE_NS / 4 : UINT64_MAX);
            if (looks && is_last())
                exit(0); /* as libc does when the last thread ends */
            give_up_driver(words, &last, level);
            continue;
        }
        hl_do_pressure_signal();
        last.beat = 0; /* begun anew */
        level = level_now;
        if (request != done)
            serve(me, request);
        done = request;
    }
    /* In such a child nothing of the program runs. */
    HL_SYS1(SYS_exit_group, 0);
    return unused;
}

/*
 * All signals are the program's, but not those that a fault of this thread
 * raises (the JVM lives on them), nor glibc's own two, for which setuid waits.
 */
#define BIT(signal) (1ull << ((signal) - 1))
#define BLOCKED (~(BIT(4) | BIT(5) | BIT(7) | BIT(8) | BIT(11) | BIT(32) | BIT(33)))

/*
 * Found at run time: before glibc 2.34 these were libpthread's, and a program
 * without it loads us all the same, and has no helper.
 */
#if defined(HL_PRELOAD)
#define PTHREAD(name) __typeof__(&name) find_##name = (__typeof__(&name))hl_symbol(#name)
#else
#define PTHREAD(name) __typeof__(&name) find_##name = &name
#endif

static bool create(void)
{
    PTHREAD(pthread_create);
    PTHREAD(pthread_attr_init);
    PTHREAD(pthread_attr_setdetachstate);
    PTHREAD(pthread_attr_setstacksize);
    if (!find_pthread_create || !find_pthread_attr_init || !find_pthread_attr_setdetachstate ||
        !find_pthread_attr_setstacksize)
        return false;
    pthread_attr_t attributes;
    pthread_t thread;
    find_pthread_attr_init(&attributes);
    find_pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    find_pthread_attr_setstacksize(&attributes, STACK_BYTES);
    uint64_t blocked = BLOCKED, before = 0;
    HL_SYS4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &blocked, &before, sizeof blocked);
    bool created = find_pthread_create(&thread, &attributes, helper, NULL) == 0;
    HL_SYS4(SYS_rt_sigprocmask, 2, &before, NULL, sizeof before);
    return created;
}

/* ---- the main thread's end ---- */

#if defined(HL_PRELOAD)
static pthread_key_t main_key;
static bool has_main_key;

/* A key's destructor: pthread_exit calls it, exit does not. */
static void main_ends(void *unused)
{
    (void)unused;
    __atomic_store_n(&main_is_watched, 0, __ATOMIC_RELAXED);
    if (hl_ready()) /* not in a child without a ledger, which has the key from its parent */
        hl_pressure_ring(); /* pairs with the helper's look at the bell before it waits: it sees the store */
}

/* From any thread; does something on the main one alone. */
static void watch_main(void)
{
    PTHREAD(pthread_key_create);
    PTHREAD(pthread_setspecific);
    if (hl_gettid() != hl_getpid() || !find_pthread_key_create || !find_pthread_setspecific)
        return;
    if (!has_main_key)
        has_main_key = find_pthread_key_create(&main_key, main_ends) == 0;
    bool set = has_main_key && find_pthread_setspecific(main_key, &main_key) == 0;
    __atomic_store_n(&main_is_watched, set, __ATOMIC_RELAXED);
}
#else
static void watch_main(void)
{
}
#endif

static void after_fork(void);

/* An interpreter at its end may end threads that ask for its lock. */
static bool is_gone(uint32_t thread)
{
    return thread != HL_HELPER_STARTS && HL_SYS3(SYS_tgkill, hl_getpid(), thread, 0) == -3 /* ESRCH */;
}

static void start(void)
{
    hl_transient *now = hl_transient_now();
    uint64_t mask = hl_pressure_lock();
    uint32_t there = __atomic_load_n(&now->helper, __ATOMIC_RELAXED); /* it says its number without the lock */
    bool first = !there || is_gone(there), watch = !wanted;
    if (first)
        __atomic_store_n(&now->helper, HL_HELPER_STARTS, __ATOMIC_RELAXED);
    wanted = true;
    hl_pressure_unlock(mask);
    watch_main();
    if (watch)
        pthread_atfork(NULL, NULL, after_fork);
    if (first && !create())
        __atomic_store_n(&now->helper, 0, __ATOMIC_RELAXED);
}

/* The child's page is zeros already, but on kernels before 4.14. No thread but this one is there. */
static void after_fork(void)
{
    hl_transient *now = hl_transient_now();
    *now = (hl_transient){0};
    if (!wanted || !hl_ready())
        return;
    hl_reclaim_inherit();
    start();
}

uint64_t hl_do_reclaim_register(const struct hl_reclaimer *reclaimer, uint32_t helped)
{
    uint64_t handle = hl_reclaim_add(reclaimer);
    if (handle && helped)
        start();
    return handle;
}

int hl_do_pressure_fd(void)
{
    int file = hl_watcher_open();
    if (file >= 0)
        start();
    return file;
}

/* ---- HEAPLEDGER_PRESSURE ---- */

#if defined(HL_PRELOAD)
static bool names(const char *list, const char *name)
{
    size_t bytes = hl_length(name);
    for (const char *at = list; *at; at++) {
        bool begins = at == list || at[-1] == ',';
        if (begins && hl_same_bytes(at, name, bytes) && (!at[bytes] || at[bytes] == ','))
            return true;
    }
    return false;
}

__attribute__((constructor)) static void begin(void)
{
    const char *list = getauxval(AT_SECURE) ? NULL : getenv("HEAPLEDGER_PRESSURE");
    if (!list)
        return;
    actions = (names(list, "trim") ? HL_ACTION_TRIM : 0) | (names(list, "python") ? HL_ACTION_PYTHON : 0) |
              (names(list, "jvm") ? HL_ACTION_JVM : 0);
    if (actions && hl_ready())
        start();
}
#endif
