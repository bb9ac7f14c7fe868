/*
 * lifetimes.c: how long sampled blocks live, by side and by stack.
 *
 * A life begins when its sample was taken and ends when its block's free is
 * booked; realloc ends one and begins another, as in the books. Each counts as
 * many blocks as its sample stands for, so shares are those of all blocks.
 *
 * Most lives are short of the 4 ms in which the coarse clock steps, and the
 * precise one has two vices. On x86_64 it reads the time stamp counter, which
 * the kernel forbids a thread together with all system calls but four (seccomp's
 * strict mode), and nothing tells a thread so that does not kill it. And where
 * the kernel does not trust that counter, it is a system call, which a filter may
 * forbid. So the clock is chosen once, at start-up: the precise one where the
 * kernel's is known to be read without a system call, and nothing loaded asks
 * for prctl, through which strict mode is entered; or whichever HEAPLEDGER_CLOCK
 * says.
 */
#include <time.h>

#include "core.h"
#include "lifetimes.h"

static clockid_t chosen = CLOCK_MONOTONIC_COARSE;
static hl_lifetimes *lifetimes; /* NULL: none are kept */

/* ---- the clock ---- */

static bool is_text(const char *text, const char *expected)
{
    size_t bytes = hl_length(expected);
    return hl_length(text) == bytes && hl_same_bytes(text, expected, bytes);
}

/* Clock sources that the kernel lets everybody read. */
static bool is_read_in_user_space(void)
{
    static const char *const sources[] = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"};
    char name[64];
    long bytes = hl_read_file("/sys/devices/system/clocksource/clocksource0/current_clocksource", name, sizeof name - 1);
    if (bytes <= 0)
        return false;
    name[bytes] = 0;
    if (name[bytes - 1] == '\n')
        name[bytes - 1] = 0;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        if (is_text(name, sources[i]))
            return true;
    return false;
}

static bool may_forbid_the_counter(void)
{
#if defined(__x86_64__)
    return hl_is_asked_for("prctl");
#else
    return false; /* whatever is forbidden, the counter can be read */
#endif
}

uint64_t hl_now_ns(void)
{
    return hl_clock_ns(chosen);
}

/* ---- lives ---- */

static bool may_be_precise(void)
{
    if (hl.sample_clock != HL_CLOCK_ANY)
        return hl.sample_clock == HL_CLOCK_PRECISE;
    return is_read_in_user_space() && !may_forbid_the_counter();
}

void hl_lifetimes_begin(bool choose)
{
    if (choose && may_be_precise())
        chosen = CLOCK_MONOTONIC;
    uint32_t page = hl_pages_take(HL_LIFETIMES_PAGES);
    lifetimes = page ? hl_page_address(page) : NULL;
    if (!lifetimes)
        return;
    lifetimes->step_ns = hl_clock_step_ns(chosen);
    __atomic_store_n(&hl.header->lifetimes, page, __ATOMIC_RELEASE); /* pairs with the reader's header copy */
}

static unsigned bucket_of(uint64_t ns)
{
    if (ns < 1u << HL_LIFETIME_BITS)
        return (unsigned)ns;
    unsigned shift = 64 - HL_LIFETIME_BITS - (unsigned)__builtin_clzll(ns);
    uint64_t bucket = ((uint64_t)shift << (HL_LIFETIME_BITS - 1)) + (ns >> shift);
    return bucket < HL_LIFETIME_BUCKETS ? (unsigned)bucket : HL_LIFETIME_BUCKETS - 1;
}

static void raise(uint64_t *most, uint64_t value)
{
    uint64_t now = __atomic_load_n(most, __ATOMIC_RELAXED);
    while (value > now &&
           !__atomic_compare_exchange_n(most, &now, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

/* Blocks by time pass 64 bits, so a double is kept. */
static void add_lived(uint64_t *sum, double more)
{
    union {
        uint64_t bits;
        double value;
    } now, then;
    now.bits = __atomic_load_n(sum, __ATOMIC_RELAXED);
    do
        then.value = now.value + more;
    while (!__atomic_compare_exchange_n(sum, &now.bits, then.bits, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

void hl_lifetime_end(hl_sampled *row, uint64_t born_ns, uint64_t blocks)
{
    if (!lifetimes)
        return;
    uint64_t now = hl_now_ns();
    uint64_t ns = now > born_ns ? now - born_ns : 0;
    hl_lives *side = &lifetimes->sides[HL_TAG_SIDE(row->stack.tag)];
    __atomic_fetch_add(&side->buckets[bucket_of(ns)], blocks, __ATOMIC_RELAXED);
    __atomic_fetch_add(&side->samples, 1, __ATOMIC_RELAXED);
    raise(&side->longest_ns, ns);
    add_lived(&row->lived_ns, (double)ns * (double)blocks / HL_WEIGHT_BLOCK);
    if (ns < HL_SHORT_NS)
        __atomic_fetch_add(&row->short_blocks, blocks, __ATOMIC_RELAXED);
}
