/*
 * sample.c: Poisson sampling in bytes, and stacks with what they hold.
 *
 * Every byte that a thread allocates is the next sample's with the same chance,
 * so a block of s bytes is one with 1 - exp(-s / mean). What each stands for is
 * the inverse of that (Horvitz and Thompson), so sums are unbiased whatever the
 * sizes; their spread is summed beside them.
 */
#include "core.h"
#include "lifetimes.h"
#include "stacks.h"
#include "unwinder.h"

/* ---- chance ---- */

/* log(x) of 0 < x <= 1, without libm, to ten digits. */
static double log_of(double x)
{
    union {
        double value;
        uint64_t bits;
    } parts = {x};
    int exponent = (int)(parts.bits >> 52) - 1023;
    parts.bits = (parts.bits & 0xfffffffffffffull) | 1023ull << 52;
    double z = (parts.value - 1) / (parts.value + 1), square = z * z, sum = 0;
    for (int i = 19; i >= 1; i -= 2)
        sum = sum * square + 1.0 / i;
    return exponent * 0.69314718055994530942 + 2 * z * sum;
}

/* exp(-x) of x >= 0. */
static double exp_of_minus(double x)
{
    unsigned halvings = 0;
    if (x > 700)
        return 0;
    for (; x > 0.5; x /= 2)
        halvings++;
    double term = 1, sum = 1;
    for (int i = 1; i <= 12; i++)
        sum += term *= -x / i;
    while (halvings--)
        sum *= sum;
    return sum;
}

/* xorshift64*, of Vigna. */
static uint64_t random_of(hl_sampling *sampling)
{
    uint64_t x = sampling->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    sampling->random = x;
    return x * 0x2545f4914f6cdd1dull;
}

/* Bytes to the next sample: geometric, at least 1. */
static int64_t draw(hl_sampling *sampling)
{
    if (hl.sample_mean_bytes == 1)
        return 1; /* every byte is a sample's, and so is every block */
    double chance = (double)((random_of(sampling) >> 11) + 1) * 0x1p-53;
    double bytes = -log_of(chance) * (double)hl.sample_mean_bytes;
    int64_t whole = (int64_t)bytes;
    return whole + 1;
}

static void begin_piece(hl_sampling *sampling, uint32_t side)
{
    int64_t gap = sampling->gap_bytes[side];
    sampling->piece_bytes[side] = gap < HL_QUANTUM ? gap : HL_QUANTUM;
}

bool hl_sample_due(hl_sampling *sampling, uint32_t side, int64_t counted)
{
    sampling->gap_bytes[side] -= sampling->piece_bytes[side] + counted;
    bool due = sampling->gap_bytes[side] <= 0;
    if (due)
        sampling->gap_bytes[side] = draw(sampling);
    begin_piece(sampling, side);
    return due;
}

void hl_sampling_start(hl_sampling *sampling, hl_slot *slot, struct hl_walker *walker)
{
    uint64_t random = 0;
    if (hl.sample_seed)
        random = (hl.sample_seed + __atomic_load_n(&hl.header->slot_count, __ATOMIC_RELAXED)) * 0x9e3779b97f4a7c15ull;
    else if (HL_SYS3(SYS_getrandom, &random, sizeof random, 1 /* GRND_NONBLOCK */) != sizeof random)
        random = (uintptr_t)sampling * 0x9e3779b97f4a7c15ull;
    sampling->random = random ? random : 1;
    sampling->walker = walker;
    for (int warm = 0; warm < 8; warm++)
        random_of(sampling);
    for (uint32_t side = 0; side < HL_SIDES; side++) {
        sampling->gap_bytes[side] = draw(sampling);
        begin_piece(sampling, side);
        slot->flow[side].allocated_bytes = (uint64_t)sampling->piece_bytes[side];
        slot->hot.allocated[side] = -sampling->piece_bytes[side];
    }
}

/* ---- what a sample stands for ---- */

static hl_weights weights_of(uint64_t bytes)
{
    double mean = (double)hl.sample_mean_bytes, x = (double)bytes / mean, weight;
    if (hl.sample_mean_bytes == 1)
        weight = 1;
    else if (x < 0.01) /* where 1 - exp(-x) would lose digits; the series' next term is below 1e-13 */
        weight = 1 / x + 0.5 + x / 12 - x * x * x / 720;
    else
        weight = 1 / (1 - exp_of_minus(x));
    double spread = weight * (weight - 1);
    return (hl_weights){
        .samples = 1,
        .blocks = (uint64_t)(weight * HL_WEIGHT_BLOCK + 0.5),
        .bytes = (uint64_t)(weight * (double)bytes + 0.5),
        .spread_blocks = (uint64_t)(spread + 0.5),
        .spread_bytes = (uint64_t)(spread * x * x * HL_WEIGHT_SPREAD + 0.5),
    };
}

