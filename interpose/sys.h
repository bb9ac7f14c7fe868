/*
 * sys.h: what the core asks of the compiler, and of the kernel.
 *
 * System calls go without libc, so that errno stays the program's, no symbol
 * version is imported and nothing of libc is entered from a hook. Each returns
 * what the kernel returned: a value, or -errno.
 */
#ifndef HL_SYS_H
#define HL_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#define HL_LIKELY(x) __builtin_expect(!!(x), 1)
#define HL_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HL_COLD __attribute__((noinline))
#define HL_INLINE static inline __attribute__((always_inline))

#if defined(__SANITIZE_THREAD__)
#define HL_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HL_SANITIZED 1
#endif
#endif

/* The fast ways' own instructions, but for the thread sanitizer, which sees nothing of what these read and write. */
#if defined(__x86_64__) && !defined(HL_SANITIZED)
#define HL_X86_64 1
#endif

/*
 * Say to the thread sanitizer what the kernel orders, of which it sees nothing: what
 * was done before HL_ORDERED_BEFORE of an address comes before what is done after
 * HL_ORDERED_AFTER of the same. To everybody else they say nothing.
 */
#if defined(HL_SANITIZED)
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define HL_ORDERED_BEFORE(address) __tsan_release((void *)(uintptr_t)(address))
#define HL_ORDERED_AFTER(address) __tsan_acquire((void *)(uintptr_t)(address))
#else
#define HL_ORDERED_BEFORE(address) ((void)(address))
#define HL_ORDERED_AFTER(address) ((void)(address))
#endif

/* Of a function that reads what is the allocator's at the time: the sanitizer does not look at it. */
#if defined(HL_SANITIZED)
#define HL_READS_FREE __attribute__((noinline, no_sanitize("thread")))
#else
#define HL_READS_FREE
#endif

static inline long hl_syscall(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
#else
#error "heapledger's core knows x86_64 and aarch64"
#endif
}

#define HL_SYS1(n, a) hl_syscall(n, (long)(a), 0, 0, 0, 0, 0)
#define HL_SYS2(n, a, b) hl_syscall(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define HL_SYS3(n, a, b, c) hl_syscall(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define HL_SYS4(n, a, b, c, d) hl_syscall(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define HL_SYS5(n, a, b, c, d, e) hl_syscall(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define HL_SYS6(n, a, b, c, d, e, f) \
    hl_syscall(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static inline int hl_sys_failed(long result)
{
    return result < 0 && result >= -4095;
}

static inline uint32_t hl_gettid(void)
{
    return (uint32_t)HL_SYS1(SYS_gettid, 0);
}

static inline uint32_t hl_getpid(void)
{
    return (uint32_t)HL_SYS1(SYS_getpid, 0);
}

/* Private zeroed memory that takes no room until it is touched; NULL if refused. */
void *hl_reserve(size_t bytes);
/* The same, there if the kernel has room there, else anywhere. */
void *hl_reserve_at(uintptr_t wished, size_t bytes);
void hl_release(void *memory, size_t bytes);

/*
 * Whether memory that the books can do without may be taken: where address space
 * is limited (RLIMIT_AS, RLIMIT_DATA), it is the program's first, and all that is taken for the
 * asking here is an eighth of it at most.
 */
bool hl_may_take(size_t bytes);
/*
 * Whether so much may be taken that the program is far from any limit still. The
 * kernel is asked in mode full alone: in the others it is what was so at start-up, and
 * that eight times as much can be had.
 */
bool hl_is_ample(size_t bytes);
/*
 * Whether the program would have three times as much left as is taken, at least. For
 * what the books cannot do without; what is refused is not asked again for a while.
 */
bool hl_leaves_most(size_t bytes);

/*
 * Asks the kernel to read a word: EFAULT where it cannot, else EINVAL, since
 * there is no such change of a signal mask. Of all calls that read memory this
 * is one that no sandbox forbids.
 */
static inline bool hl_can_be_read(uintptr_t at)
{
    return HL_SYS4(SYS_rt_sigprocmask, -1, at, NULL, sizeof(uint64_t)) == -22 /* EINVAL */;
}

/* Whether a loaded object asks others for a function of that name. At start-up. */
bool hl_is_asked_for(const char *name);
/* A function of the object that the kernel maps into each process; NULL: not there. At start-up. */
void *hl_kernel_function(const char *name);

/* The kernel's clocks, whatever the program has made of clock_gettime. */
void hl_clock_begin(void); /* at start-up, or they are read by system calls */
uint64_t hl_clock_ns(int clock);
uint64_t hl_clock_step_ns(int clock);

/* Opens for reading; a descriptor, or -errno. */
long hl_open(const char *path);

/* Reads a small file whole, up to `room` bytes; the number read, or -errno. */
long hl_read_file(const char *path, char *into, size_t room);

/* The few string functions the core needs. */
static inline size_t hl_length(const char *text)
{
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

static inline void hl_copy_bytes(void *to, const void *from, size_t bytes)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    for (size_t i = 0; i < bytes; i++)
        t[i] = f[i];
}

static inline int hl_same_bytes(const void *one, const void *other, size_t bytes)
{
    const unsigned char *a = one, *b = other;
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i])
            return 0;
    return 1;
}

#endif
