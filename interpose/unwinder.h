/*
 * unwinder.h: the stack of the calling thread, as return addresses.
 *
 * Nothing here takes a lock, allocates, or calls the loader but for
 * _dl_find_object, which is lock-free: a walk may begin inside any hook, any
 * signal handler, and under any lock of the program's.
 *
 *   unwind_modules.c  which object an address lies in, and that it still does
 *   unwind_stack.c    reading a stack safely
 *   unwind_tables.c   finds a function's entry in .eh_frame
 *   unwind_cfi.c      one step, from that entry
 *   unwind_full.c     the slow walk, for code that keeps its frame in a register
 *                     that the fast one does not follow
 *   unwind.c          the walk, and its cache of steps
 *   unwind_memo.c     whole walks, to be known again by the words that they read
 *
 * Words
 *   at     the address that is looked up for a frame: one less than its return
 *          address (the call itself), or where a signal interrupted it. What
 *          frames hold is `at + 1`, so that a reader always looks one before.
 *   step   how to get from a frame to its caller: see HL_STEP_*.
 */
#ifndef HL_UNWINDER_H
#define HL_UNWINDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sys.h"

#pragma GCC visibility push(hidden)

/* What a stack is cut to: the innermost calls are kept. */
#define HL_MAX_FRAMES 256u

/* Registers by their DWARF numbers. */
#if defined(__x86_64__)
#define HL_REGISTERS 17u
enum { HL_REG_FP = 6, HL_REG_SP = 7, HL_REG_RA = 16 };
#else
#define HL_REGISTERS 32u
enum { HL_REG_FP = 29, HL_REG_RA = 30, HL_REG_SP = 31 };
#endif
enum { HL_REG_CFA = 254, HL_REG_NONE = 255 }; /* in a form only */

/* ---- what a walk came to ---- */

enum {
    HL_WALK_WHOLE = 0, /* down to where the thread, or its coroutine, began */
    HL_WALK_DEEP = 1,  /* HL_MAX_FRAMES were not enough */
    HL_WALK_LOST = 2,  /* code that nothing is known of, or a stack that cannot be read */
    HL_WALK_TORN = 3,  /* a signal handler walked meanwhile: there are no frames */
    HL_WALK_GUESSED = 4, /* a bit more: some frames were found by frame pointers alone */
};

/* ---- one row of unwinding data ---- */

/* Where a register of the caller's is found. */
enum {
    HL_RULE_SAME = 0,
    HL_RULE_UNDEFINED,
    HL_RULE_AT,       /* in memory at the form's value */
    HL_RULE_VALUE,    /* it is the form's value */
    HL_RULE_UNKNOWN,  /* in a way that is not understood */
};

/* A value: a register plus `first`; with `deref`, what memory holds there plus `then`. */
typedef struct hl_rule {
    uint8_t how;
    uint8_t reg;
    uint8_t deref;
    int32_t first;
    int32_t then;
} hl_rule;

typedef struct hl_row {
    hl_rule cfa;
    hl_rule regs[HL_REGISTERS];
} hl_row;

/* ---- one step, in a word ---- */

/*
 * From bit 0: kind (4), where the caller's frame pointer is (16, signed, in
 * words from the CFA; 0: nowhere, it still has it), the same of the return
 * address (16; not used on x86_64, where it is always the word before the CFA),
 * the CFA's distance from its register (28, signed). A HL_STEP_*_DEREF has in
 * place of the return address what is added to the word read.
 */
enum {
    HL_STEP_EMPTY = 0,
    HL_STEP_SP,
    HL_STEP_FP,
    HL_STEP_SP_DEREF,
    HL_STEP_FP_DEREF,
    HL_STEP_ALIGNED = 6, /* a realigned frame: as the last, and the caller's frame pointer is where ours points */
    HL_STEP_SIGNAL,      /* the kernel's frame of a signal */
    HL_STEP_END,         /* nobody called this */
    HL_STEP_FULL,        /* more registers are needed: unwind_full.c */
    HL_STEP_NO_DATA,
};

HL_INLINE unsigned hl_step_kind(uint64_t step)
{
    return step & 15;
}

HL_INLINE intptr_t hl_step_fp(uint64_t step)
{
    return (int16_t)(step >> 4) * (intptr_t)sizeof(uintptr_t);
}

HL_INLINE intptr_t hl_step_second(uint64_t step)
{
    return (int16_t)(step >> 20);
}

HL_INLINE intptr_t hl_step_cfa(uint64_t step)
{
    return (int64_t)step >> 36;
}

/* ---- a thread's walker ---- */

/* An object as walks know it. */
typedef struct hl_code {
    uintptr_t start;
    uintptr_t bytes;
    uint64_t identity;     /* of this object at this place: no other has it */
    const uint8_t *header; /* .eh_frame_hdr; NULL: none */
    const void *link_map;
    const uint64_t *mark;  /* a word of its build-id or ELF header, to know it again by */
    uint64_t marked[3];    /* that word, and two of `header` */
    uint32_t walk;         /* the walk that has seen it here; what is on the stack stays until it ends */
    bool stays;            /* it was there from the start, so it is never unloaded */
} hl_code;