static hl_weights add(hl_weights *to, uint64_t bytes)
{
    const hl_weights more = weights_of(bytes);
    __atomic_fetch_add(&to->samples, more.samples, __ATOMIC_RELAXED);
    __atomic_fetch_add(&to->blocks, more.blocks, __ATOMIC_RELAXED);
    __atomic_fetch_add(&to->bytes, more.bytes, __ATOMIC_RELAXED);
    __atomic_fetch_add(&to->spread_blocks, more.spread_blocks, __ATOMIC_RELAXED);
    __atomic_fetch_add(&to->spread_bytes, more.spread_bytes, __ATOMIC_RELAXED);
    return more;
}

static hl_sampled *row_at(uint32_t index)
{
    return hl_row_at(index);
}

/* ---- live samples, by address ---- */

/*
 * Tables of growing size, each made when the ones before have no place left near
 * where a block's hash points. A place is claimed, filled, and then says whose it is.
 */
typedef struct place {
    _Atomic uintptr_t block; /* 0: free; odd: being filled */
    hl_held held;
} place;

#define LEVELS 6u
#define LEVEL_CELLS(level) ((uintptr_t)4096 << (2 * (level)))
#define NEAR 16u
static place *_Atomic levels[LEVELS];

static place *level_at(uint32_t level, bool make)
{
    place *there = atomic_load_explicit(&levels[level], memory_order_acquire);
    if (there || !make)
        return there;
    place *mine = hl_reserve(sizeof *mine * LEVEL_CELLS(level));
    if (!mine)
        return NULL;
    if (atomic_compare_exchange_strong_explicit(&levels[level], &there, mine, memory_order_acq_rel,
                                                memory_order_acquire))
        return mine;
    hl_release(mine, sizeof *mine * LEVEL_CELLS(level));
    return there;
}

static place *nth_near(place *table, uint32_t level, const void *block, uint32_t nth)
{
    uint64_t hash = (uintptr_t)block * 0x9e3779b97f4a7c15ull;
    return &table[((hash >> 32) + nth) % LEVEL_CELLS(level)];
}

static bool hold(const void *block, const hl_held *held)
{
    for (uint32_t level = 0; level < LEVELS; level++) {
        place *table = level_at(level, true);
        for (uint32_t nth = 0; table && nth < NEAR; nth++) {
            place *there = nth_near(table, level, block, nth);
            uintptr_t empty = 0;
            if (!atomic_compare_exchange_strong_explicit(&there->block, &empty, (uintptr_t)block | 1,
                                                         memory_order_acquire, memory_order_relaxed))
                continue;
            there->held = *held;
            atomic_store_explicit(&there->block, (uintptr_t)block, memory_order_release); /* pairs with find */
            return true;
        }
    }
    return false;
}

static place *find(const void *block)
{
    for (uint32_t level = 0; level < LEVELS; level++) {
        place *table = level_at(level, false);
        for (uint32_t nth = 0; table && nth < NEAR; nth++) {
            place *there = nth_near(table, level, block, nth);
            if (atomic_load_explicit(&there->block, memory_order_acquire) == (uintptr_t)block)
                return there;
        }
    }
    return NULL;
}

uint32_t hl_sample_owner(const void *block, uint32_t owner)
{
    const place *there = owner == HL_OWNER_SAMPLED ? find(block) : NULL;
    return there ? there->held.owner : owner;
}

uint32_t hl_sample_take(const void *block, uint32_t owner, hl_held *held)
{
    place *there = owner == HL_OWNER_SAMPLED ? find(block) : NULL;
    held->row = 0;
    held->owner = owner;
    if (!there)
        return owner;
    *held = there->held;
    atomic_store_explicit(&there->block, 0, memory_order_release); /* whoever claims it next writes after we have read */
    return held->owner;
}

void hl_sample_freed(const hl_held *held)
{
    hl_sampled *row = held->row ? row_at(held->row - 1) : NULL;
    if (row)
        hl_lifetime_end(row, held->born_ns, add(&row->freed, held->bytes).blocks);
}

