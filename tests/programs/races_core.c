/*
 * The allocator below the core in programs under the thread sanitizer: memory is
 * the sanitizer's, blocks are laid out as glibc's, so that the core goes its fast
 * ways. Its look-ups come here, and are told that this is glibc's.
 */
#include "program.h"

#include <gnu/libc-version.h>
#include <limits.h>
#include <sanitizer/tsan_interface.h>
#include <sys/prctl.h>

#include <api.h>

void __tsan_java_finalize(void); /* all that was done so far comes before what this thread does next */
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreSyncBegin(const char *file, int line);
void AnnotateIgnoreSyncEnd(const char *file, int line);

#define GRANULE ((size_t)32) /* glibc's blocks are at least so far apart */
#define MAPPED_BYTES ((size_t)128 << 10)
#define IN_USE 1u
#define IS_MAPPED 2u

/* Before a block: what was taken for it, and its size as in glibc's chunks. */
struct head {
    void *taken;
    uint64_t size;
};

static struct head *head_of(void *block)
{
    return (struct head *)block - 1;
}

static size_t shim_malloc_usable_size(void *block)
{
    if (!block)
        return 0;
    uint64_t size = head_of(block)->size;
    return (size & ~7ull) - (size & IS_MAPPED ? 16 : 8);
}

/* ---- forks: a child could wait for ever for a lock of the sanitizer's allocator, which does not care ---- */

/* Not seen by the sanitizer: to it this would be an order of all calls that the core does not have. */
#define UNSEEN __attribute__((noinline, no_sanitize("thread")))

static int forking, inside;
static _Thread_local int depth; /* a handler may come between */

UNSEEN static void enter(void)
{
    if (depth++)
        return;
    while (__atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST), __atomic_load_n(&forking, __ATOMIC_SEQ_CST)) {
        __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&forking, __ATOMIC_SEQ_CST))
            syscall(SYS_sched_yield);
    }
}

UNSEEN static void leave(void)
{
    if (!--depth)
        __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
}

/* Several threads may fork at once; a handler that comes between may allocate. */
UNSEEN static void before_fork(void)
{
    depth++;
    __atomic_add_fetch(&forking, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&inside, __ATOMIC_SEQ_CST))
        syscall(SYS_sched_yield);
}

UNSEEN static void after_fork(void)
{
    __atomic_sub_fetch(&forking, 1, __ATOMIC_SEQ_CST);
    depth--;
}

/* What other threads had counted, they take back in the parent. */
UNSEEN static void in_the_child(void)
{
    __atomic_store_n(&forking, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&inside, 0, __ATOMIC_SEQ_CST);
    depth--;
}

__attribute__((constructor)) static void watch_forks(void)
{
    REQUIRE(pthread_atfork(before_fork, after_fork, in_the_child) == 0);
}

/* ---- blocks ---- */

/*
 * An allocator's lock orders what was done with an address by whom it was taken
 * from before what is done by whom it is given to. The sanitizer sees no such order
 * in its own allocator, and forgets at a free what was said of the block itself.
 */
#define ORDERS ((size_t)1 << 20)
static uint64_t orders[ORDERS];

static void *order_of(void *block)
{
    return &orders[(uintptr_t)block / GRANULE % ORDERS];
}

static void *shim_memalign(size_t alignment, size_t bytes)
{
    alignment = alignment < GRANULE ? GRANULE : alignment;
    if (bytes > PTRDIFF_MAX - 3 * alignment) {
        errno = ENOMEM;
        return NULL;
    }
    size_t room = (bytes + !bytes + GRANULE - 1) & ~(GRANULE - 1);
    enter();
    void *taken = malloc(room + alignment + sizeof(struct head));
    leave();
    if (!taken)
        return NULL;
    char *block = (char *)(((uintptr_t)taken + sizeof(struct head) + alignment - 1) & ~(alignment - 1));
    *head_of(block) = (struct head){taken, room < MAPPED_BYTES ? (room + 8) | IN_USE : (room + 16) | IS_MAPPED};
    __tsan_acquire(order_of(block));
    return block;
}

static void shim_free(void *block)
{
    if (!block)
        return;
    __tsan_release(order_of(block));
    enter();
    free(head_of(block)->taken);
    leave();
}

static void *shim_malloc(size_t bytes)
{
    return shim_memalign(GRANULE, bytes);
}

static void *shim_calloc(size_t count, size_t bytes)
{
    size_t all;
    if (__builtin_mul_overflow(count, bytes, &all))
        all = SIZE_MAX;
    void *block = shim_malloc(all);
    return block ? memset(block, 0, all) : NULL;
}

