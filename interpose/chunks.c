/*
 * chunks.c: whether a block of glibc's that was freed is still free.
 *
 * Memory can be handed out past the hooks: by __libc_malloc, or to an object that
 * was loaded with RTLD_DEEPBIND. A free of such a block is right, also where the
 * last that was seen of its address is a free. So before anybody is accused the
 * chunk is asked, as malloc/malloc.c of glibc keeps it. The kernel is asked before
 * each word is read, since free memory may be unmapped.
 */
#include "core.h"

#define HEADER 16u /* from a chunk to its block */
#define SMALLEST 32u
#define FASTEST 176u /* no chunk that is longer is in a fast bin, whatever mallopt says */
#define CACHE_LISTS 64u /* at the end of a thread's cache, by length of chunk */
enum { PREVIOUS_IN_USE = 1, MAPPED = 2, FLAGS = 7 };

/* What the second word of a block says while a thread caches it; 0: this glibc has no such word. */
static uint64_t cached_key;
/* Until 2.33 it is where that thread's cache is: bytes of such a chunk. 0: it is the same for all threads. */
static uint64_t cache_bytes;
static bool links_are_mangled; /* as from glibc 2.32 on */

typedef struct chunk {
    uintptr_t at;
    uint64_t before; /* bytes of the chunk before it, where that is free */
    uint64_t bytes;
    uint64_t flags;
} chunk;

static HL_READS_FREE bool read_word(uintptr_t at, uint64_t *word)
{
    if (!hl_can_be_read(at))
        return false;
    *word = *(const uint64_t *)at;
    return true;
}

/* False where there can be none. */
static bool read_chunk(uintptr_t at, chunk *into)
{
    uint64_t head;
    if (at % HEADER || !read_word(at, &into->before) || !read_word(at + sizeof head, &head))
        return false;
    into->at = at;
    into->bytes = head & ~(uint64_t)FLAGS;
    into->flags = head & FLAGS;
    return into->bytes >= SMALLEST && into->bytes % HEADER == 0 && into->bytes >> 47 == 0;
}

HL_READS_FREE void hl_chunks_learn(const hl_next *next, bool mangled)
{
    uint64_t seen[2] = {0, 0};
    chunk cache;
    links_are_mangled = mangled;
    for (size_t i = 0; i < 2; i++) {
        volatile uint64_t *block = next->malloc(HEADER * (i + 1));
        if (!block)
            return;
        block[1] = i;
        next->free((void *)(uintptr_t)block);
        seen[i] = block[1];
    }
    cached_key = seen[0] == seen[1] ? seen[0] : 0;
    if (cached_key && read_chunk(cached_key - HEADER, &cache) && cache.bytes > CACHE_LISTS * sizeof(uint64_t))
        cache_bytes = cache.bytes;
}

#define MOST_LINKS 64u /* that are followed: data that look like so many are none */

static bool read_link(uintptr_t block, uint64_t *link)
{
    if (!read_word(block, link))
        return false;
    if (links_are_mangled)
        *link ^= block >> 12;
    return true;
}

/* The cache that a second word names has the block: a word alone could be data. */
static bool is_listed(const chunk *it, uint64_t key)
{
    chunk cache;
    uint64_t list = (it->bytes - SMALLEST) / HEADER, at;
    if (!cache_bytes || list >= CACHE_LISTS || !read_chunk(key - HEADER, &cache) || cache.bytes != cache_bytes ||
        !read_word(key + cache_bytes - HEADER - (CACHE_LISTS - list) * sizeof at, &at))
        return false;
    for (uint32_t links = 0; at && links < MOST_LINKS; links++) {
        if (at == it->at + HEADER)
            return true;
        if (at % HEADER || !read_link(at, &at))
            return false;
    }
    return false;
}

static bool is_cached(const chunk *it, uint64_t key)
{
    return cached_key && (key == cached_key || is_listed(it, key));
}

/*
 * A link leads to another chunk of the same length, whose link does so too, or is the
 * last. A block's data may look like one link, where its first byte alone was written
 * since it lay in a bin.
 */
static bool is_in_fast_bin(const chunk *it)
{
    chunk at = *it;
    for (uint32_t links = 0; it->bytes <= FASTEST && links < MOST_LINKS; links++) {
        uintptr_t block = at.at + HEADER;
        uint64_t link;
        if (!read_link(block, &link))
            return false;
        if (!link)
            return links_are_mangled || links > 0;
        if (!read_chunk(link, &at) || at.bytes != it->bytes)
            return false;
    }
    return it->bytes <= FASTEST;
}

/*
 * Other threads change what lies before a block: the previous chunk is freed, or what
 * is free of it is split, in several steps. What is no more as it was says nothing.
 */
static bool is_as_it_was(const chunk *it)
{
    chunk again;
    return read_chunk(it->at, &again) && again.before == it->before && again.bytes == it->bytes &&
           again.flags == it->flags;
}

/* One that was joined to the free chunk before it lies inside that. */
static bool is_inside_previous(const chunk *it)
{
    chunk previous;
    if (it->flags & PREVIOUS_IN_USE)
        return false;
    bool is_inside = !read_chunk(it->at - it->before, &previous) || previous.bytes > it->before;
    return is_inside && is_as_it_was(it);
}

int hl_chunk_says(const void *block, bool alone)
{
    chunk it;
    uint64_t key, next;
    if (!read_chunk((uintptr_t)block - HEADER, &it) || !read_word((uintptr_t)block + sizeof key, &key))
        return HL_CHUNK_IS_FREE; /* given back to the kernel, or part of something else */
    if (it.flags & MAPPED)
        return (it.at - it.before) % HL_PAGE_BYTES == 0 && (it.before + it.bytes) % HL_PAGE_BYTES == 0
                   ? HL_CHUNK_MAY_BE_IN_USE
                   : HL_CHUNK_IS_FREE;
    /*
     * What a thread cached goes into a bin when it ends, whose blocks are handed out with
     * the key in them. From there it comes into others, too, with what is copied unwritten.
     */
    bool cached = is_cached(&it, key);
    if (cached && alone)
        return HL_CHUNK_IS_FREE;
    /* A free chunk that reaches to the end of its heap is what is left there. */
    if (!read_word(it.at + it.bytes + sizeof next, &next) || !(next & PREVIOUS_IN_USE) || is_inside_previous(&it))
        return HL_CHUNK_IS_FREE;
    return cached || is_in_fast_bin(&it) ? HL_CHUNK_LOOKS_FREE : HL_CHUNK_MAY_BE_IN_USE;
}