/* What a walk depends on: that these words are on the stack, and that these objects are where they were. */
#define HL_NOTED_WORDS 256u
#define HL_NOTED_OBJECTS 4u
typedef struct hl_noted {
    uintptr_t at;
    uint64_t value;
} hl_noted;
typedef struct hl_notes {
    uint32_t walk;     /* whose they are; 0: nobody's, or they are not complete */
    uint32_t words;
    uint32_t objects;  /* that may be unloaded, with their identities */
    bool uses_fp;      /* the frame pointer that the walk began with */
    hl_noted word[HL_NOTED_WORDS];
    hl_noted object[HL_NOTED_OBJECTS];
} hl_notes;

struct hl_memo;

#define HL_WALK_CODES 8u
#define HL_REMEMBERED 6u

/* All that a walk writes, so that it takes next to nothing of a stack that may be small. */
typedef struct hl_walker {
    uint64_t registers[HL_REGISTERS]; /* as hl_unwind's caller has them; first, for its assembly */
    uintptr_t low, bytes;             /* stack of this thread's that can be read straight away */
    uint32_t walk;                    /* number of the walk; grows */
    uint32_t how;                     /* HL_WALK_* of the last */
    uint32_t turn;
    uint32_t unsafe_reads;            /* of this walk: words that lay elsewhere */
    uint32_t asked_pages;             /* that the kernel was asked about for hl_trust, by this thread */
    uint64_t objects;                 /* of this walk: the identities of all objects in it, added up */
    uintptr_t page;                   /* of this walk: number of one that can be read; 0: none */
    struct hl_memo *memo;             /* NULL: this thread's walks are not remembered */
    uint32_t count;                   /* frames of the last walk that hl_unwind_known made */
    uint64_t frames[HL_MAX_FRAMES];
    hl_code codes[HL_WALK_CODES];
    hl_row row, initial, remembered[HL_REMEMBERED];
} hl_walker;

/*
 * Walks the caller's stack and leaves it in `frames`, innermost first. Frames
 * before `call_site` are left out; 0: none is. Gives their number.
 */
uint32_t hl_unwind(hl_walker *walker, uint64_t call_site);

/*
 * The same with what earlier walks of the thread came to: where the stack is as it
 * was in one of them, gives what hl_unwind_keep was told of that. Else 0, and
 * walker->count frames. `tag` is whatever else the answer depends on, and `before`
 * is walker->walk, by which a handler is noticed that comes on the way in.
 */
uint32_t hl_unwind_known(hl_walker *walker, uint64_t call_site, uint32_t tag, uint32_t before);
/* After hl_unwind_known gave 0: what to give next time, not 0. */
void hl_unwind_keep(hl_walker *walker, uint64_t call_site, uint32_t tag, uint32_t answer);
size_t hl_memo_bytes(void);

/*
 * Once, before the first walk; false if memory is refused. `find_object` is
 * _dl_find_object; NULL: glibc is older than 2.35.
 */
bool hl_unwind_begin(void *find_object);
size_t hl_unwind_bytes(void); /* that it takes, of which what is used takes memory */

/* For a thread that takes over another's walker. */
void hl_memo_forget(struct hl_memo *memo);
HL_INLINE void hl_walker_reset(hl_walker *walker)
{
    walker->low = walker->bytes = 0;
    walker->asked_pages = 0;
    if (walker->memo)
        hl_memo_forget(walker->memo);
}

/* ---- between the files ---- */

/* Signed return addresses carry their signature above the address. */
HL_INLINE uintptr_t hl_stripped(uintptr_t ra)
{
#if defined(__aarch64__)
    return ra & 0xffffffffffffull;
#else
    return ra;
#endif
}

/* A word of the stack, wherever it is; false if it cannot be read. */
HL_COLD bool hl_load_slow(hl_walker *walker, uintptr_t at, uintptr_t *value);

#define HL_MOST_STACK ((uintptr_t)64 << 20)

/* Called after a walk went from `low` straight to its thread's beginning at `high`. */
HL_COLD void hl_trust(hl_walker *walker, uintptr_t low, uintptr_t high);
void hl_stacks_begin(void);

/* Stack that can be read straight away: where a word may begin. */
typedef struct hl_trusted {
    uintptr_t low, bytes;
} hl_trusted;
/* That of a walk which begins at `sp`. */
hl_trusted hl_trusted_of(const hl_walker *walker, uintptr_t sp);

/* The object around an address, as of this walk; NULL: none that is known. */
HL_COLD const hl_code *hl_code_around(hl_walker *walker, uintptr_t at);
bool hl_codes_begin(void *found);

