/*
 * unwind_tables.c: finds a function's entry in .eh_frame.
 *
 * The tables are the linker's and are read as they lie in memory, no further
 * than each entry says that it goes. What is not understood is said to be so,
 * never guessed at.
 */
#include "unwind_tables.h"

/* A pointer in one of DW_EH_PE_*'s encodings; `data` is what datarel is relative to. */
static uintptr_t encoded(hl_reader *from, unsigned encoding, uintptr_t data)
{
    uintptr_t here = (uintptr_t)from->at;
    uintptr_t value;
    switch (encoding & 0x0f) {
    case 0x0: value = fixed(from, sizeof value); break;
    case 0x1: value = uleb(from); break;
    case 0x2: value = fixed(from, 2); break;
    case 0x3: value = fixed(from, 4); break;
    case 0x4: case 0xc: value = fixed(from, 8); break;
    case 0x9: value = (uintptr_t)sleb(from); break;
    case 0xa: value = (uintptr_t)fixed_signed(from, 2); break;
    case 0xb: value = (uintptr_t)fixed_signed(from, 4); break;
    default: from->bad = true; return 0;
    }
    switch (encoding & 0x70) {
    case 0x00: break;
    case 0x10: value += here; break;
    case 0x30: value += data; break;
    default: from->bad = true;
    }
    return value;
}

#define MOST_BYTES 0xfffffff0u /* above: 64-bit lengths, which no linker needs here */

/* The body of the entry at `at`: behind its length; bad where there is none. */
static hl_reader entry_at(const uint8_t *at)
{
    hl_reader entry = {at, at + 4, false};
    uint64_t bytes = fixed(&entry, 4);
    entry.bad = bytes < 4 || bytes >= MOST_BYTES;
    entry.end = entry.bad ? entry.at : entry.at + bytes;
    return entry;
}

/* Reads the common entry; gives the encoding of its functions' addresses, or -1. */
static int read_common(const uint8_t *at, hl_function *into, bool *augmented)
{
    hl_reader common = entry_at(at);
    if (fixed(&common, 4) != 0)
        return -1;
    unsigned version = (unsigned)fixed(&common, 1);
    if (common.bad || (version != 1 && version != 3))
        return -1;
    const char *augmentation = (const char *)common.at;
    while (fixed(&common, 1))
        ;
    into->code_align = uleb(&common);
    into->data_align = sleb(&common);
    into->return_column = version == 1 ? fixed(&common, 1) : uleb(&common);
    int encoding = 0;
    *augmented = *augmentation == 'z';
    if (*augmented) {
        uint64_t bytes = uleb(&common);
        hl_reader data = common;
        skip(&common, bytes);
        while (!common.bad && *++augmentation) {
            switch (*augmentation) {
            case 'R': encoding = (int)fixed(&data, 1); break;
            case 'L': fixed(&data, 1); break;
            case 'P': encoded(&data, (unsigned)fixed(&data, 1) & 0x0f, 0); break;
            case 'S': into->signal = true; break;
            case 'B': case 'G': break;
            default: return -1;
            }
        }
        if (data.bad)
            return -1;
    } else if (*augmentation) {
        return -1;
    }
    into->initial = common;
    return common.bad ? -1 : encoding;
}

/* Reads the entry at `at`; false where it is not a function's that is understood. */
static bool read_function(const uint8_t *at, hl_function *into)
{
    hl_reader entry = entry_at(at);
    const uint8_t *here = entry.at;
    uint64_t back = fixed(&entry, 4);
    if (entry.bad || !back)
        return false;
    bool augmented = false;
    into->signal = false;
    int encoding = read_common(here - back, into, &augmented);
    if (encoding < 0)
        return false;
    into->start = encoded(&entry, (unsigned)encoding, 0);
    into->bytes = encoded(&entry, (unsigned)encoding & 0x0f, 0);
    if (augmented)
        skip(&entry, uleb(&entry));
    into->instructions = entry;
    return !entry.bad;
}

/* Without a table that can be searched: entry by entry. */
static bool find_one_by_one(const uint8_t *first, uintptr_t at, hl_function *into)
{
    for (hl_reader entry = entry_at(first); !entry.bad; entry = entry_at(entry.end))
        if (read_function(entry.at - 4, into) && at - into->start < into->bytes)
            return true;
    return false;
}

#define HEADER_BYTES 20u    /* four single bytes, and two numbers of at most eight */
#define TABLE_ENCODING 0x3b /* relative to the header, four bytes signed */

bool hl_find_function(const hl_code *code, uintptr_t at, hl_function *into)
{
    uintptr_t base = (uintptr_t)code->header;
    hl_reader header = {code->header, code->header + HEADER_BYTES, false};
    unsigned version = (unsigned)fixed(&header, 1);
    unsigned frame_encoding = (unsigned)fixed(&header, 1);
    unsigned count_encoding = (unsigned)fixed(&header, 1);
    unsigned table_encoding = (unsigned)fixed(&header, 1);
    if (header.bad || version != 1 || frame_encoding == 0xff)
        return false;
    const uint8_t *frames = (const uint8_t *)encoded(&header, frame_encoding, base);
    if (header.bad)
        return false;
    if (count_encoding == 0xff || table_encoding != TABLE_ENCODING)
        return find_one_by_one(frames, at, into);
    uint64_t count = encoded(&header, count_encoding, base);
    if (header.bad || !count)
        return false;
    const int32_t(*table)[2] = (const void *)header.at; /* the linker aligns it */
    intptr_t wanted = (intptr_t)(at - base);
    uint64_t low = 0, high = count; /* the last that begins at or before `at` */
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (table[middle][0] <= wanted)
            low = middle;
        else
            high = middle;
    }
    if (!read_function((const uint8_t *)(base + (uintptr_t)(intptr_t)table[low][1]), into))
        return false;
    return at - into->start < into->bytes;
}
