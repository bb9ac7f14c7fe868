/*
 * pages.c: the mapping that the ledger lies in.
 *
 * The file is sparse and has its full length from the start, so it grows
 * without a descriptor (programs close theirs) and without asking
 * RLIMIT_FSIZE. It is mapped a window at a time, so that it takes little
 * address space; a further window is a copy of the first one's mapping made
 * with mremap, which needs no descriptor either.
 */
#include <sys/mman.h>

#include "core.h"

#define WINDOW_BYTES ((size_t)HL_WINDOW_PAGES * HL_PAGE_BYTES)
#define STOCK_PAGES 28u
#define WALKING_PAGES 30u /* more, where stacks are kept */
#define FILE_BYTES ((uint64_t)HL_MAX_PAGES * HL_PAGE_BYTES)

#define OPEN_FLAGS (02 /* O_RDWR */ | 0100 /* O_CREAT */ | 0200 /* O_EXCL */ | O_NOFOLLOW_ | O_CLOEXEC_)
#define O_CLOEXEC_ 02000000
#if defined(__aarch64__)
#define O_NOFOLLOW_ 0100000
#else
#define O_NOFOLLOW_ 0400000
#endif
#define AT_FDCWD_ (-100)

/* The kernel changes a process's mappings one after the other: what is unmapped was used before what comes there. */
static const char mappings;

void *hl_reserve(size_t bytes)
{
    return hl_reserve_at(0, bytes);
}

