/*
 * unwind.c: the walk, and its cache of steps.
 *
 * A warm walk does, for each frame, one look into the cache and one or two
 * reads of the stack. What is not in the cache is learnt from .eh_frame once.
 */
#include "unwinder.h"

/* ---- the cache ---- */

/*
 * From an address and its object's identity to a step. `proof` is the key XOR
 * the step: a reader that sees two different writers' halves sees no match.
 */
typedef struct hl_cell {
    uint64_t proof;
    uint64_t step;
} hl_cell;

#define CACHE_BITS 15 /* 512 KiB, of which what is used takes memory */
#define CACHE_CELLS (1u << CACHE_BITS)
static hl_cell *cache;

#define NOBODY 0x5bd1e995cc9e2d51ull /* the identity of no object */

HL_INLINE uint64_t spread(uintptr_t at)
{
    return at * 0x9e3779b97f4a7c15ull;
}

HL_INLINE uint64_t looked_up(const hl_cell *cell, uint64_t key)
{
    uint64_t step = __atomic_load_n(&cell->step, __ATOMIC_RELAXED);
    return (__atomic_load_n(&cell->proof, __ATOMIC_RELAXED) ^ step) == key ? step : HL_STEP_EMPTY;
}

static void set(hl_cell *cell, uint64_t key, uint64_t step)
{
    __atomic_store_n(&cell->step, step, __ATOMIC_RELAXED);
    __atomic_store_n(&cell->proof, key ^ step, __ATOMIC_RELAXED);
}

/* The second of the two places; then .eh_frame, whose answer takes the first. */
static HL_COLD uint64_t learn(hl_walker *walker, const hl_code *code, uintptr_t at, uint64_t key)
{
    hl_cell *first = &cache[spread(at) >> (64 - CACHE_BITS)];
    hl_cell *second = &cache[(spread(at) >> (64 - CACHE_BITS)) ^ 1];
    uint64_t step = looked_up(second, key);
    if (step != HL_STEP_EMPTY)
        return step;
    uint32_t walk = walker->walk;
    step = hl_cfi_step(walker, code, at);
    if (walker->walk != walk) /* a handler's walk used the same rows */
        return HL_STEP_NO_DATA;
    uint64_t old_step = __atomic_load_n(&first->step, __ATOMIC_RELAXED);
    uint64_t old_key = __atomic_load_n(&first->proof, __ATOMIC_RELAXED) ^ old_step;
    if (old_step != HL_STEP_EMPTY)
        set(second, old_key, old_step);
    set(first, key, step);
    return step;
}

/* ---- where a walk is ---- */

/* The registers that it follows. */
typedef struct place {
    uintptr_t at, sp, fp;
#if defined(__aarch64__)
    uintptr_t lr;
#endif
} place;

HL_INLINE bool load(hl_walker *walker, hl_trusted stack, uintptr_t at, uintptr_t *value)
{
    if (HL_LIKELY(at - stack.low < stack.bytes)) {
        *value = *(const uintptr_t *)at;
        return true;
    }
    return hl_load_slow(walker, at, value);
}

static bool over_signal(hl_walker *walker, hl_trusted stack, place *here)
{
    uintptr_t sp = here->sp;
#if defined(__aarch64__)
    if (!load(walker, stack, sp + HL_SIGNAL_LR, &here->lr))
        return false;
    here->lr = hl_stripped(here->lr);
#endif
    return load(walker, stack, sp + HL_SIGNAL_FP, &here->fp) && load(walker, stack, sp + HL_SIGNAL_SP, &here->sp) &&
           load(walker, stack, sp + HL_SIGNAL_PC, &here->at);
}

#define LOWEST_CODE ((uintptr_t)1 << 16)
#define HIGHEST_CODE ((uintptr_t)1 << 47)

/*
 * By frame pointer, through code without unwinding data. It is only believed
 * where it leads up the same stack to what can be code.
 */
