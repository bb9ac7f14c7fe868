/*
 * init.c: start-up, on first use rather than in a constructor: dependencies'
 * constructors run before ours and may allocate.
 */
#include <dlfcn.h>
#include <errno.h>
#include <gnu/libc-version.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>

#include "api.h"
#include "book.h"

#if defined(HL_PRELOAD)
/* The oldest versions of what moved in glibc 2.34, so that older systems load us. */
#if defined(__x86_64__)
__asm__(".symver dlsym, dlsym@GLIBC_2.2.5");
__asm__(".symver dladdr, dladdr@GLIBC_2.2.5");
__asm__(".symver dlerror, dlerror@GLIBC_2.2.5");
#else
__asm__(".symver dlsym, dlsym@GLIBC_2.17");
__asm__(".symver dladdr, dladdr@GLIBC_2.17");
__asm__(".symver dlerror, dlerror@GLIBC_2.17");
#endif
#endif

#define AT_FDCWD_ (-100)
#define DEFAULT_MAX_SLOTS 8192u

_Alignas(HL_PAGE_BYTES) hl_wiped hl_wipe;
_Alignas(64) hl_process hl;

/* NULL until the loader has relocated us: IFUNC resolvers may call in before. */
#ifndef HL_STATIC
static void *(*volatile relocated)(void *, const char *) = dlsym;
#else
static const char *volatile relocated = "";
#endif

/* ---- environment ---- */

extern char **environ;

static const char *value_of(const char *entry, const char *name)
{
    size_t bytes = hl_length(name);
    return hl_same_bytes(entry, name, bytes) && entry[bytes] == '=' ? entry + bytes + 1 : NULL;
}

/* A variable's value; from the kernel's copy where libc has not set environ yet. */
static const char *variable(const char *name, char *copy, size_t copied)
{
    if (environ) {
        for (char **entry = environ; *entry; entry++) {
            const char *value = value_of(*entry, name);
            if (value)
                return value;
        }
        return NULL;
    }
    for (size_t at = 0; at < copied; at += hl_length(copy + at) + 1) {
        const char *value = value_of(copy + at, name);
        if (value)
            return value;
    }
    return NULL;
}

static uint32_t number_of(const char *text, uint32_t otherwise)
{
    uint32_t number = 0;
    if (!text || !*text)
        return otherwise;
    for (; *text >= '0' && *text <= '9'; text++)
        number = number * 10 + (uint32_t)(*text - '0');
    return number;
}

/* INT64_MAX for what is no number of bytes. */
static int64_t bytes_of(const char *text)
{
    uint64_t bytes = 0;
    if (!text || !*text)
        return INT64_MAX;
    for (; *text >= '0' && *text <= '9'; text++)
        if (__builtin_mul_overflow(bytes, 10, &bytes) || __builtin_add_overflow(bytes, *text - '0', &bytes))
            return INT64_MAX;
    return *text || bytes > INT64_MAX ? INT64_MAX : (int64_t)bytes;
}

#define MOST_SAMPLE_BYTES (64u << 20) /* above, the spread of estimates would not fit its counters */
#define DEFAULT_SAMPLE_BYTES (512u << 10)

/* What the program itself has settled (`sample_stacks!` of the crate), when it was linked: the mean of mode sample. */
#if defined(HL_CRATE)
extern const uint64_t HEAPLEDGER_SAMPLE_BYTES __attribute__((weak));

static uint64_t built_in_mean(void)
{
    return &HEAPLEDGER_SAMPLE_BYTES ? HEAPLEDGER_SAMPLE_BYTES : 0;
}
#else
static uint64_t built_in_mean(void)
{
    return 0;
}
#endif

static bool is_mode(const char *mode, const char *name)
{
    size_t bytes = hl_length(name);
    return mode && hl_length(mode) == bytes && hl_same_bytes(mode, name, bytes);
}

