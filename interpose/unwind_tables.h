/*
 * unwind_tables.h: reading .eh_frame, as a stream of bytes that ends.
 */
#ifndef HL_UNWIND_TABLES_H
#define HL_UNWIND_TABLES_H

#include "unwinder.h"

#pragma GCC visibility push(hidden)

typedef struct hl_reader {
    const uint8_t *at, *end;
    bool bad; /* went past the end: everything read since is 0 */
} hl_reader;

static inline uint64_t fixed(hl_reader *from, unsigned bytes)
{
    if (from->bad || (size_t)(from->end - from->at) < bytes) {
        from->bad = true;
        return 0;
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)from->at[i] << (8 * i);
    from->at += bytes;
    return value;
}

static inline int64_t fixed_signed(hl_reader *from, unsigned bytes)
{
    unsigned unused = 64 - 8 * bytes;
    return (int64_t)(fixed(from, bytes) << unused) >> unused;
}

static inline uint64_t leb(hl_reader *from, bool is_signed)
{
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte;
    do {
        byte = (uint8_t)fixed(from, 1);
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
    } while (byte & 0x80);
    if (is_signed && shift < 64 && byte & 0x40)
        value |= ~0ull << shift;
    return value;
}

static inline uint64_t uleb(hl_reader *from)
{
    return leb(from, false);
}

static inline int64_t sleb(hl_reader *from)
{
    return (int64_t)leb(from, true);
}

static inline void skip(hl_reader *from, uint64_t bytes)
{
    if (from->bad || (uint64_t)(from->end - from->at) < bytes)
        from->bad = true;
    else
        from->at += bytes;
}

/* A function's entry in .eh_frame. */
typedef struct hl_function {
    hl_reader instructions, initial; /* of the function, and of its common entry */
    uintptr_t start, bytes;
    uint64_t code_align;
    int64_t data_align;
    uint64_t return_column;
    bool signal;
} hl_function;

/* The entry of the function around an address. */
bool hl_find_function(const hl_code *code, uintptr_t at, hl_function *into);

#pragma GCC visibility pop

#endif