static bool by_frame_pointer(hl_walker *walker, hl_trusted stack, place *here)
{
    uintptr_t fp = here->fp, next, ra;
#if defined(__aarch64__)
    if (here->lr) { /* a signal came: who called this stub is still in the link register */
        here->at = here->lr - 1;
        here->lr = 0;
        return true;
    }
#endif
    if (fp < here->sp || fp - here->sp > HL_MOST_STACK || !load(walker, stack, fp, &next) ||
        !load(walker, stack, fp + sizeof fp, &ra))
        return false;
    ra = hl_stripped(ra);
    if (ra < LOWEST_CODE || ra >= HIGHEST_CODE)
        return false;
    here->at = ra - 1;
    here->sp = fp + 2 * sizeof fp;
    here->fp = next;
    return true;
}

/* ---- the walk ---- */

/* The CFA; 0: it cannot be read. */
HL_INLINE uintptr_t cfa_of(hl_walker *walker, hl_trusted stack, const place *here, uint64_t step)
{
    unsigned kind = hl_step_kind(step);
    uintptr_t cfa = (kind & 1 ? here->sp : here->fp) + (uintptr_t)hl_step_cfa(step);
    if (HL_LIKELY(kind <= HL_STEP_FP))
        return cfa;
    return load(walker, stack, cfa, &cfa) ? cfa + (uintptr_t)hl_step_second(step) : 0;
}
_Static_assert((HL_STEP_SP & HL_STEP_SP_DEREF & 1) && !((HL_STEP_FP | HL_STEP_FP_DEREF | HL_STEP_ALIGNED) & 1),
               "cfa_of tells them by their lowest bit");

/* Where the caller returns to; false: that cannot be read, or is no caller's. */
HL_INLINE bool to_caller(hl_walker *walker, hl_trusted stack, place *here, uint64_t step)
{
    uintptr_t ra, cfa = cfa_of(walker, stack, here, step);
    if (HL_UNLIKELY(cfa <= here->sp)) {
#if defined(__aarch64__)
        if (cfa != here->sp || hl_step_second(step)) /* a leaf has no frame */
            return false;
#else
        return false;
#endif
    }
#if defined(__aarch64__)
    intptr_t saved = hl_step_second(step) * (intptr_t)sizeof ra;
    ra = here->lr;
    if (saved ? !load(walker, stack, cfa + (uintptr_t)saved, &ra) : !ra)
        return false;
    here->lr = 0;
#else
    if (HL_UNLIKELY(!load(walker, stack, cfa - sizeof ra, &ra)))
        return false;
#endif
    intptr_t fp = hl_step_fp(step);
    if (fp) {
        uintptr_t from = HL_LIKELY(hl_step_kind(step) != HL_STEP_ALIGNED) ? cfa + (uintptr_t)fp : here->fp;
        if (HL_UNLIKELY(!load(walker, stack, from, &here->fp)))
            return false;
    }
    here->at = hl_stripped(ra) - 1;
    here->sp = cfa;
    return true;
}

#define AT_NOBODY UINTPTR_MAX /* one less than the return address 0 */