static void *shim_realloc(void *block, size_t bytes)
{
    size_t old = shim_malloc_usable_size(block);
    void *moved = bytes || !block ? shim_malloc(bytes) : NULL;
    if (moved && block)
        memcpy(moved, block, old < bytes ? old : bytes);
    if (moved || !bytes)
        shim_free(block);
    return moved;
}

static int shim_posix_memalign(void **block, size_t alignment, size_t bytes)
{
    if (alignment % sizeof(void *) || alignment & (alignment - 1) || !alignment)
        return EINVAL;
    int error = errno;
    void *given = shim_memalign(alignment, bytes);
    errno = error;
    return given ? (*block = given, 0) : ENOMEM;
}

static void *shim_aligned_alloc(size_t alignment, size_t bytes)
{
    size_t power = GRANULE;
    while (power < alignment)
        power *= 2;
    return shim_memalign(power, bytes);
}

static void *shim_valloc(size_t bytes)
{
    return shim_memalign(4096, bytes);
}

static void *shim_pvalloc(size_t bytes)
{
    return shim_memalign(4096, (bytes + 4095) & ~(size_t)4095);
}

/* Past the hooks, as glibc's own names are. */
void *raced_libc_malloc(size_t bytes);
void *raced_libc_malloc(size_t bytes)
{
    return shim_malloc(bytes);
}

void *raced_libc_calloc(size_t count, size_t bytes);
void *raced_libc_calloc(size_t count, size_t bytes)
{
    return shim_calloc(count, bytes);
}

void *raced_libc_memalign(size_t alignment, size_t bytes);
void *raced_libc_memalign(size_t alignment, size_t bytes)
{
    return shim_memalign(alignment, bytes);
}

void raced_libc_free(void *block);
void raced_libc_free(void *block)
{
    shim_free(block);
}

/* ---- the program's calls ---- */

/*
 * A slot whose thread has ended is the next one's, who learns of that end from the
 * kernel: what the thread did in the slot came before, which the sanitizer is told.
 */
static void *done(void *block)
{
    if (hl_me.slot)
        __tsan_release(hl_me.slot);
    return block;
}

/* Also for a plugin. */
#define EXPORTED(result, name, parameters)                                           \
    result raced_##name parameters;                                                  \
    __attribute__((visibility("default"))) result raced_##name parameters

EXPORTED(void *, malloc, (size_t bytes))
{
    return done(hl_do_malloc(bytes, HL_CALLER()));
}

EXPORTED(void *, calloc, (size_t count, size_t bytes))
{
    return done(hl_do_calloc(count, bytes, HL_CALLER()));
}

EXPORTED(void *, realloc, (void *block, size_t bytes))
{
    return done(hl_do_realloc(block, bytes, HL_CALLER()));
}

EXPORTED(void, free, (void *block))
{
    hl_do_free(block);
    done(NULL);
}

EXPORTED(int, posix_memalign, (void **block, size_t alignment, size_t bytes))
{
    int error = hl_do_posix_memalign(block, alignment, bytes, HL_CALLER());
    done(NULL);
    return error;
}

EXPORTED(void *, aligned_alloc, (size_t alignment, size_t bytes))
{
    return done(hl_do_aligned_alloc(alignment, bytes, HL_CALLER()));
}

EXPORTED(void *, memalign, (size_t alignment, size_t bytes))
{
    return done(hl_do_memalign(alignment, bytes, HL_CALLER()));
}

EXPORTED(void *, valloc, (size_t bytes))
{
    return done(hl_do_valloc(bytes, HL_CALLER()));
}

EXPORTED(void *, pvalloc, (size_t bytes))
{
    return done(hl_do_pvalloc(bytes, HL_CALLER()));
}

EXPORTED(size_t, malloc_usable_size, (void *block))
{
    return hl_do_malloc_usable_size(block);
}

/* ---- destructors ---- */

/*
 * The sanitizer's own destructor takes a thread's state down in the last round, before
 * those of later keys. So a program's are called here, in as many rounds as by libc.
 */
#define KEYS 8
static struct {
    pthread_key_t key;
    void (*destructor)(void *);
} keys[KEYS];
static atomic_int key_count;

EXPORTED(int, pthread_key_create, (pthread_key_t * key, void (*destructor)(void *)))
{
    int error = pthread_key_create(key, NULL);
    if (!error && destructor) {
        int place = atomic_fetch_add(&key_count, 1);
        REQUIRE(place < KEYS);
        keys[place].key = *key;
        keys[place].destructor = destructor;
    }
    return error;
}

