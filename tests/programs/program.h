/* What the proof programs share. The first comment of each program states its
 * ledger: tests/common/expectations.rs says in which words. */
#ifndef PROGRAM_H
#define PROGRAM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#ifndef __cplusplus
#include <stdatomic.h>
#endif

/* A function that shows up under its own name in the ledger. */
#define SITE __attribute__((noinline, noclone))

/* Hides a pointer's fate from the compiler, which would remove unused pairs. */
static inline void *opaque(void *block)
{
    __asm__ volatile("" : "+r"(block) : : "memory");
    return block;
}

/* The same for a size, or the compiler foresees the failure. */
static inline size_t any(size_t size)
{
    __asm__ volatile("" : "+r"(size));
    return size;
}

/* printf to a descriptor that allocates nothing: glibc's dprintf takes a buffer. */
__attribute__((format(printf, 2, 3))) static inline void say(int file, const char *format, ...)
{
    char text[1024];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    if (length < 0 || (size_t)length >= sizeof text || write(file, text, (size_t)length) != length)
        _exit(98);
}

/* Ends the program with a message: it misbehaved, whatever the ledger says. */
#define REQUIRE(condition)                                                           \
    do {                                                                             \
        if (!(condition)) {                                                          \
            say(2, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);           \
            _exit(99);                                                               \
        }                                                                            \
    } while (0)

/* States an expectation that only the running program knows. Allocates nothing. */
__attribute__((unused, format(printf, 1, 2))) static void expect(const char *format, ...)
{
    const char *path = getenv("TEST_EXPECT_FILE");
    if (path == NULL)
        return;
    char line[1024];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(line, sizeof line - 1, format, values);
    va_end(values);
    REQUIRE(length > 0 && (size_t)length < sizeof line - 1);
    line[length++] = '\n';
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    REQUIRE(file >= 0 && write(file, line, (size_t)length) == length);
    close(file);
}

#ifndef __cplusplus
/* What a program knows of one of its sites, counted with the allocator's own words. */
struct tally {
    atomic_ulong allocated_blocks, allocated_bytes, requested_bytes;
    atomic_ulong freed_blocks, freed_bytes, reallocs;
};

__attribute__((unused)) static void tally_alloc(struct tally *tally, void *block, size_t requested)
{
    REQUIRE(block != NULL);
    atomic_fetch_add(&tally->allocated_blocks, 1);
    atomic_fetch_add(&tally->allocated_bytes, malloc_usable_size(block));
    atomic_fetch_add(&tally->requested_bytes, requested);
}

/* To be called before the free. */
__attribute__((unused)) static void tally_free(struct tally *tally, void *block)
{
    if (block == NULL)
        return;
    atomic_fetch_add(&tally->freed_blocks, 1);
    atomic_fetch_add(&tally->freed_bytes, malloc_usable_size(block));
}

__attribute__((unused)) static void expect_tally(const char *selector, struct tally *tally)
{
    expect("%s allocated_blocks=%lu allocated_bytes=%lu requested_bytes=%lu freed_blocks=%lu "
           "freed_bytes=%lu live_blocks=%lu live_bytes=%lu reallocs=%lu",
           selector, tally->allocated_blocks, tally->allocated_bytes, tally->requested_bytes,
           tally->freed_blocks, tally->freed_bytes, tally->allocated_blocks - tally->freed_blocks,
           tally->allocated_bytes - tally->freed_bytes, tally->reallocs);
}

#endif

/* A small generator of pseudo-random numbers: the same everywhere. */
__attribute__((unused)) static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

__attribute__((unused)) static pthread_t start_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, body, argument) == 0);
    return thread;
}

#endif
