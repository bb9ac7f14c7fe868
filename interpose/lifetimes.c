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
#include <elf.h>
#include <link.h>
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

#if defined(__x86_64__) && !defined(HL_STATIC)
static bool is_in(const struct dl_phdr_info *info, ElfW(Addr) at)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && at - (info->dlpi_addr + segment->p_vaddr) < segment->p_memsz)
            return true;
    }
    return false;
}

/*
 * A table of the dynamic section: the loader has made it an address, but in the
 * kernel's own object. NULL: neither is within the object.
 */
static const void *table_at(const struct dl_phdr_info *info, ElfW(Addr) at)
{
    if (is_in(info, at))
        return (const void *)at;
    return is_in(info, info->dlpi_addr + at) ? (const void *)(info->dlpi_addr + at) : NULL;
}

/* Of an object's dynamic section. */
typedef struct tables {
    const ElfW(Sym) *symbols;
    const char *names;
    size_t name_bytes;
    uint32_t imports; /* symbols that are asked of others are among so many first ones; 0 or 1: it does not say */
} tables;

static tables tables_of(const struct dl_phdr_info *info)
{
    tables found = {NULL, NULL, 0, 0};
    const ElfW(Dyn) *dynamic = NULL;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            dynamic = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
        const uint32_t *hash = NULL;
        if (dynamic->d_tag == DT_SYMTAB)
            found.symbols = table_at(info, dynamic->d_un.d_ptr);
        else if (dynamic->d_tag == DT_STRTAB)
            found.names = table_at(info, dynamic->d_un.d_ptr);
        else if (dynamic->d_tag == DT_STRSZ)
            found.name_bytes = dynamic->d_un.d_val;
        else if (dynamic->d_tag == DT_GNU_HASH) /* where what it offers begins */
            hash = table_at(info, dynamic->d_un.d_ptr);
        else if (dynamic->d_tag == DT_HASH && !found.imports) /* all of them */
            hash = table_at(info, dynamic->d_un.d_ptr);
        if (hash)
            found.imports = hash[1];
    }
    return found;
}

/*
 * Ends the search with 1 where an object asks others for prctl. What it asks for
 * comes first in its table. Of one that offers nothing GNU's linker writes as
 * if it asked for nothing either: then any such name is taken for asking.
 */
static int asks_for_prctl(struct dl_phdr_info *info, size_t size, void *context)
{
    static const char name[] = "prctl";
    (void)size;
    (void)context;
    const tables of = tables_of(info);
    if (!of.symbols || !of.names)
        return 0;
    for (size_t at = 0; of.imports <= 1 && at + sizeof name <= of.name_bytes; at++)
        if (hl_same_bytes(of.names + at, name, sizeof name))
            return 1;
    for (uint32_t i = 0; i < of.imports; i++)
        if (of.symbols[i].st_shndx == SHN_UNDEF && is_text(of.names + of.symbols[i].st_name, name))
            return 1;
    return 0;
}

static bool may_forbid_the_counter(void)
{
    return dl_iterate_phdr(asks_for_prctl, NULL) != 0;
}
#elif defined(__x86_64__)
static bool may_forbid_the_counter(void)
{
    return true;
}
#else
static bool may_forbid_the_counter(void)
{
    return false; /* whatever is forbidden, the counter can be read */
}
#endif

static uint64_t ns_of(const struct timespec *time)
{
    return (uint64_t)time->tv_sec * 1000000000u + (uint64_t)time->tv_nsec;
}

uint64_t hl_now_ns(void)
{
    struct timespec now = {0, 0};
    clock_gettime(chosen, &now);
    return ns_of(&now);
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
    struct timespec step = {0, 1};
    clock_getres(chosen, &step);
    lifetimes->step_ns = ns_of(&step);
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