/* How to leave the frame that `at` is in. Uses the walker's rows. */
uint64_t hl_cfi_step(hl_walker *walker, const hl_code *code, uintptr_t at);

enum { HL_CFI_NONE = 0, HL_CFI_FRAME = 1, HL_CFI_SIGNAL = 2 };
/* The same in full, in walker->row: whether there is one, and whether it is a signal's. */
int hl_cfi_row(hl_walker *walker, const hl_code *code, uintptr_t at);

/* True where the kernel left the frame of a signal that returns to `at + 1`. */
bool hl_is_sigreturn(const hl_code *code, uintptr_t at);

/* Where in such a frame, from the stack pointer on, the interrupted code's registers are. */
#if defined(__x86_64__)
#define HL_SIGNAL_REGISTER(place) (40u + 8u * (place)) /* REG_R8 ... of <sys/ucontext.h> */
#define HL_SIGNAL_FP HL_SIGNAL_REGISTER(10)
#define HL_SIGNAL_SP HL_SIGNAL_REGISTER(15)
#define HL_SIGNAL_PC HL_SIGNAL_REGISTER(16)
#else
#define HL_SIGNAL_REGISTER(place) (312u + 8u * (place)) /* x0 to x30, sp, pc */
#define HL_SIGNAL_FP HL_SIGNAL_REGISTER(29)
#define HL_SIGNAL_LR HL_SIGNAL_REGISTER(30)
#define HL_SIGNAL_SP HL_SIGNAL_REGISTER(31)
#define HL_SIGNAL_PC HL_SIGNAL_REGISTER(32)
#endif

uint32_t hl_unwind_from(hl_walker *walker, uint64_t call_site);
/* The same, with notes of what the walk depends on. */
uint32_t hl_unwind_noting(hl_walker *walker, uint64_t call_site, hl_notes *notes);
uint32_t hl_unwind_full(hl_walker *walker, uint64_t call_site);

/*
 * Defines an entry of the unwinder: it notes the registers that its caller will
 * have back, and goes on in C with its arguments: there a compiler may have put
 * others into them. Tail calls leave the stack as it is.
 */
#if defined(__x86_64__)
#define HL_WALK_ENTRY(name, goes_on)                                                                           \
    __asm__(".pushsection .text\n"                                                                             \
            ".p2align 4\n"                                                                                     \
            ".globl " name "\n"                                                                                \
            ".hidden " name "\n"                                                                               \
            ".type " name ", @function\n" name ":\n\t"                                                         \
            ".cfi_startproc\n\t"                                                                               \
            "endbr64\n\t"                                                                                      \
            "movq %rbx, 8*3(%rdi)\n\t"                                                                         \
            "movq %rbp, 8*6(%rdi)\n\t"                                                                         \
            "leaq 8(%rsp), %rax\n\t"                                                                           \
            "movq %rax, 8*7(%rdi)\n\t"                                                                         \
            "movq %r12, 8*12(%rdi)\n\t"                                                                        \
            "movq %r13, 8*13(%rdi)\n\t"                                                                        \
            "movq %r14, 8*14(%rdi)\n\t"                                                                        \
            "movq %r15, 8*15(%rdi)\n\t"                                                                        \
            "movq (%rsp), %rax\n\t"                                                                            \
            "movq %rax, 8*16(%rdi)\n\t"                                                                        \
            "jmp " goes_on "\n\t"                                                                              \
            ".cfi_endproc\n\t"                                                                                 \
            ".size " name ", . - " name "\n\t"                                                                 \
            ".popsection")
#else
#define HL_WALK_ENTRY(name, goes_on)                                                                           \
    __asm__(".pushsection .text\n"                                                                             \
            ".p2align 4\n"                                                                                     \
            ".globl " name "\n"                                                                                \
            ".hidden " name "\n"                                                                               \
            ".type " name ", %function\n" name ":\n\t"                                                         \
            ".cfi_startproc\n\t"                                                                               \
            "hint #34\n\t" /* bti c */                                                                         \
            "stp x19, x20, [x0, #8*19]\n\t"                                                                    \
            "stp x21, x22, [x0, #8*21]\n\t"                                                                    \
            "stp x23, x24, [x0, #8*23]\n\t"                                                                    \
            "stp x25, x26, [x0, #8*25]\n\t"                                                                    \
            "stp x27, x28, [x0, #8*27]\n\t"                                                                    \
            "stp x29, x30, [x0, #8*29]\n\t"                                                                    \
            "mov x9, sp\n\t"                                                                                   \
            "str x9, [x0, #8*31]\n\t"                                                                          \
            "b " goes_on "\n\t"                                                                                \
            ".cfi_endproc\n\t"                                                                                 \
            ".size " name ", . - " name "\n\t"                                                                 \
            ".popsection")
#endif
_Static_assert(offsetof(hl_walker, registers) == 0, "where the assembly above writes");

#pragma GCC visibility pop

#endif
