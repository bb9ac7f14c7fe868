/*
 * unwind_memo.c: whole walks, to be known again by the words that they read.
 *
 * Where a walk begins at the same address with the same stack pointer as an
 * earlier one, it comes to the same frames if every word that the earlier one
 * read is still there: what is read next follows from what was read before. So
 * one comparison a word takes the place of a step a frame, and what a caller
 * made of the frames need not be made again.
 *
 * Only walks over the thread's own stack by steps of the usual kinds are kept:
 * none over a signal's frame, none that guessed. That stack can be read as long as
 * the thread is there, and the next thread's memo is empty. An object that can be unloaded
 * is asked after as in any walk; what the program began with is always there.
 */
#include "unwinder.h"

/*
 * What is kept lies in a ring, each walk in one piece: its record, its words,
 * its objects. A place in the ring is counted on for ever, so that a cell tells
 * by itself whether what it names has been overwritten. A piece is complete
 * before a cell names it, and a signal handler's is another one.
 */
#define RING_UNITS 8192u /* of 16 bytes */
#define CELL_BITS 10
#define WAYS 4u

typedef struct record {
    uintptr_t at, sp, fp;
    uint64_t call_site;
    uint32_t tag, answer;
    uint16_t words, objects;
    bool uses_fp;
} record;

#define RECORD_UNITS (sizeof(record) / sizeof(hl_noted))
_Static_assert(sizeof(record) % sizeof(hl_noted) == 0, "a record is whole units");

typedef struct hl_memo {
    uint64_t cursor; /* units ever handed out, and RING_UNITS more at each forgetting */
    uint64_t cells[1 << CELL_BITS]; /* where a record begins; WAYS places by what the walk begins with, newest first */
    hl_notes notes; /* of the walk that was made last */
    hl_noted ring[RING_UNITS];
} hl_memo;

size_t hl_memo_bytes(void)
{
    return sizeof(hl_memo);
}

void hl_memo_forget(hl_memo *memo)
{
    memo->cursor += RING_UNITS;
}

HL_INLINE uint32_t cell_of(uintptr_t sp, uint64_t call_site, uint32_t tag)
{
    uint64_t hash = (sp ^ call_site << 16 ^ (uint64_t)tag << 40) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(hash >> (64 - CELL_BITS)) & ~(WAYS - 1);
}

/* NULL where it was overwritten, or there never was one. */
HL_INLINE const record *record_at(const hl_memo *memo, uint64_t place)
{
    if (place + RING_UNITS <= memo->cursor)
        return NULL;
    return (const void *)&memo->ring[place % RING_UNITS];
}

HL_INLINE bool begins_alike(const record *kept, const hl_walker *walker, uint64_t call_site, uint32_t tag)
{
    return kept->sp == walker->registers[HL_REG_SP] && kept->call_site == call_site && kept->tag == tag &&
           kept->at == walker->registers[HL_REG_RA] &&
           (!kept->uses_fp || kept->fp == walker->registers[HL_REG_FP]);
}

static HL_COLD bool objects_are_there(hl_walker *walker, const hl_noted *objects, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const hl_code *code = hl_code_around(walker, objects[i].at);
        if (!code || code->identity != objects[i].value)
            return false;
    }
    return true;
}

HL_INLINE bool is_interrupted(const hl_walker *walker, uint32_t walk)
{
    return HL_UNLIKELY(*(const volatile uint32_t *)&walker->walk != walk);
}

/*
 * A handler that walks meanwhile may keep its walk where ours is read from. So what
 * was read is used only if none has come since, also for finding the next word.
 */
HL_INLINE bool goes_alike(hl_walker *walker, const record *kept, uint32_t walk)
{
    const uint32_t words = *(const volatile uint16_t *)&kept->words;
    const uint32_t objects = *(const volatile uint16_t *)&kept->objects;
    const hl_noted *word = (const hl_noted *)(const void *)(kept + 1), *end = word + words;
    for (; word != end; word++) {
        uintptr_t at = word->at;
        __asm__ volatile("" : "+r"(at) : : "memory"); /* read before the next, and not again; a volatile one costs more */
        if (HL_UNLIKELY(walker->walk != walk) || *(const uintptr_t *)at != word->value)
            return false;
    }
    return HL_LIKELY(!objects) || objects_are_there(walker, end, objects);
}