/* The mode is what HEAPLEDGER_MODE says, or what was built in, or `count`. */
static void read_mode(char *copy, size_t bytes)
{
    const char *mode = variable("HEAPLEDGER_MODE", copy, bytes);
    uint64_t mean = built_in_mean();
    hl.full_wanted = is_mode(mode, "full");
    hl.walks = hl.full_wanted || is_mode(mode, "sample") || (!mode && mean);
    hl.abort_on_misuse = number_of(variable("HEAPLEDGER_ABORT_ON_MISUSE", copy, bytes), 0) == 1;
    if (!hl.walks || hl.full_wanted)
        return;
    mean = mean ? mean : DEFAULT_SAMPLE_BYTES;
    mean = number_of(variable("HEAPLEDGER_SAMPLE_BYTES", copy, bytes), (uint32_t)(mean > MOST_SAMPLE_BYTES ? MOST_SAMPLE_BYTES : mean));
    hl.sample_mean_bytes = mean < 1 ? 1 : mean > MOST_SAMPLE_BYTES ? MOST_SAMPLE_BYTES : mean;
    hl.sample_seed = number_of(variable("HEAPLEDGER_SAMPLE_SEED", copy, bytes), 0);
    const char *clock = variable("HEAPLEDGER_CLOCK", copy, bytes);
    hl.sample_clock = !clock ? HL_CLOCK_ANY : *clock == 'p' ? HL_CLOCK_PRECISE : HL_CLOCK_COARSE;
}

#define ENVIRONMENT_BYTES ((size_t)1 << 20)

/* Sets hl.directory, hl.max_slots, hl.children_off, hl.refuse_bytes, the mode; false: keep no books here. */
static bool read_environment(void)
{
    char *copy = environ ? NULL : hl_reserve(ENVIRONMENT_BYTES);
    long copied = copy ? hl_read_file("/proc/self/environ", copy, ENVIRONMENT_BYTES - 1) : 0;
    size_t bytes = copied > 0 ? (size_t)copied : 0;
    const char *directory = variable("HEAPLEDGER_DIR", copy, bytes);
    /* A privileged program takes no path from whoever started it. */
    if (directory && hl_length(directory) < sizeof hl.directory && !getauxval(AT_SECURE))
        hl_copy_bytes(hl.directory, directory, hl_length(directory) + 1);
    hl.max_slots = number_of(variable("HEAPLEDGER_MAX_SLOTS", copy, bytes), DEFAULT_MAX_SLOTS);
    hl.children_off = number_of(variable("HEAPLEDGER_CHILDREN", copy, bytes), 1) == 0;
    hl.refuse_bytes = getauxval(AT_SECURE) ? INT64_MAX : bytes_of(variable("HEAPLEDGER_REFUSE_PAST", copy, bytes));
    read_mode(copy, bytes);
    uint32_t runner = number_of(variable("HEAPLEDGER_RUN_PID", copy, bytes), 0);
    if (copy)
        hl_release(copy, ENVIRONMENT_BYTES);
    return !hl.children_off || !runner || (uint32_t)HL_SYS1(SYS_getppid, 0) == runner;
}

/* ---- the next allocator ---- */

#if defined(HL_STATIC)
static void find_next(void)
{
    hl.next.malloc = malloc;
    hl.next.calloc = calloc;
    hl.next.realloc = realloc;
    hl.next.free = free;
    hl.next.posix_memalign = posix_memalign;
    hl.next.malloc_usable_size = malloc_usable_size;
}

static bool is_glibc(void)
{
    return false;
}
#else
#if defined(HL_INTERPOSE)
#define NEXT RTLD_NEXT
#else
#define NEXT RTLD_DEFAULT
#endif

static void find_next(void)
{
#define FIND(name) *(void **)&hl.next.name = dlsym(NEXT, #name)
    FIND(calloc);
    FIND(realloc);
    FIND(posix_memalign);
    FIND(aligned_alloc);
    FIND(memalign);
    FIND(valloc);
    FIND(pvalloc);
    FIND(malloc_usable_size);
    FIND(free_sized);
    FIND(free_aligned_sized);
    FIND(free);
    FIND(malloc);
#undef FIND
}

