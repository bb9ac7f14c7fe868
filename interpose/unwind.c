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
    uintptr_t fp_from; /* only where notes are taken */
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

/*
 * Notes are taken of every word that the walk's course depends on: not of a frame
 * pointer that nobody uses, which may be a register like any other there.
 */
#define FP_NOTED 0u /* where the frame pointer came from, when that stands in the notes */
#define FP_FIRST 1u /* the walk began with it */

HL_INLINE void note_word(hl_notes *notes, uintptr_t at, uintptr_t value)
{
    if (!notes)
        return;
    if (notes->words < HL_NOTED_WORDS)
        notes->word[notes->words] = (hl_noted){at, value};
    notes->words++;
}

HL_INLINE void note_fp(hl_notes *notes, place *here)
{
    if (!notes || here->fp_from == FP_NOTED)
        return;
    if (here->fp_from == FP_FIRST)
        notes->uses_fp = true;
    else
        note_word(notes, here->fp_from, here->fp);
    here->fp_from = FP_NOTED;
}

/* Only of what may be unloaded. */
HL_INLINE void note_object(hl_notes *notes, const hl_code *code, uintptr_t at)
{
    if (!notes || !code || code->stays)
        return;
    for (uint32_t i = 0; i < notes->objects && i < HL_NOTED_OBJECTS; i++)
        if (notes->object[i].value == code->identity)
            return;
    if (notes->objects < HL_NOTED_OBJECTS)
        notes->object[notes->objects] = (hl_noted){at, code->identity};
    notes->objects++;
}

/* The CFA; 0: it cannot be read. */
HL_INLINE uintptr_t cfa_of(hl_walker *walker, hl_trusted stack, place *here, uint64_t step, hl_notes *notes)
{
    unsigned kind = hl_step_kind(step);
    uintptr_t cfa = (kind & 1 ? here->sp : here->fp) + (uintptr_t)hl_step_cfa(step);
    if (notes && !(kind & 1))
        note_fp(notes, here);
    if (HL_LIKELY(kind <= HL_STEP_FP))
        return cfa;
    uintptr_t from = cfa;
    if (!load(walker, stack, from, &cfa))
        return 0;
    note_word(notes, from, cfa);
    return cfa + (uintptr_t)hl_step_second(step);
}
_Static_assert((HL_STEP_SP & HL_STEP_SP_DEREF & 1) && !((HL_STEP_FP | HL_STEP_FP_DEREF | HL_STEP_ALIGNED) & 1),
               "cfa_of tells them by their lowest bit");

/* Where the caller returns to; false: that cannot be read, or is no caller's. */
HL_INLINE bool to_caller(hl_walker *walker, hl_trusted stack, place *here, uint64_t step, hl_notes *notes)
{
    uintptr_t ra, cfa = cfa_of(walker, stack, here, step, notes);
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
    if (saved)
        note_word(notes, cfa + (uintptr_t)saved, ra);
    here->lr = 0;
#else
    if (HL_UNLIKELY(!load(walker, stack, cfa - sizeof ra, &ra)))
        return false;
    note_word(notes, cfa - sizeof ra, ra);
#endif
    intptr_t fp = hl_step_fp(step);
    if (fp) {
        uintptr_t from = HL_LIKELY(hl_step_kind(step) != HL_STEP_ALIGNED) ? cfa + (uintptr_t)fp : here->fp;
        if (HL_UNLIKELY(!load(walker, stack, from, &here->fp)))
            return false;
        if (notes)
            here->fp_from = from;
    }
    here->at = hl_stripped(ra) - 1;
    here->sp = cfa;
    return true;
}

#define AT_NOBODY UINTPTR_MAX /* one less than the return address 0 */

HL_INLINE uint32_t walk_noting(hl_walker *walker, uint64_t call_site, hl_notes *notes)
{
    walker->walk++;
    walker->page = 0;
    walker->unsafe_reads = 0;
    walker->objects = 0;
    const uint32_t walk = walker->walk;
    bool notable = true;
    place here = {.at = walker->registers[HL_REG_RA] - 1,
                  .sp = walker->registers[HL_REG_SP],
                  .fp = walker->registers[HL_REG_FP],
                  .fp_from = FP_FIRST};
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
            note_object(notes, code, here.at);
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
            if (!to_caller(walker, stack, &here, step, notes)) {
                notable = false;
                break;
            }
        } else if (kind == HL_STEP_FULL) {
            return hl_unwind_full(walker, call_site);
        } else if (kind == HL_STEP_SIGNAL) {
            notable = false;
            if (!over_signal(walker, stack, &here))
                break;
            run_start = here.sp;
        } else {
            /* The loader's own beginning has no data, and is where the kernel left the frame pointer 0. */
            bool end = kind == HL_STEP_END || (code && !here.fp);
            if (kind != HL_STEP_END && end)
                note_fp(notes, &here);
            notable = notable && end;
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
    if (notes && notable && !walker->unsafe_reads && notes->words <= HL_NOTED_WORDS &&
        notes->objects <= HL_NOTED_OBJECTS)
        notes->walk = walk;
    if (walker->walk == walk)
        return count;
    walker->how = HL_WALK_TORN;
    return 0;
}

uint32_t hl_unwind_from(hl_walker *walker, uint64_t call_site)
{
    return walk_noting(walker, call_site, NULL);
}

uint32_t hl_unwind_noting(hl_walker *walker, uint64_t call_site, hl_notes *notes)
{
    notes->walk = notes->words = notes->objects = 0;
    notes->uses_fp = false;
    return walk_noting(walker, call_site, notes);
}

/* ---- beginning ---- */

HL_WALK_ENTRY("hl_unwind", "hl_unwind_from");

size_t hl_unwind_bytes(void)
{
    return sizeof *cache * CACHE_CELLS;
}

bool hl_unwind_begin(void *find_object)
{
    hl_stacks_begin();
    cache = hl_reserve(hl_unwind_bytes());
    return cache && hl_codes_begin(find_object);
}