static void destroy_values(void)
{
    for (int round = 0; round < PTHREAD_DESTRUCTOR_ITERATIONS; round++)
        for (int i = 0; i < atomic_load(&key_count); i++) {
            void *value = pthread_getspecific(keys[i].key);
            if (!value)
                continue;
            pthread_setspecific(keys[i].key, NULL);
            keys[i].destructor(value);
        }
}

/* ---- threads at rest ---- */

/*
 * A child can be looked at if no other thread is inside the sanitizer's runtime at the
 * fork, where it may hold one of its locks. A signal brings them there: the runtime holds
 * it back until its handler can run, which is before an atomic operation and after a call
 * that it intercepts. So a thread rests wherever in the core it has come to, as one does
 * that is gone in the child.
 */
#define REST_SIGNAL (SIGRTMIN + 7)
#define THREADS_SEEN 64
static struct seen {
    int thread;      /* 0: a free place */
    unsigned rested; /* for which fork */
} seen[THREADS_SEEN];
static _Thread_local struct seen *own;
static int forker;           /* the thread that forks */
static unsigned rests;       /* counts forks; odd: threads are to rest */
static int between;          /* threads that begin, and are not in the table yet */

UNSEEN static int thread_number(void)
{
    return (int)syscall(SYS_gettid);
}

UNSEEN static void be_seen(void)
{
    int number = thread_number();
    for (size_t i = 0;; i = (i + 1) % THREADS_SEEN) {
        int other = __atomic_load_n(&seen[i].thread, __ATOMIC_SEQ_CST);
        /* Threads do not leave the table: the sanitizer has work to do after their last own step. */
        bool is_gone = other && syscall(SYS_tgkill, getpid(), other, 0) != 0;
        if ((!other || is_gone) && __atomic_compare_exchange_n(&seen[i].thread, &other, number, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            own = &seen[i];
            return;
        }
    }
}

UNSEEN static void rest(void)
{
    unsigned now = __atomic_load_n(&rests, __ATOMIC_SEQ_CST);
    if (!own || now % 2 == 0)
        return;
    __atomic_store_n(&own->rested, now, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&rests, __ATOMIC_SEQ_CST) == now)
        syscall(SYS_sched_yield);
}

UNSEEN static void on_rest(int signal)
{
    (void)signal;
    rest();
}

UNSEEN static bool all_rest(unsigned now, bool tells)
{
    bool all = __atomic_load_n(&between, __ATOMIC_SEQ_CST) == 0;
    for (size_t i = 0; i < THREADS_SEEN; i++) {
        int other = __atomic_load_n(&seen[i].thread, __ATOMIC_SEQ_CST);
        if (!other || &seen[i] == own || __atomic_load_n(&seen[i].rested, __ATOMIC_SEQ_CST) == now)
            continue;
        if (syscall(SYS_tgkill, getpid(), other, tells ? REST_SIGNAL : 0) == 0)
            all = false;
    }
    return all;
}

