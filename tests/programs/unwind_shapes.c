/*
 * Stacks of all shapes, each looked at by unwind_checker_library.c: frames of
 * every kind that compilers make, signals at any instruction, small and foreign
 * stacks, and a library that takes another's place. Says nothing but what is wrong.
 */
#include <alloca.h>
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define SITE __attribute__((noinline, noclone))
#define AFTER() __asm__ volatile("" ::: "memory") /* no tail call */

__attribute__((weak)) void unwind_check(void);

static void look(void)
{
    if (unwind_check)
        unwind_check();
    AFTER();
}

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(99);
}

/* ---- frames ---- */

static SITE void leaf(void)
{
    look();
    free(malloc(24));
    AFTER();
}

static SITE void with_locals(unsigned depth, int (*next)(unsigned))
{
    volatile char locals[200];
    locals[depth % 200] = 1;
    if (next(depth) && locals[depth % 200])
        leaf();
    AFTER();
}

static SITE int with_alloca(unsigned depth)
{
    volatile char *more = alloca(depth * 37 + 1);
    more[0] = 1;
    leaf();
    AFTER();
    return more[0];
}

/* Realigned by the compiler, which finds the frame through memory. */
static SITE int with_alignment(unsigned depth)
{
    _Alignas(64) volatile char wide[128];
    volatile char *more = alloca(depth + 1);
    wide[depth % 128] = more[0] = 2;
    leaf();
    AFTER();
    return (uintptr_t)wide % 64 == 0;
}

static SITE int with_large_frame(unsigned depth)
{
    volatile char large[300000];
    large[depth * 4096] = 3;
    leaf();
    AFTER();
    return large[depth * 4096] == 3;
}

static SITE int with_many_arguments(int a, int b, int c, int d, int e, int f, int g, int h, int i)
{
    leaf();
    AFTER();
    return a + b + c + d + e + f + g + h + i;
}

static SITE int with_pushed(unsigned depth)
{
    int sum = with_many_arguments((int)depth, 2, 3, 4, 5, 6, 7, 8, 9);
    AFTER();
    return sum;
}

static SITE int recursive(unsigned depth)
{
    if (depth % 3 == 0)
        leaf();
    int below = depth ? recursive(depth - 1) : 0;
    AFTER();
    return below + 1;
}

/* Told by a register that compilers use for other things, as in the dynamic linker's lazy resolver. */
#if defined(__x86_64__)
int with_other_register(unsigned depth);
__attribute__((used)) static void leaf_for_assembly(void)
{
    leaf();
    AFTER();
}
__asm__(".text\n"
        "with_other_register:\n\t"
        ".cfi_startproc\n\t"
        "pushq %rbx\n\t"
        ".cfi_def_cfa_offset 16\n\t"
        ".cfi_offset %rbx, -16\n\t"
        "movq %rsp, %rbx\n\t"
        ".cfi_def_cfa_register %rbx\n\t"
        "subq $100, %rsp\n\t"
        "andq $-64, %rsp\n\t"
        "call leaf_for_assembly\n\t"
        "movl $1, %eax\n\t"
        "movq %rbx, %rsp\n\t"
        ".cfi_def_cfa_register %rsp\n\t"
        "popq %rbx\n\t"
        ".cfi_def_cfa_offset 8\n\t"
        "ret\n\t"
        ".cfi_endproc\n");
#else
static int with_other_register(unsigned depth)
{
    return with_pushed(depth);
}
#endif

static int (*const KINDS[])(unsigned) = {with_alloca, with_other_register, with_alignment, with_large_frame, with_pushed, recursive};

static SITE int compared(const void *a, const void *b)
{
    leaf();
    AFTER();
    return *(const int *)a - *(const int *)b;
}

static SITE void through_libc(void)
{
    int numbers[] = {5, 3, 9, 1, 7, 2};
    qsort(numbers, 6, sizeof *numbers, compared);
    AFTER();
}

static void frames(void)
{
    for (unsigned depth = 0; depth < 40; depth++)
        for (unsigned kind = 0; kind < sizeof KINDS / sizeof *KINDS; kind++)
            with_locals(depth, KINDS[kind]);
    through_libc();
}

/* ---- signals ---- */

static _Thread_local volatile sig_atomic_t signals;

#define ROOMY 32768

static void on_signal(int number)
{
    (void)number;
    signals++;
    leaf();
}

static void handle(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(number, &action, NULL);
}

