/*
 * Where a walk must end in time: code without unwinding data whose frame pointer
 * is any number, over stacks with holes above them, of which a part was a stack
 * before. And a thread that allocates while who waits for it looks through the
 * loader's objects. Says nothing but what is wrong; every stray ends the walk.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>

#define SITE __attribute__((noinline, noclone))
#define AFTER() __asm__ volatile("" ::: "memory") /* no tail call */
#define PAGE ((size_t)4096)
#define UNMAPPED ((uintptr_t)1 << 20) /* never code: no program lies that low */
#define STACK_BYTES ((size_t)256 << 10)

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(99);
}

static SITE void leaf(void)
{
    free(malloc(24));
    AFTER();
}

/* ---- code that nobody described ---- */

static void (*made)(void *frame_pointer, void (*what)(void));

static void make(void)
{
#if defined(__x86_64__)
    /* push %rbp; mov %rdi, %rbp; call *%rsi; pop %rbp; ret */
    static const unsigned char code[] = {0x55, 0x48, 0x89, 0xfd, 0xff, 0xd6, 0x5d, 0xc3};
#else
    /* stp x29, x30, [sp, #-16]!; mov x29, x0; blr x1; ldp x29, x30, [sp], #16; ret */
    static const uint32_t code[] = {0xa9bf7bfd, 0xaa0003fd, 0xd63f0020, 0xa8c17bfd, 0xd65f03c0};
#endif
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        fail("no memory for code");
    memcpy(page, code, sizeof code);
    __builtin___clear_cache(page, page + sizeof code);
    if (mprotect(page, PAGE, PROT_READ | PROT_EXEC) != 0)
        fail("memory cannot be made code");
    made = (void (*)(void *, void (*)(void)))(void *)page;
}

static SITE void stray(void *frame_pointer)
{
    made(frame_pointer, leaf);
    AFTER();
}

/* ---- frame pointers that lead nowhere ---- */

static uintptr_t far_frame[2];
static char *region; /* STACK_BYTES of stack, and a page that nobody may touch */

/* What looks like a frame, but not where a caller's can be. */
static void *as_frame(void *at, uintptr_t return_address)
{
    ((uintptr_t *)at)[0] = 0;
    ((uintptr_t *)at)[1] = return_address;
    return at;
}

static void on_region(void)
{
    uintptr_t here[2], code = (uintptr_t)&fail + 5;
    stray(region + STACK_BYTES + 64);
    stray(as_frame(region, code));
    stray(as_frame(far_frame, code));
    stray(as_frame(here, 16));
    stray(as_frame(here, UNMAPPED)); /* could be: it is followed, and leads nowhere */
    stray(NULL);
    stray((void *)(UINTPTR_MAX & ~(uintptr_t)7));
}

/* Where the last walk ended, which can no longer be read. */
static void below_the_hole(void)
{
    stray(region + STACK_BYTES - 512);
}

static void run_on(size_t bytes, void (*what)(void))
{
    static __thread ucontext_t here, there;
    getcontext(&there);
    there.uc_stack.ss_sp = region;
    there.uc_stack.ss_size = bytes;
    there.uc_link = &here;
    makecontext(&there, what, 0);
    swapcontext(&here, &there);
}

static void protect(char *from, size_t bytes, int how)
{
    if (mprotect(from, bytes, how) != 0)
        fail("memory cannot be protected");
}

static void on_stacks_with_holes(void)
{
    protect(region + STACK_BYTES, PAGE, PROT_NONE);
    run_on(STACK_BYTES, on_region);
    for (int i = 0; i < 3; i++) {
        run_on(STACK_BYTES, leaf);
        protect(region + STACK_BYTES / 2, STACK_BYTES / 2, PROT_NONE);
        run_on(STACK_BYTES / 2, below_the_hole);
        protect(region + STACK_BYTES / 2, STACK_BYTES / 2, PROT_READ | PROT_WRITE);
    }
    protect(region + STACK_BYTES, PAGE, PROT_READ | PROT_WRITE);
}

static char *memory(size_t bytes)
{
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        fail("no memory for a stack");
    return at;
}

static void *in_thread(void *unused)
{
    on_stacks_with_holes();
    return unused;
}

static void start(size_t stack_bytes, char *stack)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    if (stack && pthread_attr_setstack(&attributes, stack, stack_bytes) != 0)
        fail("not a stack");
    if (pthread_create(&thread, &attributes, in_thread, NULL) != 0)
        fail("no thread");
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}

static void strays(void)
{
    make();
    /* Above the main thread's stack, whose last words are the program's name. */
    const char *name = (const char *)getauxval(AT_EXECFN);
    uintptr_t end = ((uintptr_t)name + strlen(name) + 9 + PAGE - 1) & ~(PAGE - 1);
    unsigned char there;
    if (mincore((void *)end, PAGE, &there) != 0)
        stray((void *)(end + 64));
    region = memory(STACK_BYTES + PAGE);
    on_stacks_with_holes();
    start(0, NULL);
    /* The lower end of a thread's own stack. */
    size_t own = 4 * STACK_BYTES;
    region = memory(own);
    start(own, region);
}

/* ---- who looks through the loader's objects ---- */

static void *allocate(void *unused)
{
    for (int i = 0; i < 100; i++)
        leaf();
    return unused;
}

static int wait_for_a_thread(struct dl_phdr_info *info, size_t bytes, void *unused)
{
    pthread_t thread;
    (void)info;
    (void)bytes;
    if (pthread_create(&thread, NULL, allocate, unused) != 0)
        fail("no thread");
    leaf();
    pthread_join(thread, NULL);
    return 1;
}

int main(int count, char **words)
{
    const char *what = count > 1 ? words[1] : "";
    if (strcmp(what, "strays") == 0)
        strays();
    else if (strcmp(what, "iterated") == 0)
        dl_iterate_phdr(wait_for_a_thread, NULL);
    else
        fail("strays, or iterated");
    return 0;
}