UNSEEN static void bring_to_rest(void)
{
    int nobody = 0;
    while (!__atomic_compare_exchange_n(&forker, &nobody, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        rest(); /* for the other one that forks */
        syscall(SYS_sched_yield);
        nobody = 0;
    }
    unsigned now = __atomic_add_fetch(&rests, 1, __ATOMIC_SEQ_CST);
    while (!all_rest(now, false))
        for (int i = 0; i < 100 && !all_rest(now, i == 0); i++) /* those that began meanwhile are told as well */
            syscall(SYS_sched_yield);
}

UNSEEN static void go_on(bool in_the_child)
{
    if (in_the_child) {
        for (size_t i = 0; i < THREADS_SEEN; i++)
            if (&seen[i] != own)
                __atomic_store_n(&seen[i].thread, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&own->thread, thread_number(), __ATOMIC_SEQ_CST);
        __atomic_store_n(&between, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&inside, 0, __ATOMIC_SEQ_CST);
    }
    __atomic_add_fetch(&rests, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&forker, 0, __ATOMIC_SEQ_CST);
}

/* Whether a test says that other threads are at work when a child is forked. */
static bool brings_to_rest(void)
{
    return getenv("RACES_BRING_TO_REST") != NULL;
}

__attribute__((constructor)) static void watch_threads(void)
{
    if (!brings_to_rest())
        return;
    struct sigaction action = {.sa_handler = on_rest, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    REQUIRE(sigaction(REST_SIGNAL, &action, NULL) == 0);
    be_seen();
}

/* ---- threads and forks ---- */

struct thread {
    void *(*body)(void *);
    void *argument;
};

static void *run(void *begun)
{
    struct thread thread = *(struct thread *)begun;
    if (brings_to_rest()) {
        be_seen();
        __atomic_sub_fetch(&between, 1, __ATOMIC_SEQ_CST);
    }
    enter();
    free(begun);
    leave();
    void *result = thread.body(thread.argument);
    destroy_values();
    done(NULL); /* whatever else of the core's it called last */
    __tsan_release((void *)pthread_self());
    return result;
}

EXPORTED(int, pthread_create,
         (pthread_t * thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument))
{
    enter();
    struct thread *begun = malloc(sizeof *begun);
    leave();
    REQUIRE(begun);
    *begun = (struct thread){body, argument};
    if (brings_to_rest())
        __atomic_add_fetch(&between, 1, __ATOMIC_SEQ_CST);
    return pthread_create(thread, attributes, run, begun);
}

/*
 * By libc's own functions where the sanitizer would not know who is meant: it did not
 * see the main thread begin, and in a forked child takes a thread for the one that had
 * its place in the parent.
 */
static int (*libc_join)(pthread_t, void **), (*libc_detach)(pthread_t);
static pthread_t main_thread;

__attribute__((constructor)) static void find_libc(void)
{
    main_thread = pthread_self();
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    REQUIRE(libc);
    *(void **)&libc_join = dlsym(libc, "pthread_join");
    *(void **)&libc_detach = dlsym(libc, "pthread_detach");
    REQUIRE(libc_join && libc_detach);
}

static pid_t own_process;

__attribute__((constructor)) static void find_process(void)
{
    own_process = getpid();
}

static int generation; /* how many forks ago the sanitizer began; those of which it knows nothing */

EXPORTED(int, pthread_join, (pthread_t thread, void **result))
{
    if (!generation && !pthread_equal(thread, main_thread))
        return pthread_join(thread, result);
    int error = libc_join(thread, result);
    __tsan_acquire((void *)thread);
    return error;
}

EXPORTED(int, pthread_detach, (pthread_t thread))
{
    return generation ? libc_detach(thread) : pthread_detach(thread);
}

/* ---- children ---- */

/*
 * In the child of a process with several threads the sanitizer looks at nothing, nor
 * at threads that begin there (ForkChildAfter and ThreadStart in its sources), since
 * the others may have left its own locks taken. A clone without libc it does not
 * notice at all, and looks at the child as before. So where a test says that all
 * other threads are at rest then, or are to be brought there, a fork is such a clone,
 * and what libc would do for the core is done here; elsewhere such a clone is treated
 * as the sanitizer treats a fork.
 */
#define HANDLERS 4
static struct {
    void (*prepare)(void), (*parent)(void), (*child)(void);
} handlers[HANDLERS];
static int handler_count;

int raced_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
int raced_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    REQUIRE(handler_count < HANDLERS);
    handlers[handler_count].prepare = prepare;
    handlers[handler_count].parent = parent;
    handlers[handler_count++].child = child;
    return pthread_atfork(prepare, parent, child);
}

/* Of the parent's threads none is left, so all that they did comes before what the child does. */
static long clone_and_look(const long values[5])
{
    bool brings = brings_to_rest();
    if (brings)
        bring_to_rest();
    long result = syscall(SYS_clone, values[0], values[1], values[2], values[3], values[4]);
    if (result == 0) {
        __tsan_java_finalize();
        generation++;
        own_process = getpid();
    }
    if (brings)
        go_on(result == 0);
    return result;
}

static long fork_and_look(const long values[5])
{
    for (int i = handler_count; i-- > 0;)
        if (handlers[i].prepare)
            handlers[i].prepare();
    long result = clone_and_look(values);
    for (int i = 0; i < handler_count; i++) {
        void (*handler)(void) = result == 0 ? handlers[i].child : handlers[i].parent;
        if (handler)
            handler();
    }
    return result;
}

static bool looks_away;

static void look_again(void)
{
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
}

static long clone_and_look_away(const long values[5])
{
    before_fork();
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
    long result = syscall(SYS_clone, values[0], values[1], values[2], values[3], values[4]);
    if (result == 0) {
        own_process = getpid();
        in_the_child();
        looks_away = true;
        return result;
    }
    look_again();
    after_fork();
    return result;
}

/* The sanitizer would complain of an end without a look; what it does at an end, a vfork child would do to its parent. */
EXPORTED(__attribute__((noreturn)) void, exit, (int code))
{
    if (getpid() != own_process)
        for (;;)
            syscall(SYS_exit_group, code);
    if (looks_away)
        look_again();
    _exit(code);
}

/* So many generations of them. */
static bool looks_at_children(void)
{
    const char *generations = getenv("RACES_LOOK_AT_CHILDREN");
    return generations && atoi(generations) > generation;
}

EXPORTED(long, syscall, (long number, ...))
{
    long values[6];
    va_list given;
    va_start(given, number);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        values[i] = va_arg(given, long);
    va_end(given);
    if (number == SYS_clone)
        return looks_at_children() ? clone_and_look(values) : clone_and_look_away(values);
    return syscall(number, values[0], values[1], values[2], values[3], values[4], values[5]);
}

/* As libc's: the thread's number stands where who joins it waits for its end. */
EXPORTED(pid_t, fork, (void))
{
    if (!looks_at_children()) {
        pid_t child = fork();
        if (child == 0)
            own_process = getpid();
        return child;
    }
    uintptr_t number = 0;
    REQUIRE(prctl(PR_GET_TID_ADDRESS, &number) == 0);
#if defined(__aarch64__)
    long values[] = {SIGCHLD | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, 0, 0, 0, (long)number};
#else
    long values[] = {SIGCHLD | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, 0, 0, (long)number, 0};
#endif
    return (pid_t)fork_and_look(values);
}

/*
 * The sanitizer makes a fork of vfork, since its own function for it could not return
 * twice. This one it does not see: the child goes on in the thread's place, and on its
 * state, as it does on the core's. The return address is kept where the child, which
 * has the stack, does not overwrite it.
 */
pid_t raced_vfork(void);
#if defined(__x86_64__)
__asm__(".text\n"
        ".globl raced_vfork\n"
        ".type raced_vfork, @function\n"
        "raced_vfork:\n\t"
        "popq %rdx\n\t"
        "movl $58, %eax\n\t"
        "syscall\n\t"
        "pushq %rdx\n\t"
        "ret\n"
        ".size raced_vfork, .-raced_vfork\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl raced_vfork\n"
        ".type raced_vfork, %function\n"
        "raced_vfork:\n\t"
        "mov x0, #0x4111\n\t" /* CLONE_VM | CLONE_VFORK | SIGCHLD */
        "mov x1, xzr\n\t"
        "mov x2, xzr\n\t"
        "mov x3, xzr\n\t"
        "mov x4, xzr\n\t"
        "mov x8, #220\n\t"
        "svc #0\n\t"
        "ret\n"
        ".size raced_vfork, .-raced_vfork\n");
#endif

hl_header *raced_ledger(void);
hl_header *raced_ledger(void)
{
    return hl.header;
}

/* ---- the core's look-ups ---- */

void *raced_dlsym(void *handle, const char *name);
int raced_dladdr(const void *address, Dl_info *info);

static const struct shim {
    const char *name;
    void *function;
} shims[] = {
    {"malloc", shim_malloc},
    {"calloc", shim_calloc},
    {"realloc", shim_realloc},
    {"free", shim_free},
    {"posix_memalign", shim_posix_memalign},
    {"aligned_alloc", shim_aligned_alloc},
    {"memalign", shim_aligned_alloc},
    {"valloc", shim_valloc},
    {"pvalloc", shim_pvalloc},
    {"malloc_usable_size", shim_malloc_usable_size},
};

void *raced_dlsym(void *handle, const char *name)
{
    if (handle == RTLD_DEFAULT && strcmp(name, "malloc") == 0)
        return (void *)raced_malloc;
    if (handle == RTLD_DEFAULT && strcmp(name, "free") == 0)
        return (void *)raced_free;
    if (strcmp(name, "pthread_create") == 0)
        return (void *)raced_pthread_create;
    for (size_t i = 0; handle == RTLD_NEXT && i < sizeof shims / sizeof *shims; i++)
        if (strcmp(name, shims[i].name) == 0)
            return shims[i].function;
    return dlsym(handle, name);
}

int raced_dladdr(const void *address, Dl_info *info)
{
    for (size_t i = 0; i < sizeof shims / sizeof *shims; i++)
        if (address == shims[i].function)
            return dladdr((const void *)gnu_get_libc_version, info);
    return dladdr(address, info);
}