/* On a stack of its own, with room for so much beside what the kernel puts there, and a guard below. */
static SITE void raised_on(size_t room)
{
    unsigned long least = getauxval(51 /* AT_MINSIGSTKSZ */);
    size_t bytes = ((least ? least : MINSIGSTKSZ) + room + 63) & ~(size_t)63;
    char *pages = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages, 65536, PROT_NONE) != 0)
        fail("no memory for a stack");
    stack_t alternative = {.ss_sp = pages + 65536, .ss_size = bytes}, none = {.ss_flags = SS_DISABLE};
    sigaltstack(&alternative, NULL);
    handle(SIGUSR2, on_signal, SA_ONSTACK);
    for (int i = 0; i < 20; i++)
        raise(i % 2 ? SIGUSR1 : SIGUSR2);
    sigaltstack(&none, NULL);
    munmap(pages, 1 << 20);
}

static SITE void raised(size_t room)
{
    handle(SIGUSR1, on_signal, 0);
    raise(SIGUSR1);
    raised_on(room);
    AFTER();
}

static void on_timer(int number)
{
    (void)number;
    signals++;
    look();
}

/* Through the procedure linkage table, prologues and epilogues: a signal may come anywhere. */
static SITE long small_work(long value)
{
    volatile long kept[6] = {value, value + 1};
    return labs(kept[value & 1]) + llabs(-value) + (long)strlen("text");
}

static SITE void interrupted(void)
{
    handle(SIGALRM, on_timer, 0);
    struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    signals = 0;
    setitimer(ITIMER_REAL, &often, NULL);
    long sum = 0;
    while (signals < 3000)
        sum += small_work(sum & 0xff);
    setitimer(ITIMER_REAL, &never, NULL);
    if (!sum)
        fail("no work was done");
}

/* ---- other stacks ---- */

static _Thread_local ucontext_t outside, inside;

static void coroutine(void)
{
    for (int i = 0; i < 3; i++) {
        with_locals((unsigned)i, with_alloca);
        swapcontext(&inside, &outside);
        recursive(30);
    }
}

static void run_on(void *stack, size_t bytes)
{
    getcontext(&inside);
    inside.uc_stack.ss_sp = stack;
    inside.uc_stack.ss_size = bytes;
    inside.uc_link = &outside;
    makecontext(&inside, coroutine, 0);
    for (int i = 0; i < 4; i++) {
        swapcontext(&outside, &inside);
        leaf();
    }
}

#define STACK_BYTES 65536

/* With nothing readable at either end. */
static void coroutines(void)
{
    for (int i = 0; i < 10; i++) {
        char *guarded = mmap(NULL, STACK_BYTES + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (guarded == MAP_FAILED || mprotect(guarded + 4096, STACK_BYTES, PROT_READ | PROT_WRITE) != 0)
            fail("no memory for a stack");
        run_on(guarded + 4096, STACK_BYTES);
        munmap(guarded, STACK_BYTES + 8192);
        void *heap = malloc(STACK_BYTES);
        run_on(heap, STACK_BYTES);
        free(heap);
    }
}

static void *threaded(void *unused)
{
    frames();
    raised(ROOMY);
    coroutines();
    return unused;
}

static void threads(void)
{
    pthread_t thread[4];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++)
            pthread_create(&thread[i], NULL, threaded, NULL);
        for (int i = 0; i < 4; i++)
            pthread_join(thread[i], NULL);
    }
}

/* ---- one library in another's place ---- */

static void *call_in(const char *library)
{
    void *handle = dlopen(library, RTLD_NOW);
    void (*call)(void (*)(void)) = handle ? (void (*)(void (*)(void)))dlsym(handle, "call") : NULL;
    if (!call)
        fail("a library cannot be loaded");
    for (int i = 0; i < 3; i++)
        call(leaf);
    dlclose(handle);
    return (void *)call;
}

static void loaded(const char *library)
{
    for (int i = 0; i < 10; i++)
        call_in(library);
}

static void replaced(const char *one, const char *other)
{
    int same_place = 0;
    for (int i = 0; i < 10; i++)
        same_place += call_in(one) == call_in(other);
    if (!same_place)
        fail("the libraries never had the same place");
}

int main(int count, char **words)
{
    const char *what = count > 1 ? words[1] : "";
    if (strcmp(what, "frames") == 0)
        frames();
    else if (strcmp(what, "raised") == 0)
        raised(count > 2 ? (size_t)atoi(words[2]) : ROOMY);
    else if (strcmp(what, "interrupted") == 0)
        interrupted();
    else if (strcmp(what, "coroutines") == 0)
        coroutines();
    else if (strcmp(what, "threads") == 0)
        threads();
    else if (strcmp(what, "loaded") == 0 && count > 2)
        loaded(words[2]);
    else if (strcmp(what, "replaced") == 0 && count > 3)
        replaced(words[2], words[3]);
    else
        fail("frames, raised [ROOM], interrupted, coroutines, threads, loaded LIBRARY, or replaced ONE OTHER");
    return 0;
}