void hl_sample_stays(const void *block, uint16_t *entry, uint16_t before, const hl_held *held)
{
    if (!held->row || hold(block, held)) {
        hl_entry_put(entry, before);
        return;
    }
    hl_sampled *row = row_at(held->row - 1);
    if (row) /* it lives on, but no longer as a sample */
        add(&row->freed, held->bytes);
    __atomic_fetch_add(&hl.header->samples_dropped, 1, __ATOMIC_RELAXED);
    hl_entry_put(entry, hl_entry_with(before, held->owner));
}

/* ---- taking a sample ---- */

void hl_sample(hl_map *map, void *block, uint64_t bytes, uint64_t call_site, uint32_t side)
{
    hl_private *own = hl_me.own;
    hl_walker *walker = own ? own->sampling.walker : NULL;
    uint16_t *entry = hl_map_entry(map, block, map->shift);
    uint32_t owner = walker && entry ? hl_entry_owner(*entry) : 0;
    if (!owner || owner == HL_OWNER_SAMPLED || !bytes)
        return;
    if (call_site == HL_SITE_OF_OWNER)
        call_site = hl_owner_row(owner)->call_site;
    uint32_t count = hl_unwind(walker, call_site);
    hl_stack_key of = hl_key_of_walk(walker, count, &call_site, HL_TAG(side, own->scope), own->slot->tid);
    hl_held held = {.row = hl_row_of(&of), .owner = owner, .bytes = bytes, .born_ns = hl_now_ns()};
    if (!hold(block, &held)) {
        __atomic_fetch_add(&hl.header->samples_dropped, 1, __ATOMIC_RELAXED);
        return;
    }
    hl_sampled *row = row_at(held.row - 1);
    if (row)
        add(&row->allocated, bytes);
    hl_entry_put(entry, hl_entry_with(*entry, HL_OWNER_SAMPLED));
}

/* ---- beginning ---- */

bool hl_sampling_begin(void)
{
    if (!hl_rows_fit() || !level_at(0, true) || !hl_unwind_begin(hl_symbol("_dl_find_object")) ||
        !hl_rows_begin(HL_ROWS_SAMPLED, hl.sample_mean_bytes))
        return false;
    hl_lifetimes_begin(true);
    return true;
}

/* Finds the row's like in this ledger, or makes it, and books what is held there. */
static void inherit(place *there, const hl_samples *before, const void *(*page)(const void *, uint32_t),
                    const void *old)
{
    uint32_t index = there->held.row - 1;
    const hl_sampled *rows = index < HL_MAX_STACKS ? page(old, before->row_pages[index / HL_STACKS_PER_PAGE]) : NULL;
    const hl_stack *row = rows ? &rows[index % HL_STACKS_PER_PAGE].stack : NULL;
    const char *text = row ? page(old, row->frames.reference / HL_PAGE_BYTES) : NULL;
    there->held.row = 0;
    if (!row || !hl.samples)
        return;
    uint64_t frames[HL_MAX_FRAMES];
    uint32_t bytes = text && row->frames.bytes <= sizeof frames ? row->frames.bytes : 0;
    if (bytes)
        hl_copy_bytes(frames, text + row->frames.reference % HL_PAGE_BYTES, bytes);
    hl_stack_key of = {.hash = row->hash,
                       .frames = frames,
                       .count = bytes / (uint32_t)sizeof *frames,
                       .tag = row->tag,
                       .thread = row->thread,
                       .how = row->how};
    there->held.row = row->how == HL_STACK_OVERFLOW ? 1 + HL_TAG_SIDE(row->tag) : hl_row_of(&of);
    hl_sampled *mine = row_at(there->held.row - 1);
    if (mine)
        add(&mine->allocated, there->held.bytes);
}

void hl_sampling_inherit(const hl_header *before, const void *(*page)(const void *, uint32_t), const void *old)
{
    const hl_samples *theirs = before->samples ? page(old, before->samples) : NULL;
    hl.samples = NULL;
    if (!theirs)
        return;
    hl_rows_begin(HL_ROWS_SAMPLED, theirs->mean_bytes);
    hl_lifetimes_begin(false); /* what was born before the fork keeps its age */
    for (uint32_t level = 0; level < LEVELS; level++) {
        place *table = level_at(level, false);
        for (uintptr_t i = 0; table && i < LEVEL_CELLS(level); i++) {
            uintptr_t block = atomic_load_explicit(&table[i].block, memory_order_relaxed);
            if (block && !(block & 1))
                inherit(&table[i], theirs, page, old);
        }
    }
}
