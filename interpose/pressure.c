/*
 * pressure.c: the words of cleanup pressure, and what an allocating thread does
 * about them: it compares, and the first one past the threshold wakes whoever
 * drives clean-ups. Nothing else of pressure ever runs inside a hook.
 */
#include <time.h>

#include "api.h"

/* Not private: a recorder waits from outside. Where it is refused, waits end by their time. */
void hl_wake(uint32_t *word)
{
    HL_SYS3(SYS_futex, word, 1 /* FUTEX_WAKE */, INT32_MAX);
}

void hl_wait(const uint32_t *word, uint32_t seen, uint64_t at_most_ns)
{
    struct timespec time = {(time_t)(at_most_ns / 1000000000u), (long)(at_most_ns % 1000000000u)};
    HL_SYS4(SYS_futex, word, 0 /* FUTEX_WAIT */, seen, at_most_ns == UINT64_MAX ? NULL : &time);
}

/*
 * Looked at before it is written: of the threads that cross at once, those that
 * come later only read. A child of fork arrives here in its own ledger, which
 * nobody has armed.
 */
void hl_pressure_check(int64_t live_bytes)
{
    hl_pressure *words = &hl.header->pressure;
    if (HL_LIKELY(live_bytes <= __atomic_load_n(&words->armed_bytes, __ATOMIC_ACQUIRE)))
        return;
    if (__atomic_load_n(&words->crossed, __ATOMIC_RELAXED) & HL_CROSSED_ARMED)
        return;
    /* Release pairs with the driver's exchange: it sees the live bytes that were published before. */
    if (__atomic_fetch_or(&words->crossed, HL_CROSSED_ARMED, __ATOMIC_ACQ_REL) & HL_CROSSED_ARMED)
        return;
    __atomic_fetch_add(&words->crossings, 1, __ATOMIC_RELAXED);
    hl_wake(&words->crossed);
}

/* ---- refusing what goes past a hard limit: only where that was asked for ---- */

/*
 * malloc asks on its long way alone, and is sent there only while somebody wants
 * requests refused: who does not pays nothing. The rest of the family compares a
 * size. Small requests are never refused, nor Rust's, whose programs would abort,
 * nor those of an allocator that is booked elsewhere.
 */
bool hl_may_refuse(void)
{
    return __atomic_load_n(&hl.header->pressure.refuse_bytes, __ATOMIC_RELAXED) != INT64_MAX;
}

bool hl_refuses(uint64_t bytes)
{
    hl_pressure *words = &hl.header->pressure;
    int64_t limit = __atomic_load_n(&words->refuse_bytes, __ATOMIC_RELAXED);
    if (HL_LIKELY(limit == INT64_MAX) || hl_me.inside)
        return false;
    int64_t live = 0;
    for (uint32_t side = 0; side < HL_SIDES; side++)
        live += __atomic_load_n(&hl.header->live[side], __ATOMIC_RELAXED);
    if (live <= limit && bytes <= (uint64_t)limit - (uint64_t)(live > 0 ? live : 0))
        return false;
    __atomic_fetch_add(&words->refused_bytes, bytes, __ATOMIC_RELAXED);
    __atomic_fetch_add(&words->refused, 1, __ATOMIC_RELEASE); /* pairs with a reader's copy: its bytes are there */
    hl_do_pressure_ask(bytes);
    return true;
}

/* The lower one of this limit and the operator's; INT64_MAX for none of the program's own. */
void hl_do_pressure_refuse(int64_t live_bytes)
{
    if (live_bytes > hl.refuse_bytes)
        live_bytes = hl.refuse_bytes;
    __atomic_store_n(&hl.header->pressure.refuse_bytes, live_bytes, __ATOMIC_RELAXED);
    if (hl.proven_glibc)
        atomic_store_explicit(&hl_wipe.glibc_malloc, live_bytes == INT64_MAX ? hl.next.malloc : NULL,
                              memory_order_release); /* pairs with nothing: either way books are kept */
}

/* ---- for a driver in this process; src/ledger/pressure_words.rs is the one outside ---- */

int hl_do_pressure_read(hl_pressure *copy)
{
    const hl_pressure *words = &hl.header->pressure;
    *copy = (hl_pressure){
        .armed_bytes = __atomic_load_n(&words->armed_bytes, __ATOMIC_RELAXED),
        .crossed = __atomic_load_n(&words->crossed, __ATOMIC_ACQUIRE),
        .level = __atomic_load_n(&words->level, __ATOMIC_ACQUIRE),
        .request = __atomic_load_n(&words->request, __ATOMIC_ACQUIRE),
        .done = __atomic_load_n(&words->done, __ATOMIC_ACQUIRE), /* before what it says is there */
        .helper = __atomic_load_n(&words->helper, __ATOMIC_ACQUIRE),
    };
    copy->request_level = __atomic_load_n(&words->request_level, __ATOMIC_RELAXED);
    copy->request_target_bytes = __atomic_load_n(&words->request_target_bytes, __ATOMIC_RELAXED);
    copy->asked = __atomic_load_n(&words->asked, __ATOMIC_RELAXED);
    copy->asked_bytes = __atomic_load_n(&words->asked_bytes, __ATOMIC_RELAXED);
    copy->claimed_bytes = __atomic_load_n(&words->claimed_bytes, __ATOMIC_RELAXED);
    copy->bell = __atomic_load_n(&words->bell, __ATOMIC_RELAXED);
    copy->crossings = __atomic_load_n(&words->crossings, __ATOMIC_RELAXED);
    copy->actions = __atomic_load_n(&words->actions, __ATOMIC_RELAXED);
    copy->acted = __atomic_load_n(&words->acted, __ATOMIC_RELAXED);
    copy->reclaimers = __atomic_load_n(&words->reclaimers, __ATOMIC_RELAXED);
    copy->driver = __atomic_load_n(&words->driver, __ATOMIC_ACQUIRE);
    copy->history = __atomic_load_n(&words->history, __ATOMIC_ACQUIRE);
    copy->answers = __atomic_load_n(&words->answers, __ATOMIC_ACQUIRE);
    copy->refuse_bytes = __atomic_load_n(&words->refuse_bytes, __ATOMIC_RELAXED);
    copy->refused = __atomic_load_n(&words->refused, __ATOMIC_ACQUIRE);
    copy->refused_bytes = __atomic_load_n(&words->refused_bytes, __ATOMIC_RELAXED);
    return 0;
}

