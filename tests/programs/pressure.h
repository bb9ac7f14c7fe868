/* A driver of clean-ups inside the program: it writes the words of its own ledger. */
#ifndef PRESSURE_H
#define PRESSURE_H

#include "program.h"

#include <ledger.h>

#define HEAPLEDGER_WEAK
#include <heapledger.h>

static inline long futex_wake(uint32_t *word)
{
    return syscall(SYS_futex, word, 1, INT32_MAX, NULL, NULL, 0);
}

static inline void futex_wait(uint32_t *word, uint32_t seen)
{
    syscall(SYS_futex, word, 0, seen, NULL, NULL, 0);
}

/* The first page of this process's ledger, without an allocation; NULL: it keeps none. */
static hl_header *own_ledger(void)
{
#if defined(RACES_H) /* the sanitizer takes two mappings of one word for two words */
    return raced_ledger();
#endif
    const char *directory = getenv("HEAPLEDGER_DIR");
    if (!directory)
        return NULL;
    char prefix[16], entries[8192] __attribute__((aligned(8)));
    int length = snprintf(prefix, sizeof prefix, "%d-", (int)getpid());
    int at = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE(at >= 0);
    hl_header *header = NULL;
    for (long bytes; !header && (bytes = syscall(SYS_getdents64, at, entries, sizeof entries)) > 0;) {
        for (long next = 0; next < bytes && !header;) {
            const char *entry = entries + next, *name = entry + 19;
            uint16_t entry_bytes;
            memcpy(&entry_bytes, entry + 16, sizeof entry_bytes);
            next += entry_bytes;
            if (strncmp(name, prefix, (size_t)length) != 0)
                continue;
            int file = openat(at, name, O_RDWR | O_CLOEXEC);
            REQUIRE(file >= 0);
            header = mmap(NULL, HL_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
            REQUIRE(header != MAP_FAILED && header->layout == HL_LAYOUT);
            close(file);
        }
    }
    close(at);
    REQUIRE(header);
    return header;
}

/* As a driver asks for a clean-up; gives its number. */
__attribute__((unused)) static uint32_t ask(hl_pressure *words, uint32_t level, int64_t target_bytes)
{
    words->request_level = level;
    words->request_target_bytes = target_bytes;
    uint32_t number = __atomic_add_fetch(&words->request, 1, __ATOMIC_RELEASE);
    __atomic_fetch_add(&words->bell, 1, __ATOMIC_RELEASE);
    futex_wake(&words->bell);
    return number;
}

__attribute__((unused)) static void wait_done(hl_pressure *words, uint32_t number)
{
    for (uint32_t done; (done = __atomic_load_n(&words->done, __ATOMIC_ACQUIRE)) != number;)
        futex_wait(&words->done, done);
}

#endif
