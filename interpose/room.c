/*
 * room.c: what may be taken where address space is limited (RLIMIT_AS), or what can
 * be written of it (RLIMIT_DATA).
 *
 * Without stacks there is little to ask for, and nobody asks, but that the owner map
 * leaves the program three times as much as it takes. In mode full the kernel
 * is asked what it says of the limit and of what is used of it, which takes nothing.
 * But a sandbox may kill for either question: where something loaded could make one,
 * it is asked by trying, since mapping memory is what every allocator must be allowed.
 * What is tried is taken for a moment, in mode full with three cares: one thread tries at a time,
 * no signal handler runs meanwhile, and an allocation that found no room at the same
 * time is made again.
 */
#include <errno.h>
#include <sys/mman.h>

#include "core.h"

#define AMPLE ((size_t)64 << 20) /* whoever has so much left is far from any limit */
#define UNASKED (AMPLE / 64)     /* what may be taken after that without asking again */
#define SHARE 8u                 /* of what is left, one part is ours */
#define BOOKS_SHARE 4u           /* ... and one part a table of the owner map, without which there are no books */
#define REFUSALS 64u             /* times that are refused without asking, after one that was */
#define MOST_REFUSALS 4096u      /* ... after many in a row */
#define RLIMIT_DATA_ 2
#define RLIMIT_AS_ 9
#define UNLIMITED (~(uint64_t)0)

/* ---- asking by trying ---- */

static bool tries; /* something loaded may make a sandbox; set once */
/* Odd while a thread tries; how many have is half of it. */
static _Atomic uint32_t trials;
static _Atomic uint32_t waiting; /* allocations that want no trial now */

static bool begin_trial(uint64_t *mask)
{
    uint64_t all = ~0ull;
    HL_SYS4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &all, mask, sizeof all);
    uint32_t before = atomic_load_explicit(&trials, memory_order_relaxed);
    /* Sequentially consistent with may_have_been_in_the_way: one of both sees the other. */
    if (!(before & 1) && atomic_compare_exchange_strong_explicit(&trials, &before, before + 1, memory_order_seq_cst,
                                                                 memory_order_relaxed)) {
        if (!atomic_load_explicit(&waiting, memory_order_seq_cst))
            return true;
        atomic_fetch_add_explicit(&trials, 1, memory_order_release);
    }
    HL_SYS4(SYS_rt_sigprocmask, 2, mask, NULL, sizeof *mask);
    return false;
}

static void end_trial(const uint64_t *mask)
{
    atomic_fetch_add_explicit(&trials, 1, memory_order_release); /* pairs with the acquire of whoever waits */
    HL_SYS4(SYS_rt_sigprocmask, 2, mask, NULL, sizeof *mask);
}

static bool data_was_limited; /* at start-up */

/*
 * Without access, so that mlockall(MCL_FUTURE) fills nothing; but where data are limited
 * only what can be written counts.
 */