/*
 * A driver in the process takes over from a recorder, which may have left the words
 * as they were when it died, or may be about to write once more: it looks at
 * `driver` after each write and pokes whom it finds there.
 */
int hl_do_pressure_drive(uint32_t drives)
{
    hl_pressure *words = &hl.header->pressure;
    if (!drives) {
        __atomic_store_n(&words->driver, 0, __ATOMIC_RELEASE); /* pairs with the recorder's copy: armed no more, calm */
        return 0;
    }
    uint32_t page = words->history ? 0 : hl_pages_take(1);
    if (page)
        __atomic_store_n(&words->history, page, __ATOMIC_RELEASE); /* pairs with the reader's copy: the page is there */
    __atomic_store_n(&words->driver, hl_getpid(), __ATOMIC_RELEASE);
    return 0;
}

/* By the driver's thread alone. Without a page nothing is kept. */
void hl_do_cleanup_note(const hl_cleanup *cleanup)
{
    uint32_t page = hl.header->pressure.history;
    hl_cleanup *kept = page ? hl_page_address(page) : NULL;
    if (!kept)
        return;
    uint64_t last = 0;
    for (uint32_t i = 0; i < HL_CLEANUPS; i++)
        last = kept[i].number > last ? kept[i].number : last;
    uint64_t *to = &kept[last % HL_CLEANUPS].number;
    const uint64_t *from = &cleanup->number;
    __atomic_store_n(to, 0, __ATOMIC_RELAXED);
    for (size_t word = 1; word < sizeof *cleanup / sizeof *to; word++) /* pairs with the reader's fence: the number is gone */
        __atomic_store_n(to + word, from[word], __ATOMIC_RELEASE);
    __atomic_store_n(to, last + 1, __ATOMIC_RELEASE); /* pairs with the reader's second look: the entry is whole */
}

/* 1 where the published live bytes are past it already, which no thread may come to notice. */
int hl_do_pressure_arm(int64_t live_bytes)
{
    hl_pressure *words = &hl.header->pressure;
    __atomic_fetch_and(&words->crossed, ~(uint32_t)HL_CROSSED_ARMED, __ATOMIC_RELAXED);
    __atomic_store_n(&words->armed_bytes, live_bytes, __ATOMIC_RELEASE); /* pairs with hl_pressure_check's load: `crossed` is clear */
    int64_t all = 0;
    for (uint32_t side = 0; side < HL_SIDES; side++)
        all += __atomic_load_n(&hl.header->live[side], __ATOMIC_RELAXED);
    return all > live_bytes;
}

uint32_t hl_do_pressure_take(void)
{
    return __atomic_exchange_n(&hl.header->pressure.crossed, 0, __ATOMIC_ACQ_REL);
}

int hl_do_pressure_wait(uint32_t word, uint32_t seen, uint64_t at_most_ns)
{
    hl_pressure *words = &hl.header->pressure;
    hl_wait(word == HL_WORD_CROSSED ? &words->crossed : word == HL_WORD_REQUEST ? &words->request : &words->done, seen,
            at_most_ns);
    return 0;
}

static void want(uint32_t why)
{
    uint32_t *crossed = &hl.header->pressure.crossed;
    if (!(__atomic_fetch_or(crossed, why, __ATOMIC_ACQ_REL) & why))
        hl_wake(crossed);
}

int hl_do_pressure_ask(uint64_t target_bytes)
{
    hl_pressure *words = &hl.header->pressure;
    int64_t target = target_bytes < INT64_MAX ? (int64_t)target_bytes : INT64_MAX;
    __atomic_store_n(&words->asked_bytes, target, __ATOMIC_RELAXED);
    __atomic_fetch_add(&words->asked, 1, __ATOMIC_RELEASE); /* pairs with the driver's load: asked_bytes is there */
    want(HL_CROSSED_ASKED);
    return 0;
}

void hl_do_pressure_poke(void)
{
    want(HL_CROSSED_POKED);
}

/* The helper waits for the bell alone, which never goes back: it misses nothing that comes while it works. */
void hl_pressure_ring(void)
{
    __atomic_fetch_add(&hl.header->pressure.bell, 1, __ATOMIC_RELEASE);
    hl_wake(&hl.header->pressure.bell);
}

void hl_do_pressure_level_set(uint32_t level)
{
    if (__atomic_exchange_n(&hl.header->pressure.level, level, __ATOMIC_RELEASE) != level)
        hl_pressure_ring();
}

void hl_do_pressure_request(uint32_t level, int64_t target_bytes)
{
    hl_pressure *words = &hl.header->pressure;
    __atomic_store_n(&words->request_level, level, __ATOMIC_RELAXED);
    __atomic_store_n(&words->request_target_bytes, target_bytes, __ATOMIC_RELAXED);
    __atomic_fetch_add(&words->request, 1, __ATOMIC_RELEASE); /* pairs with the helper's load: the two above are there */
    hl_pressure_ring();
    hl_wake(&words->request);
}
