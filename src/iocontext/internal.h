/*
 * internal.h: what the library's files share.
 *
 * A container is a header, packets, and an index; all numbers are little-endian.
 *
 *     header   IC_HEADER_BYTES   magic, sizes, where the index is, levels
 *     packet   IC_PACKET_BYTES   number, size, checksums; then its payload
 *     index    IC_INDEX_HEAD     magic, count; then IC_INDEX_ENTRY each; then a checksum
 */
#ifndef IC_INTERNAL_H
#define IC_INTERNAL_H

#include <string.h>

#include "library.h"

#define IC_HEADER_BYTES 320u
#define IC_PACKET_BYTES 40u
#define IC_INDEX_HEAD 8u
#define IC_INDEX_ENTRY 16u
#define IC_INDEX_TAIL 8u
#define IC_MAGIC "IOCTX1\r\n"
#define IC_PACKET_MAGIC 0x544b4350u /* "PCKT" */
#define IC_INDEX_MAGIC 0x58444e49u  /* "INDX" */
#define IC_FLAG_KEY 1u

/* Where the header's fields are. */
enum {
    IC_AT_FRAME_COUNT = 8,
    IC_AT_MAX_WIDTH = 12,
    IC_AT_MAX_HEIGHT = 16,
    IC_AT_MAX_PACKET = 20,
    IC_AT_KEY_INTERVAL = 24,
    IC_AT_INDEX_OFFSET = 32,
    IC_AT_CHECKSUM = 40, /* of the header with this field zero */
    IC_AT_LEVELS = 64,
};

/* A block is 8 x 8 bytes of one plane. A code is a kind, a run of blocks, and what the kind needs. */
#define IC_BLOCK 8u
enum {
    IC_END = 0,   /* of the payload */
    IC_FLAT = 1,  /* a level's number */
    IC_SKIP = 2,  /* the reference's blocks at the same place */
    IC_MOVE = 3,  /* two signed bytes: how far right and down in the reference */
    IC_CODED = 4, /* each block: a count, then pairs of place and signed amount */
    IC_KINDS = 5,
};
#define IC_KIND_SHIFT 5
#define IC_RUN_MASK 31u /* a run of 0 stands for 16 bits that follow */
#define IC_MAX_COEFFICIENTS 16u

#define IC_PADDING 64u /* zeros behind a packet's data */

extern ic_memory ic_memory_now;

static inline uint32_t ic_get16(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static inline uint32_t ic_get32(const uint8_t *at)
{
    return ic_get16(at) | ic_get16(at + 2) << 16;
}

static inline uint64_t ic_get64(const uint8_t *at)
{
    return ic_get32(at) | (uint64_t)ic_get32(at + 4) << 32;
}

static inline void ic_put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static inline void ic_put32(uint8_t *at, uint32_t value)
{
    ic_put16(at, value);
    ic_put16(at + 2, value >> 16);
}

static inline void ic_put64(uint8_t *at, uint64_t value)
{
    ic_put32(at, (uint32_t)value);
    ic_put32(at + 4, (uint32_t)(value >> 32));
}

uint64_t ic_checksum(const uint8_t *data, size_t bytes);

/* Whether a frame may have this size: whole blocks in every plane, and within the limits. */
int ic_size_check(uint32_t width, uint32_t height);

static inline uint32_t ic_frame_bytes(uint32_t width, uint32_t height)
{
    return width * height / 2 * 3;
}

#endif