static bool can_be_mapped(size_t bytes)
{
    int access = data_was_limited ? PROT_READ | PROT_WRITE : PROT_NONE;
    long memory = HL_SYS6(SYS_mmap, 0, bytes, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    bool mapped = !hl_sys_failed(memory);
    if (mapped)
        HL_SYS2(SYS_munmap, memory, bytes);
    return mapped;
}

/* The same with these cares. Whoever finds another thread at it has `otherwise` for an answer. */
static bool can_be_taken(size_t bytes, bool otherwise)
{
    uint64_t mask;
    if (!begin_trial(&mask))
        return otherwise;
    bool taken = can_be_mapped(bytes);
    end_trial(&mask);
    return taken;
}

/* ---- asking the kernel ---- */

/* What /proc/self/statm says of a process, in this order, in pages. */
enum { STATM_ALL = 0, STATM_DATA = 5, STATM_FIELDS = 6 };

/* Adds to what is there. */
static bool read_statm(uint64_t pages[STATM_FIELDS])
{
    char text[128];
    long bytes = hl_read_file("/proc/self/statm", text, sizeof text);
    int field = 0;
    for (long i = 0; i < bytes && field < STATM_FIELDS; i++) {
        if (text[i] >= '0' && text[i] <= '9')
            pages[field] = pages[field] * 10 + (uint64_t)(text[i] - '0');
        else
            field++;
    }
    return field >= STATM_DATA && pages[STATM_ALL] != 0;
}

static uint64_t left_of(uint64_t limit, uint64_t pages)
{
    uint64_t used = pages * HL_PAGE_BYTES;
    return limit == UNLIMITED ? limit : limit > used ? limit - used : 0;
}

/* What stands for both limits, and the less that is left of one. False where it is not said: no /proc, no descriptor free. */
static bool is_told(uint64_t *limit, uint64_t *left)
{
    uint64_t all[2], data[2], pages[STATM_FIELDS] = {0};
    if (HL_SYS4(SYS_prlimit64, 0, RLIMIT_AS_, NULL, all) != 0 || HL_SYS4(SYS_prlimit64, 0, RLIMIT_DATA_, NULL, data) != 0)
        return false;
    *limit = all[0] == data[0] ? all[0] : all[0] ^ data[0] << 1;
    *left = UNLIMITED;
    if (all[0] == UNLIMITED && data[0] == UNLIMITED)
        return true;
    bool said = read_statm(pages);
    uint64_t left_of_all = left_of(all[0], pages[STATM_ALL]), left_of_data = left_of(data[0], pages[STATM_DATA]);
    *left = left_of_all < left_of_data ? left_of_all : left_of_data;
    return said;
}

/* ---- what is taken ---- */

/*
 * The limit has been near once, and is taken for near from then on, since what is
 * given back for a moment will be wanted again. From then on what is taken is counted.
 */
static _Atomic bool near;
static _Atomic uint64_t taken;
/* The least that was ever left, together with what had been taken by then. */
static _Atomic uint64_t together;
static _Atomic uint64_t limit_known; /* a new one begins anew */

static void come_near(void)
{
    atomic_store_explicit(&taken, 0, memory_order_relaxed);
    atomic_store_explicit(&together, UNLIMITED, memory_order_relaxed);
    atomic_store_explicit(&near, true, memory_order_relaxed);
}

static uint64_t least_together(uint64_t left)
{
    uint64_t now = left + atomic_load_explicit(&taken, memory_order_relaxed);
    uint64_t least = atomic_load_explicit(&together, memory_order_relaxed);
    while (now < least && !atomic_compare_exchange_weak_explicit(&together, &least, now, memory_order_relaxed,
                                                                 memory_order_relaxed))
        ;
    return now < least ? now : least;
}

/* While the limit is far. */
static bool is_far(size_t bytes, bool told, uint64_t limit, uint64_t left)
{
    if (told && atomic_exchange_explicit(&limit_known, limit, memory_order_relaxed) != limit)
        atomic_store_explicit(&near, false, memory_order_relaxed);
    if (atomic_load_explicit(&near, memory_order_relaxed))
        return false;
    if (told ? left >= AMPLE + bytes : can_be_taken(AMPLE + bytes, true))
        return true;
    come_near();
    return false;
}

static bool is_left(size_t bytes, bool amply)
{
    uint64_t limit = 0, left = 0;
    bool told = !tries && is_told(&limit, &left);
    if (is_far(bytes, told, limit, left))
        return true;
    if (amply)
        return false;
    uint64_t ours = atomic_load_explicit(&taken, memory_order_relaxed) + bytes;
    bool fits = told ? ours <= least_together(left) / SHARE && bytes <= left
                     : can_be_taken(bytes + (SHARE - 1) * ours, false);
    if (fits)
        atomic_fetch_add_explicit(&taken, bytes, memory_order_relaxed);
    return fits;
}

static bool takes_from(_Atomic size_t *stock, size_t bytes)
{
    size_t there = atomic_load_explicit(stock, memory_order_relaxed);
    while (there >= bytes)
        if (atomic_compare_exchange_weak_explicit(stock, &there, there - bytes, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    return false;
}

static bool was_ample_at_start;

bool hl_is_ample(size_t bytes)
{
    if (hl.full_wanted)
        return is_left(bytes, true);
    /* A limit may have been set since. */
    return was_ample_at_start && can_be_mapped(SHARE * bytes);
}

bool hl_leaves_most(size_t bytes)
{
    static _Atomic size_t refusals;
    if (takes_from(&refusals, 1))
        return false;
    bool leaves;
    if (!hl.full_wanted) {
        /* Without the cares: a sandbox that lets an allocator map memory may forbid to block signals. */
        leaves = can_be_mapped(BOOKS_SHARE * bytes);
    } else if (tries) {
        leaves = can_be_taken(BOOKS_SHARE * bytes, true);
    } else {
        uint64_t limit, left;
        leaves = !is_told(&limit, &left) || left >= BOOKS_SHARE * bytes;
    }
    if (!leaves)
        atomic_store_explicit(&refusals, REFUSALS, memory_order_relaxed);
    return leaves;
}

bool hl_may_take(size_t bytes)
{
    if (!hl.full_wanted)
        return true;
    static _Atomic size_t unasked, refusals, refused_bytes, in_a_row = REFUSALS;
    if (takes_from(&unasked, bytes))
        return true;
    if (bytes >= atomic_load_explicit(&refused_bytes, memory_order_relaxed) && takes_from(&refusals, 1))
        return false;
    if (is_left(bytes, false)) {
        size_t more = atomic_load_explicit(&near, memory_order_relaxed) ? 0 : UNASKED;
        atomic_store_explicit(&unasked, more, memory_order_relaxed);
        atomic_store_explicit(&in_a_row, REFUSALS, memory_order_relaxed);
        return true;
    }
    atomic_store_explicit(&refused_bytes, bytes, memory_order_relaxed);
    size_t next = atomic_load_explicit(&in_a_row, memory_order_relaxed);
    atomic_store_explicit(&refusals, next, memory_order_relaxed);
    atomic_store_explicit(&in_a_row, next < MOST_REFUSALS ? 2 * next : next, memory_order_relaxed);
    return false;
}

/* ---- allocations that a trial was in the way of ---- */

#define PATIENCE 1000u /* times that another thread is let go first; a trial is two system calls */

static hl_next real;

static uint32_t trials_now(void)
{
    return atomic_load_explicit(&trials, memory_order_seq_cst);
}

/* Of a call that found no room, begun when there had been so many. Waits for the one that is under way. */
static bool was_in_the_way(uint32_t before)
{
    uint32_t now = trials_now();
    if (now == before && !(now & 1))
        return false;
    for (uint32_t i = 0; (trials_now() & 1) && i < PATIENCE; i++)
        HL_SYS1(SYS_sched_yield, 0);
    return true;
}

/* What a call gives, once more if `failed` says so of it and a trial was in its way. */
#define ONCE_MORE(type, call, failed)                                       \
    uint32_t before = trials_now();                                         \
    int error = errno;                                                      \
    type got = call;                                                        \
    if (HL_LIKELY(!(failed)))                                               \
        return got;                                                         \
    atomic_fetch_add_explicit(&waiting, 1, memory_order_seq_cst);           \
    if (was_in_the_way(before)) {                                           \
        int failure = errno;                                                \
        errno = error;                                                      \
        got = call;                                                         \
        if (failed)                                                         \
            errno = failure;                                                \
    }                                                                       \
    atomic_fetch_sub_explicit(&waiting, 1, memory_order_seq_cst);           \
    return got;

static void *malloc_again(size_t bytes)
{
    ONCE_MORE(void *, real.malloc(bytes), !got)
}

static void *calloc_again(size_t count, size_t bytes)
{
    ONCE_MORE(void *, real.calloc(count, bytes), !got)
}

static void *realloc_again(void *block, size_t bytes)
{
    if (!bytes)
        return real.realloc(block, bytes); /* a free */
    ONCE_MORE(void *, real.realloc(block, bytes), !got)
}

static int posix_memalign_again(void **block, size_t alignment, size_t bytes)
{
    ONCE_MORE(int, real.posix_memalign(block, alignment, bytes), got == ENOMEM)
}

#define AGAIN(name)                                           \
    static void *name##_again(size_t alignment, size_t bytes) \
    {                                                         \
        ONCE_MORE(void *, real.name(alignment, bytes), !got)  \
    }
AGAIN(aligned_alloc)
AGAIN(memalign)
#undef AGAIN

#define AGAIN(name)                               \
    static void *name##_again(size_t bytes)       \
    {                                             \
        ONCE_MORE(void *, real.name(bytes), !got) \
    }
AGAIN(valloc)
AGAIN(pvalloc)
#undef AGAIN

void hl_room_forked(void)
{
    atomic_store_explicit(&trials, 0, memory_order_relaxed); /* whoever was at it is the parent's */
    atomic_store_explicit(&waiting, 0, memory_order_relaxed);
}

void hl_room_begin(hl_next *next)
{
    uint64_t limit, left, data[2];
    was_ample_at_start = is_told(&limit, &left) && left >= AMPLE;
    data_was_limited = HL_SYS4(SYS_prlimit64, 0, RLIMIT_DATA_, NULL, data) == 0 && data[0] != UNLIMITED;
    tries = hl.full_wanted && hl_is_asked_for("prctl");
    if (!tries)
        return;
    real = *next;
#define STAND_BEFORE(name)  \
    if (next->name)         \
        next->name = name##_again;
    STAND_BEFORE(malloc)
    STAND_BEFORE(calloc)
    STAND_BEFORE(realloc)
    STAND_BEFORE(posix_memalign)
    STAND_BEFORE(aligned_alloc)
    STAND_BEFORE(memalign)
    STAND_BEFORE(valloc)
    STAND_BEFORE(pvalloc)
#undef STAND_BEFORE
}
