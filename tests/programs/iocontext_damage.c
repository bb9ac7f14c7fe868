/*
 * Compiled with the IOContext library and gcc's address and undefined-behaviour
 * sanitizers: damaged containers and payloads touch no byte that is not theirs.
 * Prints how many were tried and how many decoded nevertheless.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"

#define ROUNDS 3000

typedef struct bytes {
    uint8_t *data;
    size_t count;
    size_t at;
} bytes;

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint32_t any(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 32) * below >> 32);
}

static int append(void *opaque, const uint8_t *data, int size)
{
    bytes *all = opaque;
    all->data = realloc(all->data, all->count + (size_t)size);
    memcpy(all->data + all->count, data, (size_t)size);
    all->count += (size_t)size;
    return 0;
}

static int read_some(void *opaque, uint8_t *buffer, int size)
{
    bytes *all = opaque;
    size_t left = all->at < all->count ? all->count - all->at : 0;
    size_t count = (size_t)size < left ? (size_t)size : left;
    memcpy(buffer, all->data + all->at, count);
    all->at += count;
    return (int)count;
}

static int64_t seek_to(void *opaque, int64_t offset, int whence)
{
    (void)whence;
    ((bytes *)opaque)->at = (size_t)offset;
    return offset;
}

static int64_t tell_size(void *opaque)
{
    return any(2) ? (int64_t)((bytes *)opaque)->count : IC_SIZE_UNKNOWN;
}

/* Looks at every byte that the library hands out. */
static int look(void *opaque, ic_frame *frame)
{
    *(uint64_t *)opaque += ic_checksum(frame->planes[0], frame->bytes);
    return 0;
}

static int decode(bytes *all)
{
    uint64_t sum = 0;
    all->at = 0;
    IOContext *io = ic_io_alloc();
    *io = (IOContext){all, read_some, seek_to, tell_size};
    int code = ic_decode_all(io, look, &sum);
    ic_io_free(&io);
    return code == IC_OK;
}

/* With checksums made right again, so that what lies behind them is reached. */
static void seal(bytes *all)
{
    if (all->count < IC_HEADER_BYTES)
        return;
    ic_put64(all->data + IC_AT_CHECKSUM, 0);
    ic_put64(all->data + IC_AT_CHECKSUM, ic_checksum(all->data, IC_HEADER_BYTES));
    size_t at = IC_HEADER_BYTES;
    while (at + IC_PACKET_BYTES < all->count && ic_get32(all->data + at) == IC_PACKET_MAGIC) {
        uint32_t payload = ic_get32(all->data + at + 16);
        if (payload > all->count - at - IC_PACKET_BYTES)
            return;
        ic_put64(all->data + at + 24, ic_checksum(all->data + at + IC_PACKET_BYTES, payload));
        at += IC_PACKET_BYTES + payload;
    }
}

int main(void)
{
    ic_recipe recipe = {.seed = 5, .frame_count = 5, .key_interval = 2, .max_width = 320, .max_height = 192};
    bytes whole = {0};
    if (ic_generate(&recipe, append, &whole) < 0 || !decode(&whole))
        return 1;
    uint32_t decoded = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        bytes damaged = {.data = malloc(whole.count), .count = whole.count};
        memcpy(damaged.data, whole.data, whole.count);
        for (uint32_t change = 0; change <= round % 4; change++)
            damaged.data[any((uint32_t)damaged.count)] ^= (uint8_t)(1 + any(255));
        if (round % 8 == 0)
            damaged.count = 1 + any((uint32_t)damaged.count);
        damaged.data = realloc(damaged.data, damaged.count); /* so that reading past its end is noticed */
        if (round % 2)
            seal(&damaged);
        decoded += (uint32_t)decode(&damaged);
        free(damaged.data);
    }
    free(whole.data);
    printf("%d damaged containers, %s decoded\n", ROUNDS, decoded ? "some" : "none");
    return decoded == ROUNDS;
}
