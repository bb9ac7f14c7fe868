/*
 * The least that exact live bytes by owner take: the owner of each block is noted in
 * a table beside the heap, 2 bytes for each 32, and taken out again. Nothing is made
 * sure of: one call site, blocks of the first 16 MiB of a thread's own heap, no
 * handlers, no forks, glibc alone, and nobody reads along.
 *
 * With COUNTERS (counters.c) what is booked is counted as well, as heapledger does:
 * blocks, usable and requested bytes of the owner, sizes, and bytes of the thread.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#define SPAN ((uintptr_t)16 << 20)
#define OWNER 5

extern void *__libc_malloc(size_t);
extern void __libc_free(void *);

/* As an interposer has them: found when the program starts, and unknown to the compiler. */
static void *(*volatile next_malloc)(size_t) = __libc_malloc;
static void (*volatile next_free)(void *) = __libc_free;

typedef struct counters {
    uint64_t allocated_blocks, allocated_bytes, requested_bytes, freed_blocks, freed_bytes;
    uint64_t call_site;
    uint64_t owner;
} counters;

typedef struct books {
    counters record;
    counters *of_owner[64];
    uint64_t sizes[8192];
    int64_t allocated_bytes;
    uint64_t between[7];
    int64_t freed_bytes;
} books;

typedef struct heap {
    uintptr_t first;
    uintptr_t span; /* 0: nothing is noted yet */
    uint16_t *owners;
    books *books;
} heap;
static _Thread_local heap mine __attribute__((tls_model("initial-exec")));

/* The one call site that counts is the last one that was new. */
static __attribute__((noinline, cold)) void begin(void *block, uint64_t call_site)
{
    if (mine.span) {
        mine.books->record.call_site = call_site;
        return;
    }
    size_t table = SPAN / 32 * sizeof(uint16_t);
    char *memory = mmap(NULL, table + sizeof(books), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return;
    mine.owners = (uint16_t *)(void *)memory;
    mine.books = (books *)(void *)(memory + table);
    mine.books->record.call_site = call_site;
    mine.books->record.owner = OWNER;
    mine.books->of_owner[OWNER] = &mine.books->record;
    mine.first = (uintptr_t)block & ~(uintptr_t)31;
    mine.span = SPAN;
}

/* The chunk's size without its flags, less the word that holds it. */
#define USABLE(block) ((((const uint64_t *)(block))[-1] & ~(uint64_t)7) - 8)

void *malloc(size_t bytes)
{
    void *block = next_malloc(bytes);
    uintptr_t at = (uintptr_t)block - mine.first;
    if (__builtin_expect(at >= mine.span, 0)) {
        begin(block, (uint64_t)__builtin_return_address(0));
        return block;
    }
#if defined(COUNTERS)
    books *own = mine.books;
    counters *record = &own->record;
    uint64_t call_site = (uint64_t)__builtin_return_address(0);
    if (__builtin_expect(record->call_site != call_site, 0) || __builtin_expect(bytes >= 65536, 0)) {
        begin(block, call_site);
        return block;
    }
    uint64_t usable = USABLE(block);
    record->allocated_blocks++;
    record->allocated_bytes += usable;
    record->requested_bytes += bytes;
    own->sizes[bytes / 8]++;
    own->allocated_bytes += (int64_t)usable;
    mine.owners[at / 32] = (uint16_t)record->owner;
#else
    mine.owners[at / 32] = OWNER;
#endif
    return block;
}

void free(void *block)
{
    uintptr_t at = (uintptr_t)block - mine.first;
    if (__builtin_expect(at < mine.span, 1)) {
        uint16_t *owner = &mine.owners[at / 32];
#if defined(COUNTERS)
        books *own = mine.books;
        counters *record = own->of_owner[*owner];
        if (__builtin_expect(record != NULL, 1)) {
            uint64_t usable = USABLE(block);
            record->freed_blocks++;
            record->freed_bytes += usable;
            own->freed_bytes += (int64_t)usable;
        }
#endif
        *owner = 0;
    }
    next_free(block);
}