static const void *object_of(const void *address)
{
    Dl_info info;
    return address && dladdr(address, &info) ? info.dli_fbase : NULL;
}

/*
 * True when the next allocator is glibc's and the sizes in its chunk headers
 * are what malloc_usable_size says. Small blocks only: freeing a mapped one
 * would move glibc's mmap threshold, which the program might notice.
 */
static bool is_glibc(void)
{
    const void *libc = object_of((const void *)gnu_get_libc_version);
    if (!libc || object_of((const void *)hl.next.malloc) != libc || object_of((const void *)hl.next.free) != libc ||
        object_of((const void *)hl.next.realloc) != libc ||
        object_of((const void *)hl.next.malloc_usable_size) != libc)
        return false;
    for (size_t bytes = 1; bytes < 6000; bytes = bytes * 2 + 7) {
        void *block = hl.next.malloc(bytes);
        if (!block)
            return false;
        bool same = ((uintptr_t)block & 15) == 0 && hl_glibc_usable(block) == hl.next.malloc_usable_size(block);
        hl.next.free(block);
        if (!same)
            return false;
    }
    return true;
}

/* As from 2.32 on, where links in free chunks are no plain addresses. */
static bool mangles_links(void)
{
    const char *version = gnu_get_libc_version(); /* "2.36" */
    return version[0] > '2' || number_of(version + 2, 0) >= 32;
}
#endif

/* ---- the ledger ---- */

/* Field 22 of /proc/self/stat, which comes behind the last ')'. */
static uint64_t start_ticks(void)
{
    char text[512];
    long bytes = hl_read_file("/proc/self/stat", text, sizeof text - 1);
    if (bytes <= 0)
        return 0;
    text[bytes] = 0;
    long at = bytes;
    while (at > 0 && text[at] != ')')
        at--;
    for (int field = 2; field < 22 && text[at]; at++)
        field += text[at] == ' ';
    uint64_t ticks = 0;
    for (; text[at] >= '0' && text[at] <= '9'; at++)
        ticks = ticks * 10 + (uint64_t)(text[at] - '0');
    return ticks;
}

void hl_header_identify(void)
{
    hl_header *header = hl.header;
    header->pid = hl_getpid();
    header->parent_pid = (uint32_t)HL_SYS1(SYS_getppid, 0);
    header->uid = (uint32_t)HL_SYS1(SYS_geteuid, 0);
    header->start_ticks = start_ticks();
    header->created_mono_ns = hl_clock_ns(CLOCK_MONOTONIC);
    header->created_unix_ns = hl_clock_ns(CLOCK_REALTIME);
}

static void note_program(void)
{
    char *text = hl_reserve(HL_PAGE_BYTES);
    if (!text)
        return;
    long bytes = HL_SYS4(SYS_readlinkat, AT_FDCWD_, "/proc/self/exe", text, HL_PAGE_BYTES);
    if (bytes > 0)
        hl.header->exe = hl_text_add(text, (size_t)bytes);
    bytes = hl_read_file("/proc/self/cmdline", text, HL_PAGE_BYTES / 2);
    if (bytes > 0)
        hl.header->args = hl_text_add(text, (size_t)bytes);
    hl_release(text, HL_PAGE_BYTES);
}