void *hl_reserve_at(uintptr_t wished, size_t bytes)
{
    long memory = HL_SYS6(SYS_mmap, wished, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (hl_sys_failed(memory))
        return NULL;
    /* A huge page would cost more than all that these tables hold. */
    HL_SYS3(SYS_madvise, memory, bytes, MADV_NOHUGEPAGE);
    HL_ORDERED_AFTER(&mappings);
    return (void *)memory;
}

void hl_release(void *memory, size_t bytes)
{
    HL_ORDERED_BEFORE(&mappings);
    HL_SYS2(SYS_munmap, memory, bytes);
}

/*
 * Makes sure that a page has memory behind it. The kernel is asked to write
 * there: where it cannot (a full tmpfs), that is an error code and not SIGBUS.
 */
static bool commit(char *page)
{
    if (HL_SYS4(SYS_rt_sigprocmask, 0, NULL, page, 8) != 0)
        return false;
    *(volatile uint64_t *)page = 0;
    return true;
}

/* The window is mapped already, or is mapped now; NULL if address space is refused. */
static char *window(uint32_t index)
{
    char *there = atomic_load_explicit(&hl.windows[index], memory_order_acquire);
    if (there)
        return there;
    /* Of the last page of the nearest window before it: little more address space is taken meanwhile than is kept. */
    uint32_t from = index - 1;
    while (from && !atomic_load_explicit(&hl.windows[from], memory_order_acquire))
        from--;
    char *last = atomic_load_explicit(&hl.windows[from], memory_order_acquire) + WINDOW_BYTES - HL_PAGE_BYTES;
    size_t before = (size_t)(index - from - 1) * WINDOW_BYTES + HL_PAGE_BYTES;
    long copy = HL_SYS5(SYS_mremap, last, 0, before + WINDOW_BYTES, MREMAP_MAYMOVE, 0);
    if (hl_sys_failed(copy))
        return NULL;
    HL_SYS2(SYS_munmap, copy, before);
    char *mine = (char *)copy + before;
    HL_SYS3(SYS_madvise, mine, WINDOW_BYTES, MADV_DONTDUMP);
    char *expected = NULL;
    if (!atomic_compare_exchange_strong_explicit(&hl.windows[index], &expected, mine, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        HL_SYS2(SYS_munmap, mine, WINDOW_BYTES);
        return expected;
    }
    return mine;
}

void *hl_page_address(uint32_t page)
{
    char *base = page < HL_MAX_PAGES ? window(page / HL_WINDOW_PAGES) : NULL;
    return base ? base + (size_t)(page % HL_WINDOW_PAGES) * HL_PAGE_BYTES : NULL;
}

bool hl_pages_spare(uint32_t count)
{
    uint32_t index = (__atomic_load_n(&hl.header->next_page, __ATOMIC_RELAXED) + count) / HL_WINDOW_PAGES;
    if (index >= HL_WINDOWS)
        return false;
    return atomic_load_explicit(&hl.windows[index], memory_order_relaxed) ||
           (hl_may_take(WINDOW_BYTES) && window(index));
}

uint32_t hl_pages_take(uint32_t count)
{
    for (;;) {
        uint32_t page = __atomic_fetch_add(&hl.header->next_page, count, __ATOMIC_RELAXED);
        if (page >= HL_MAX_PAGES - count || page + count < page) {
            __atomic_store_n(&hl.header->next_page, HL_MAX_PAGES, __ATOMIC_RELAXED);
            break;
        }
        if (page / HL_WINDOW_PAGES != (page + count - 1) / HL_WINDOW_PAGES)
            continue; /* across two windows: leave the hole */
        char *first = hl_page_address(page);
        if (!first)
            break;
        uint32_t done = 0;
        while (done < count && (page + done < hl.committed || commit(first + (size_t)done * HL_PAGE_BYTES)))
            done++;
        if (done == count)
            return page;
        break;
    }
    __atomic_fetch_add(&hl.header->pages_refused, 1, __ATOMIC_RELAXED);
    return 0;
}

void *hl_table_page(void *_Atomic *rows, uint32_t *published)
{
    void *there = atomic_load_explicit(rows, memory_order_acquire);
    if (there)
        return there;
    /*
     * The number first: whoever dies or forks in between leaves a page that
     * readers and the child know of, and the next caller goes on from there.
     */
    uint32_t page = __atomic_load_n(published, __ATOMIC_ACQUIRE);
    if (!page) {
        uint32_t mine = hl_pages_take(1);
        if (!mine)
            return NULL;
        if (__atomic_compare_exchange_n(published, &page, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            page = mine; /* else somebody was faster; ours stays unused */
    }
    void *address = hl_page_address(page);
    if (address)
        atomic_store_explicit(rows, address, memory_order_release); /* whoever races us writes the same */
    return address;
}

hl_text hl_text_add(const char *bytes, size_t count)
{
    hl_text text = hl_text_room(count);
    if (text.reference)
        hl_copy_bytes((char *)hl_text_at(text.reference), bytes, text.bytes);
    return text;
}

hl_text hl_text_room(size_t count)
{
    hl_text text = {0, 0};
    if (count > HL_PAGE_BYTES)
        count = HL_PAGE_BYTES;
    if (!count)
        return text;
    uint64_t at = __atomic_load_n(&hl.header->text_cursor, __ATOMIC_RELAXED);
    for (;;) {
        /* A text does not cross a page; the cursor at a page's end means a full page. */
        bool fits = at && (at - 1) / HL_PAGE_BYTES == (at + count - 1) / HL_PAGE_BYTES && at % HL_PAGE_BYTES;
        uint64_t start = at;
        if (!fits) {
            uint32_t page = hl_pages_take(1);
            if (!page)
                return text;
            start = (uint64_t)page * HL_PAGE_BYTES;
        }
        if (__atomic_compare_exchange_n(&hl.header->text_cursor, &at, start + count, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
            text.reference = (uint32_t)start;
            text.bytes = (uint32_t)count;
            return text;
        }
    }
}

const char *hl_text_at(uint32_t reference)
{
    char *page = hl_page_address(reference / HL_PAGE_BYTES);
    return page ? page + reference % HL_PAGE_BYTES : "";
}

/* "DIR/PID-RANDOM.ledger" */
static void ledger_path(const char *directory, char *path)
{
    static const char digits[] = "0123456789abcdef";
    size_t end = hl_length(directory);
    hl_copy_bytes(path, directory, end);
    path[end++] = '/';
    char number[10];
    size_t length = 0;
    for (uint32_t pid = hl_getpid(); pid || !length; pid /= 10)
        number[length++] = digits[pid % 10];
    while (length)
        path[end++] = number[--length];
    path[end++] = '-';
    uint32_t random = 0;
    if (HL_SYS3(SYS_getrandom, &random, sizeof random, 1 /* GRND_NONBLOCK */) != sizeof random)
        random = (uint32_t)(uintptr_t)path ^ hl_gettid();
    for (int i = 0; i < 8; i++, random >>= 4)
        path[end++] = digits[random & 15];
    hl_copy_bytes(path + end, ".ledger", sizeof ".ledger");
}

/* True when a file of that many bytes may be made; asking costs no signal, trying would. */
static bool may_size(uint64_t bytes)
{
    uint64_t limit[2];
    return HL_SYS4(SYS_prlimit64, 0, 1 /* RLIMIT_FSIZE */, NULL, limit) != 0 || limit[0] >= bytes;
}

/* An open file of full length, or -1. */
static long create_file(const char *directory)
{
    if (!may_size(FILE_BYTES))
        return -1;
    char path[sizeof hl.directory + 40];
    long file;
    if (*directory) {
        ledger_path(directory, path);
        file = HL_SYS4(SYS_openat, AT_FDCWD_, path, OPEN_FLAGS, 0600);
    } else {
        file = HL_SYS2(SYS_memfd_create, "heapledger", 1 /* MFD_CLOEXEC */);
    }
    if (hl_sys_failed(file))
        return -1;
    /* Whatever the umask took away. */
    if (HL_SYS2(SYS_fchmod, file, 0600) != 0 || HL_SYS2(SYS_ftruncate, file, FILE_BYTES) != 0) {
        if (*directory)
            HL_SYS3(SYS_unlinkat, AT_FDCWD_, path, 0);
        HL_SYS1(SYS_close, file);
        return -1;
    }
    return file;
}

bool hl_ledger_create(const char *directory)
{
    long file = create_file(directory);
    if (file < 0)
        return false;
    long memory = HL_SYS6(SYS_mmap, 0, WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    HL_SYS1(SYS_close, file);
    if (hl_sys_failed(memory))
        return false;
    HL_SYS3(SYS_madvise, memory, WINDOW_BYTES, MADV_DONTDUMP);
    if (!commit((char *)memory)) {
        HL_SYS2(SYS_munmap, memory, WINDOW_BYTES);
        return false;
    }
    for (uint32_t i = 0; i < HL_WINDOWS; i++)
        atomic_store_explicit(&hl.windows[i], NULL, memory_order_relaxed);
    atomic_store_explicit(&hl.windows[0], (char *)memory, memory_order_relaxed);
    hl.header = (hl_header *)memory;
    /* A stock that a program under seccomp's strict mode can use without a system call. */
    uint32_t stock = STOCK_PAGES + (hl.walks ? WALKING_PAGES : 0);
    hl.committed = 1;
    if (HL_SYS3(SYS_madvise, memory + HL_PAGE_BYTES, (stock - 1) * HL_PAGE_BYTES,
                23 /* MADV_POPULATE_WRITE, Linux 5.14 */) == 0)
        hl.committed = stock;
    while (hl.committed < stock && commit((char *)memory + (size_t)hl.committed * HL_PAGE_BYTES))
        hl.committed++;
    hl.header->magic = HL_MAGIC;
    hl.header->layout = HL_LAYOUT;
    hl.header->page_bytes = HL_PAGE_BYTES;
    hl.header->next_page = HL_HEADER_PAGES;
    hl.header->flags = *directory ? 0 : HL_FLAG_DETACHED;
    hl.header->pressure.armed_bytes = INT64_MAX;
    hl.header->pressure.refuse_bytes = INT64_MAX;
    return true;
}
