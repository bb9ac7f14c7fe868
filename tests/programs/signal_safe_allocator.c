/*
 * A malloc that may be called from signal handlers, after raw clone and after a
 * jump out of itself, for programs that do such things: size classes of powers
 * of two, free lists and bumps moved by compare-and-swap alone. At worst a jump
 * leaks the one block that was being handed out.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { SMALLEST = 4, LARGEST = 30, CLASSES = LARGEST - SMALLEST + 1 };
#define REGION (1ull << 32) /* one a class, each block at a multiple of its size */

static _Atomic(char *) memory;
static _Atomic(uint64_t) bumped[CLASSES]; /* blocks ever taken from the region */
static _Atomic(uint64_t) heads[CLASSES];  /* free list: tag << 32 | 1 + index of the block */

static char *base(void)
{
    char *found = atomic_load(&memory);
    if (found != NULL)
        return found;
    size_t bytes = REGION * (CLASSES + 1);
    char *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    char *aligned = (char *)(((uintptr_t)mapped + REGION - 1) & ~(uintptr_t)(REGION - 1));
    char *expected = NULL;
    if (atomic_compare_exchange_strong(&memory, &expected, aligned))
        return aligned;
    munmap(mapped, bytes);
    return expected;
}

static int class_of(size_t size)
{
    int bits = size <= 1u << SMALLEST ? SMALLEST : 64 - __builtin_clzl(size - 1);
    return bits - SMALLEST;
}

static char *block_at(int class, uint32_t index)
{
    return atomic_load(&memory) + (uint64_t)class * REGION + ((uint64_t)index << (class + SMALLEST));
}

static void *take(size_t size)
{
    int class = class_of(size);
    if (size > 1ull << LARGEST || base() == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    uint64_t head = atomic_load(&heads[class]);
    while ((uint32_t)head != 0) {
        uint32_t next = atomic_load((_Atomic(uint32_t) *)block_at(class, (uint32_t)head - 1));
        uint64_t wanted = ((head >> 32) + 1) << 32 | next;
        if (atomic_compare_exchange_weak(&heads[class], &head, wanted))
            return block_at(class, (uint32_t)head - 1);
    }
    uint64_t index = atomic_fetch_add(&bumped[class], 1);
    if (index >= REGION >> (class + SMALLEST)) {
        errno = ENOMEM;
        return NULL;
    }
    return block_at(class, (uint32_t)index);
}

static int class_at(void *block)
{
    return (int)(((char *)block - atomic_load(&memory)) / REGION);
}

size_t malloc_usable_size(void *block)
{
    return block == NULL ? 0 : (size_t)1 << (class_at(block) + SMALLEST);
}

void *malloc(size_t size)
{
    return take(size);
}

void free(void *block)
{
    if (block == NULL)
        return;
    int class = class_at(block);
    uint64_t offset = (uint64_t)((char *)block - atomic_load(&memory)) % REGION;
    uint64_t self = 1 + (offset >> (class + SMALLEST));
    uint64_t head = atomic_load(&heads[class]);
    do
        atomic_store((_Atomic(uint32_t) *)block, (uint32_t)head);
    while (!atomic_compare_exchange_weak(&heads[class], &head, ((head >> 32) + 1) << 32 | self));
}

void *calloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    void *block = take(bytes);
    return block == NULL ? NULL : memset(block, 0, bytes);
}

void *realloc(void *block, size_t size)
{
    if (block == NULL)
        return take(size);
    if (size == 0) {
        free(block);
        return NULL;
    }
    size_t old = malloc_usable_size(block);
    if (class_of(size) == class_of(old))
        return block;
    void *moved = take(size);
    if (moved == NULL)
        return NULL;
    memcpy(moved, block, old < size ? old : size);
    free(block);
    return moved;
}

void *memalign(size_t alignment, size_t size)
{
    return take(size > alignment ? size : alignment);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size)
{
    if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0)
        return EINVAL;
    int saved = errno;
    void *block = memalign(alignment, size);
    errno = saved;
    if (block == NULL)
        return ENOMEM;
    *result = block;
    return 0;
}

void *valloc(size_t size)
{
    return memalign(4096, size);
}

void *pvalloc(size_t size)
{
    return memalign(4096, (size + 4095) & ~(size_t)4095);
}