static bool begin_ledger(void)
{
    if (!hl_ledger_create(hl.directory))
        return false;
    hl_header *header = hl.header;
    hl_header_identify();
#if defined(HL_PRELOAD)
    header->flags |= HL_FLAG_PRELOAD | (hl_hooks_are_first() ? 0 : HL_FLAG_BYPASSED);
#endif
    header->next_allocator = hl.proven_glibc ? HL_NEXT_GLIBC : HL_NEXT_OTHER;
    header->granule_shift = hl_next_map()->shift;
    header->pressure.refuse_bytes = hl.refuse_bytes;
#if defined(HL_INTERPOSE)
    header->hooks |= HL_HOOKS_C;
#endif
    note_program();
    hl_modules_at_start();
    if (!hl_owners_begin() || !hl_shared_begin())
        return false;
    if (hl.sample_mean_bytes && !hl_sampling_begin())
        __atomic_fetch_add(&hl.header->samples_dropped, 1, __ATOMIC_RELAXED); /* said, and the books are kept */
    hl.full = hl.full_wanted && hl_full_begin();
    if (hl.full != hl.full_wanted)
        __atomic_fetch_add(&hl.header->samples_dropped, 1, __ATOMIC_RELAXED);
    return true;
}

/*
 * In the child of a fork. The kernel has wiped, but before Linux 4.14 and under emulators.
 * Where another thread of the child is faster to allocate than the one that forked,
 * that one must not look into what is its parent's any more.
 */
static void fork_happened(void)
{
    bool on = atomic_load_explicit(&hl.state, memory_order_relaxed) == HL_ON;
    if (on && hl.header->pid == hl_getpid()) /* a handler that came before has allocated */
        return;
    hl_fork_hand_over();
    atomic_store_explicit(&hl_wipe.glibc_malloc, NULL, memory_order_relaxed);
    atomic_store_explicit(&hl_wipe.live, HL_LIVE_NOT, memory_order_relaxed);
    hl_me.fast = &hl_nobody;
    if (hl_forks_within())
        hl_ready();
}

/*
 * False where there are other threads, or were in the process that this one was forked
 * off. NULL before glibc 2.32, and found by name: a reference, weak as it may be, needs
 * a version without which older systems do not load us.
 */
static const volatile char *single_threaded;

/*
 * A child that forks before it has booked anything gets its ledger now, where it may
 * have other threads: one of them may be about to begin it, and half a ledger is none to
 * a grandchild. Another allocator may have taken a lock for the fork by now, which it
 * takes to tell a block's size as well: over it nothing is begun here.
 */
static void fork_begins(void)
{
    if (hl.proven_glibc && single_threaded && !*single_threaded)
        hl_ready();
    hl_fork_begin();
}

/* Makes a forked child find zeros in hl_wipe, also after a raw clone. */
static void watch_forks(void)
{
    single_threaded = hl_symbol("__libc_single_threaded");
    pthread_atfork(fork_begins, hl_fork_parent, fork_happened);
    HL_SYS3(SYS_madvise, &hl_wipe, sizeof hl_wipe, 18 /* MADV_WIPEONFORK */);
}

void *hl_symbol(const char *name)
{
#ifndef HL_STATIC
    return dlsym(RTLD_DEFAULT, name);
#else
    (void)name;
    return NULL;
#endif
}

