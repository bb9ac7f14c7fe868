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

/* ---- a clean-up ---- */

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

/* What caches and collectors hold. Gives what of the actions was done; false where this thread is no helper any more. */
static bool reclaim(uint32_t me, const struct hl_reclaim_request *request, int64_t *claimed, uint32_t *acted)
{
    hl_reclaim_all(HL_RECLAIM_CACHE, request, claimed);
    hl_reclaim_all(HL_RECLAIM_HOST, request, claimed);
    if (actions & HL_ACTION_PYTHON && hl_python_collect())
        *acted |= HL_ACTION_PYTHON;
    if (!is_helper(me))
        return false;
    if (actions & HL_ACTION_JVM && hl_jvm_collect())
        *acted |= HL_ACTION_JVM;
    return true;
}

static void purge(const struct hl_reclaim_request *request, int64_t *claimed, uint32_t *acted)
{
    hl_reclaim_all(HL_RECLAIM_ALLOCATOR, request, claimed);
    if (actions & HL_ACTION_TRIM && hl_allocator_trim())
        *acted |= HL_ACTION_TRIM;
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
    if (!purges_alone && !reclaim(me, &request, &claimed, &acted))
        return;
    if (!(how & HL_REQUEST_NO_PURGE) && has_purge()) {
        if (!purges_alone)
            settle();
        purge(&request, &claimed, &acted);
    }
    __atomic_store_n(&words->claimed_bytes, claimed, __ATOMIC_RELAXED);
    __atomic_store_n(&words->acted, acted, __ATOMIC_RELAXED);
    __atomic_store_n(&words->done, number, __ATOMIC_RELEASE); /* pairs with the driver's load: the two above are there */
    hl_wake(&words->done);
}

/* ---- the thread ---- */

/* How often it looks whether it is the last. */
#define LOOK_NS 1000000000u

/*
 * A program whose main thread went with pthread_exit ends with its last thread;
 * ours must not be the one that it waits for. Read from /proc/self/stat: the
 * state of the main thread, the number of all.
 */
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

static void *helper(void *unused)
{
    uint32_t me = hl_gettid();
    HL_SYS5(SYS_prctl, PR_SET_NAME, "heapledger", 0, 0, 0);
    __atomic_store_n(&hl_transient_now()->helper, me, __ATOMIC_RELAXED);
    hl_pressure *words = &hl.header->pressure;
    uint32_t done = __atomic_load_n(&words->done, __ATOMIC_RELAXED);
    uint32_t level = __atomic_load_n(&words->level, __ATOMIC_RELAXED);
    __atomic_store_n(&words->actions, actions, __ATOMIC_RELAXED);
    __atomic_store_n(&words->helper, me, __ATOMIC_RELEASE); /* pairs with the driver's load: from here on requests are served */
    while (is_helper(me)) {
        uint32_t bell = __atomic_load_n(&words->bell, __ATOMIC_ACQUIRE);
        uint32_t request = __atomic_load_n(&words->request, __ATOMIC_ACQUIRE);
        uint32_t level_now = __atomic_load_n(&words->level, __ATOMIC_ACQUIRE);
        if (request == done && level_now == level) {
            hl_wait(&words->bell, bell, LOOK_NS);
            if (is_last())
                exit(0); /* as libc does when the last thread ends */
            continue;
        }
        hl_do_pressure_signal();
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
    bool first = !now->helper || is_gone(now->helper), watch = !wanted;
    if (first)
        now->helper = HL_HELPER_STARTS;
    wanted = true;
    hl_pressure_unlock(mask);
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