uint32_t hl_unwind_from(hl_walker *walker, uint64_t call_site)
{
    walker->walk++;
    walker->page = 0;
    walker->unsafe_reads = 0;
    walker->objects = 0;
    const uint32_t walk = walker->walk;
    place here = {.at = walker->registers[HL_REG_RA] - 1,
                  .sp = walker->registers[HL_REG_SP],
                  .fp = walker->registers[HL_REG_FP]};
    const hl_trusted stack = hl_trusted_of(walker, here.sp);
    uintptr_t run_start = here.sp, start = 0, bytes = 0;
    uint64_t identity = 0;
    const hl_code *code = NULL;
    uint32_t count = 0, sure = 0, how = HL_WALK_DEEP, guessed = 0;
    bool ours = call_site != 0, doubtful = false;
    for (uint32_t steps = 0; count < HL_MAX_FRAMES && steps < 2 * HL_MAX_FRAMES; steps++) {
        if (HL_UNLIKELY(here.at == AT_NOBODY)) {
            how = HL_WALK_WHOLE;
            break;
        }
        if (HL_UNLIKELY(here.at - start >= bytes)) {
            code = hl_code_around(walker, here.at);
            start = code ? code->start : here.at;
            bytes = code ? code->bytes : 1;
            identity = code ? code->identity : NOBODY;
        }
        ours = ours && here.at + 1 != call_site;
        if (HL_LIKELY(!ours))
            walker->frames[count++] = here.at + 1;
        if (HL_UNLIKELY(doubtful))
            doubtful = !code;
        uint64_t hash = spread(here.at), key = hash ^ identity;
        uint64_t step = looked_up(&cache[hash >> (64 - CACHE_BITS)], key);
        if (HL_UNLIKELY(step == HL_STEP_EMPTY))
            step = learn(walker, code, here.at, key);
        unsigned kind = hl_step_kind(step);
        how = HL_WALK_LOST;
        if (HL_LIKELY(kind <= HL_STEP_ALIGNED)) {
            if (!to_caller(walker, stack, &here, step))
                break;
        } else if (kind == HL_STEP_FULL) {
            return hl_unwind_full(walker, call_site);
        } else if (kind == HL_STEP_SIGNAL) {
            if (!over_signal(walker, stack, &here))
                break;
            run_start = here.sp;
        } else {
            /* The loader's own beginning has no data, and is where the kernel left the frame pointer 0. */
            bool end = kind == HL_STEP_END || (code && !here.fp);
            if (end)
                how = HL_WALK_WHOLE;
            if (end || ours || !by_frame_pointer(walker, stack, &here))
                break;
            sure = doubtful ? sure : count;
            doubtful = true;
            guessed = HL_WALK_GUESSED;
            run_start = here.sp;
        }
        how = HL_WALK_DEEP;
    }
    if (how == HL_WALK_WHOLE && walker->unsafe_reads && !guessed)
        hl_trust(walker, run_start, here.sp);
    if (doubtful) /* guesses that led nowhere */
        count = sure;
    walker->how = how | guessed;
    if (walker->walk == walk)
        return count;
    walker->how = HL_WALK_TORN;
    return 0;
}

/* ---- beginning ---- */

/*
 * Notes the registers that its caller will have back, and goes on in C: there a
 * compiler may have put others into them. Tail calls leave the stack as it is.
 */
#if defined(__x86_64__)
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        ".globl hl_unwind\n"
        ".hidden hl_unwind\n"
        ".type hl_unwind, @function\n"
        "hl_unwind:\n\t"
        ".cfi_startproc\n\t"
        "endbr64\n\t"
        "movq %rbx, 8*3(%rdi)\n\t"
        "movq %rbp, 8*6(%rdi)\n\t"
        "leaq 8(%rsp), %rax\n\t"
        "movq %rax, 8*7(%rdi)\n\t"
        "movq %r12, 8*12(%rdi)\n\t"
        "movq %r13, 8*13(%rdi)\n\t"
        "movq %r14, 8*14(%rdi)\n\t"
        "movq %r15, 8*15(%rdi)\n\t"
        "movq (%rsp), %rax\n\t"
        "movq %rax, 8*16(%rdi)\n\t"
        "jmp hl_unwind_from\n\t"
        ".cfi_endproc\n\t"
        ".size hl_unwind, . - hl_unwind\n\t"
        ".popsection");
#else
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        ".globl hl_unwind\n"
        ".hidden hl_unwind\n"
        ".type hl_unwind, %function\n"
        "hl_unwind:\n\t"
        ".cfi_startproc\n\t"
        "hint #34\n\t" /* bti c */
        "stp x19, x20, [x0, #8*19]\n\t"
        "stp x21, x22, [x0, #8*21]\n\t"
        "stp x23, x24, [x0, #8*23]\n\t"
        "stp x25, x26, [x0, #8*25]\n\t"
        "stp x27, x28, [x0, #8*27]\n\t"
        "stp x29, x30, [x0, #8*29]\n\t"
        "mov x2, sp\n\t"
        "str x2, [x0, #8*31]\n\t"
        "b hl_unwind_from\n\t"
        ".cfi_endproc\n\t"
        ".size hl_unwind, . - hl_unwind\n\t"
        ".popsection");
#endif
_Static_assert(offsetof(hl_walker, registers) == 0, "where the assembly above writes");

bool hl_unwind_begin(void *find_object)
{
    hl_stacks_begin();
    cache = hl_reserve(sizeof *cache * CACHE_CELLS);
    return cache && hl_codes_begin(find_object);
}