uint32_t hl_unwind_known_from(hl_walker *walker, uint64_t call_site, uint32_t tag, uint32_t before);

/* The registers that were noted are another walk's. */
static HL_COLD uint32_t torn(hl_walker *walker)
{
    walker->memo->notes.walk = 0;
    walker->how = HL_WALK_TORN;
    walker->count = 0;
    return 0;
}

uint32_t hl_unwind_known_from(hl_walker *walker, uint64_t call_site, uint32_t tag, uint32_t before)
{
    hl_memo *memo = walker->memo;
    if (HL_UNLIKELY(*(volatile uint32_t *)&walker->walk != before))
        return torn(walker);
    const uint32_t walk = ++walker->walk, cell = cell_of(walker->registers[HL_REG_SP], call_site, tag);
    for (uint32_t way = 0; way < WAYS; way++) {
        const record *kept = record_at(memo, memo->cells[cell + way]);
        if (!kept || !begins_alike(kept, walker, call_site, tag) || !goes_alike(walker, kept, walk))
            continue;
        uint32_t answer = *(const volatile uint32_t *)&kept->answer;
        /* A handler may have overwritten what we compared with. */
        if (HL_LIKELY(!is_interrupted(walker, walk)))
            return answer;
    }
    if (is_interrupted(walker, walk))
        return torn(walker);
    walker->count = hl_unwind_noting(walker, call_site, &memo->notes);
    return 0;
}

HL_WALK_ENTRY("hl_unwind_known", "hl_unwind_known_from");

/* Units in one piece. */
static uint64_t take(hl_memo *memo, uint32_t units)
{
    uint64_t place;
    do
        place = __atomic_fetch_add(&memo->cursor, units, __ATOMIC_RELAXED);
    while (place % RING_UNITS + units > RING_UNITS);
    return place;
}

void hl_unwind_keep(hl_walker *walker, uint64_t call_site, uint32_t tag, uint32_t answer)
{
    hl_memo *memo = walker->memo;
    const hl_notes *notes = &memo->notes;
    const uint32_t walk = walker->walk;
    if (notes->walk != walk)
        return;
    /* Read once: a handler's walk may change them, and count more than there is room for. */
    const uint32_t words = *(const volatile uint32_t *)&notes->words;
    const uint32_t objects = *(const volatile uint32_t *)&notes->objects;
    if (!words || words > HL_NOTED_WORDS || objects > HL_NOTED_OBJECTS)
        return;
    const uint64_t place = take(memo, (uint32_t)RECORD_UNITS + words + objects);
    record *kept = (void *)&memo->ring[place % RING_UNITS];
    hl_noted *to = (hl_noted *)(void *)(kept + 1);
    for (uint32_t i = 0; i < words; i++)
        to[i] = notes->word[i];
    for (uint32_t i = 0; i < objects; i++)
        to[words + i] = notes->object[i];
    *kept = (record){.at = walker->registers[HL_REG_RA],
                     .sp = walker->registers[HL_REG_SP],
                     .fp = walker->registers[HL_REG_FP],
                     .call_site = call_site,
                     .tag = tag,
                     .answer = answer,
                     .words = (uint16_t)words,
                     .objects = (uint16_t)objects,
                     .uses_fp = notes->uses_fp};
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (is_interrupted(walker, walk)) {
        /* A handler came: the notes may be its, and if it filled the ring, we have written into what it kept. */
        if (memo->cursor - place > RING_UNITS)
            hl_memo_forget(memo);
        return;
    }
    uint64_t *cells = &memo->cells[cell_of(kept->sp, call_site, tag)];
    for (uint32_t way = WAYS - 1; way; way--)
        cells[way] = cells[way - 1];
    cells[0] = place;
}