/* Allocators with an interface beside malloc's, whose blocks free() takes as well. */
static bool has_other_ways(void)
{
    static const char *const names[] = {"mallocx", "mi_malloc", "tc_malloc", "scalable_malloc"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (hl_symbol(names[i]))
            return true;
    return false;
}

static const hl_core_api *find_preload(void)
{
#if defined(HL_CRATE)
    const hl_core_api *(*preload)(void);
    *(void **)&preload = hl_symbol("hl_preload_core");
    const hl_core_api *core = preload ? preload() : NULL;
    return core && core->abi == HL_CORE_ABI ? core : NULL;
#else
    return NULL;
#endif
}

/* HL_ON or HL_OFF. */
static int start(void)
{
    hl_clock_begin();
    find_next();
    __atomic_store_n(&hl.delegate, find_preload(), __ATOMIC_RELAXED); /* rust.c looks at any time */
    if (hl.delegate)
        return HL_OFF;
    hl.proven_glibc = is_glibc();
    hl.glibc_blocks.shift = HL_GLIBC_SHIFT;
    hl.other_blocks.shift = HL_OTHER_SHIFT;
    if (!read_environment())
        return HL_OFF;
#if !defined(HL_STATIC)
    if (hl.proven_glibc && hl.full_wanted)
        hl_chunks_learn(&hl.next, mangles_links());
#endif
    hl_room_begin(&hl.next);
    hl.has_other_ways = hl.full_wanted && !hl.proven_glibc && has_other_ways();
    hl.glibc_blocks.has_words = hl.other_blocks.has_words = hl.full_wanted;
    if (!begin_ledger())
        return HL_OFF;
    watch_forks();
    hl_arena_book();
#ifndef HL_STATIC
    dlerror(); /* what we did not find is not the program's error */
#endif
    __atomic_store_n(&hl.header->state, HL_STATE_READY, __ATOMIC_RELEASE); /* pairs with the reader's header copy */
    return HL_ON;
}

#if defined(HL_PRELOAD)
/* A program that never allocates has a ledger too: that it held nothing is worth knowing. */
__attribute__((constructor)) static void begin(void)
{
    hl_ready();
}
#endif

static void go_live(void)
{
    /* An IFUNC resolver calls before the loader has filled thread-local storage. */
    if (!hl_me.fast)
        hl_me.fast = &hl_nobody;
    if (hl.proven_glibc && !hl_may_refuse())
        atomic_store_explicit(&hl_wipe.glibc_malloc, hl.next.malloc, memory_order_release);
    atomic_store_explicit(&hl_wipe.live, hl.proven_glibc ? HL_LIVE_GLIBC : HL_LIVE_OTHER, memory_order_release);
}

static uint64_t this_thread(void)
{
    return (uint64_t)hl_getpid() << 32 | hl_gettid();
}

/* By whoever holds `starter`; true: books are kept. */
static bool start_alone(void)
{
    int state = atomic_load_explicit(&hl.state, memory_order_relaxed);
    bool forked = state == HL_ON && live_now() == HL_LIVE_NOT;
    if (state == HL_FRESH || forked) {
        atomic_store_explicit(&hl.state, HL_STARTING, memory_order_relaxed);
        state = forked ? (hl_fork_child() ? HL_ON : HL_OFF) : start();
        if (state == HL_ON)
            go_live();
    } else if (state == HL_STARTING) { /* by a thread that this process was forked off in the middle of it */
        state = HL_OFF;
    }
    atomic_store_explicit(&hl.state, state, memory_order_release); /* pairs with hl_ready's load */
    return state == HL_ON;
}

static bool start_up(void)
{
    uint64_t me = this_thread();
    uint64_t starter = atomic_load_explicit(&hl.starter, memory_order_acquire);
    /* A thread of another process is not here: this one was forked off it. */
    for (; starter >> 32 == me >> 32; starter = atomic_load_explicit(&hl.starter, memory_order_acquire)) {
        if (starter == me)
            return false;
        HL_SYS1(SYS_sched_yield, 0);
    }
    if (!atomic_compare_exchange_strong_explicit(&hl.starter, &starter, me, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return start_up();
    bool ready = start_alone();
    atomic_store_explicit(&hl.starter, 0, memory_order_release); /* pairs with the loads above */
    return ready;
}

bool hl_ready(void)
{
    if (!relocated)
        return false;
    if (HL_LIKELY(atomic_load_explicit(&hl_wipe.live, memory_order_acquire) != HL_LIVE_NOT)) /* pairs with go_live */
        return true;
    if (atomic_load_explicit(&hl.state, memory_order_acquire) == HL_OFF)
        return false;
    /* A handler that allocated, or jumped away, in the middle would find half a start. */
    uint64_t all = ~0ull, before = 0;
    int error = errno;
    HL_SYS4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &all, &before, sizeof all);
    bool ready = start_up();
    HL_SYS4(SYS_rt_sigprocmask, 2, &before, NULL, sizeof before);
    errno = error;
    return ready;
}
