/* library.c: reading through the caller's callbacks, probing and demuxing. */
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

#define INPUT_BYTES (32 << 10)
#define PROBE_BYTES 128u          /* at first; as much again until the header fits */
#define INDEX_STEP 256u           /* entries that memory is taken for before any was read */

ic_memory ic_memory_now = {malloc, calloc, realloc, free};

void ic_set_memory(const ic_memory *memory)
{
    static const ic_memory usual = {malloc, calloc, realloc, free};
    ic_memory_now = memory ? *memory : usual;
}

const char *ic_error_text(int code)
{
    switch (code) {
    case IC_OK: return "no error";
    case IC_ERR_MEMORY: return "the allocator refused memory";
    case IC_ERR_END: return "no further packet";
    case IC_ERR_FORMAT: return "not a container of this kind";
    case IC_ERR_CORRUPT: return "the container is damaged";
    case IC_ERR_TRUNCATED: return "the data ends before it should";
    case IC_ERR_LIMIT: return "a size is past what the library takes";
    case IC_ERR_CALLBACK: return "a callback gave what it must not";
    case IC_ERR_ARGUMENT: return "an argument is not valid";
    case IC_ERR_SEEK: return "cannot seek there";
    case IC_ERR_IO: return "the source failed";
    case IC_ERR_HANDLE: return "the source is gone";
    case IC_ERR_PANIC: return "the source's callback panicked";
    default: return code < 0 ? "an error of the source's own" : "no error";
    }
}

/* Four sums side by side, so that the multiplications need not wait for each other. */
uint64_t ic_checksum(const uint8_t *data, size_t bytes)
{
    const uint64_t prime = 0x9e3779b97f4a7c15u;
    uint64_t lanes[4] = {bytes, prime, ~bytes, ~prime};
    size_t at = 0;
    for (; at + 32 <= bytes; at += 32)
        for (int lane = 0; lane < 4; lane++) {
            uint64_t word = ic_get64(data + at + 8 * lane);
            lanes[lane] = ((lanes[lane] ^ word) * prime) ^ (word >> 29);
        }
    for (; at < bytes; at++)
        lanes[at % 4] = (lanes[at % 4] ^ data[at]) * prime;
    uint64_t sum = 0;
    for (int lane = 0; lane < 4; lane++)
        sum = (sum ^ lanes[lane] ^ lanes[lane] >> 31) * prime;
    return sum ^ sum >> 32;
}

int ic_size_check(uint32_t width, uint32_t height)
{
    if (!width || !height || width % (2 * IC_BLOCK) || height % (2 * IC_BLOCK))
        return IC_ERR_CORRUPT;
    if (width > IC_MAX_SIDE || height > IC_MAX_SIDE || ic_frame_bytes(width, height) > IC_MAX_FRAME_BYTES)
        return IC_ERR_LIMIT;
    return IC_OK;
}

IOContext *ic_io_alloc(void)
{
    return ic_memory_now.calloc(1, sizeof(IOContext));
}

void ic_io_free(IOContext **io)
{
    ic_memory_now.free(*io);
    *io = NULL;
}

/* ---- the callbacks, believed in nothing ---- */

/* Callbacks have codes of their own; the library's, from them, would say what is not so. */
static int code_of(int64_t answer)
{
    return answer <= IC_ERR_IO && answer >= INT32_MIN ? (int)answer : IC_ERR_CALLBACK;
}

static int source_size(IOContext *io, int64_t *size)
{
    *size = io->size ? io->size(io->opaque) : IC_SIZE_UNKNOWN;
    return *size < IC_SIZE_UNKNOWN ? code_of(*size) : IC_OK;
}

static int source_seek(IOContext *io, int64_t offset)
{
    if (!io->seek)
        return IC_ERR_SEEK;
    int64_t position = io->seek(io->opaque, offset, SEEK_SET);
    if (position < 0)
        return code_of(position);
    return position == offset ? IC_OK : IC_ERR_CALLBACK;
}

/* The count, or a code. */
static int source_read(IOContext *io, uint8_t *buffer, int bytes)
{
    int count = io->read(io->opaque, buffer, bytes);
    if (count < 0)
        return code_of(count);
    return count > bytes ? IC_ERR_CALLBACK : count;
}

/* ---- buffered input ---- */

typedef struct ic_input {
    IOContext *io;
    uint8_t *buffer; /* INPUT_BYTES */
    int filled;
    int at;
    int64_t end;  /* where the source stands, which is behind the buffer; -1: unknown */
    int64_t size; /* IC_SIZE_UNKNOWN where it is */
} ic_input;

/* Nothing is known any more of where the source stands. */
static void input_forget(ic_input *input)
{
    input->filled = input->at = 0;
    input->end = -1;
}

static int input_open(ic_input *input, IOContext *io)
{
    if (!io || !io->read)
        return IC_ERR_ARGUMENT;
    input->io = io;
    input_forget(input);
    int code = source_size(io, &input->size);
    if (code < 0)
        return code;
    input->buffer = ic_memory_now.calloc(1, INPUT_BYTES); /* callbacks may look at what they are to fill */
    return input->buffer ? IC_OK : IC_ERR_MEMORY;
}

static void input_close(ic_input *input)
{
    ic_memory_now.free(input->buffer);
}

static int input_seek(ic_input *input, int64_t offset)
{
    int64_t start = input->end - input->filled;
    if (input->end >= 0 && offset >= start && offset <= input->end) {
        input->at = (int)(offset - start);
        return IC_OK;
    }
    input_forget(input);
    int code = source_seek(input->io, offset);
    if (code == IC_OK)
        input->end = offset;
    return code;
}

static int input_fill(ic_input *input)
{
    int count = source_read(input->io, input->buffer, INPUT_BYTES);
    if (count <= 0) {
        input_forget(input);
        return count ? count : IC_ERR_TRUNCATED;
    }
    input->at = 0;
    input->filled = count;
    input->end += count;
    return IC_OK;
}

static int input_read(ic_input *input, uint8_t *into, size_t bytes)
{
    while (bytes) {
        if (input->at == input->filled) {
            int code = input_fill(input);
            if (code < 0)
                return code;
        }
        size_t count = (size_t)(input->filled - input->at);
        count = count < bytes ? count : bytes;
        memcpy(into, input->buffer + input->at, count);
        input->at += (int)count;
        into += count;
        bytes -= count;
    }
    return IC_OK;
}

/* ---- the header ---- */

/* Believes no size that it has not checked; `size` is all there is, or IC_SIZE_UNKNOWN. */
static int header_parse(const uint8_t header[IC_HEADER_BYTES], int64_t size, ic_info *info)
{
    uint8_t copy[IC_HEADER_BYTES];
    memcpy(copy, header, sizeof copy);
    memset(copy + IC_AT_CHECKSUM, 0, 8);
    if (memcmp(header, IC_MAGIC, 8))
        return IC_ERR_FORMAT;
    if (ic_get64(header + IC_AT_CHECKSUM) != ic_checksum(copy, sizeof copy))
        return IC_ERR_CORRUPT;
    info->frame_count = ic_get32(header + IC_AT_FRAME_COUNT);
    info->max_width = ic_get32(header + IC_AT_MAX_WIDTH);
    info->max_height = ic_get32(header + IC_AT_MAX_HEIGHT);
    info->max_packet_bytes = ic_get32(header + IC_AT_MAX_PACKET);
    info->key_interval = ic_get32(header + IC_AT_KEY_INTERVAL);
    info->reserved = 0;
    info->index_offset = ic_get64(header + IC_AT_INDEX_OFFSET);
    memcpy(info->levels, header + IC_AT_LEVELS, sizeof info->levels);
    if (!info->frame_count || !info->key_interval || !info->max_packet_bytes)
        return IC_ERR_CORRUPT;
    if (info->frame_count > IC_MAX_FRAMES || info->max_packet_bytes > IC_MAX_PACKET_BYTES ||
        info->index_offset > INT64_MAX / 2)
        return IC_ERR_LIMIT;
    if (info->index_offset < IC_HEADER_BYTES)
        return IC_ERR_CORRUPT;
    int64_t index_end = (int64_t)info->index_offset + IC_INDEX_HEAD + IC_INDEX_TAIL +
                        (int64_t)info->frame_count * IC_INDEX_ENTRY;
    if (size != IC_SIZE_UNKNOWN && index_end > size)
        return IC_ERR_TRUNCATED;
    return ic_size_check(info->max_width, info->max_height);
}

/* Reads on until the buffer holds `wanted` bytes. */
static int probe_fill(IOContext *io, uint8_t *buffer, uint32_t *have, uint32_t wanted)
{
    while (*have < wanted) {
        int count = source_read(io, buffer + *have, (int)(wanted - *have));
        if (count < 0)
            return count;
        if (!count)
            return IC_ERR_TRUNCATED;
        *have += (uint32_t)count;
    }
    return IC_OK;
}

int ic_probe(IOContext *io, ic_info *info)
{
    if (!io || !io->read || !info)
        return IC_ERR_ARGUMENT;
    int64_t size;
    uint32_t have = 0, room = PROBE_BYTES;
    uint8_t *buffer = NULL;
    int code = source_size(io, &size);
    if (code < 0)
        goto done;
    code = IC_ERR_MEMORY;
    buffer = ic_memory_now.calloc(1, room);
    if (!buffer)
        goto done;
    code = probe_fill(io, buffer, &have, room);
    while (code == IC_OK && room < IC_HEADER_BYTES) {
        /* A foreign file is told by its first bytes; more memory is for what looks like ours. */
        code = IC_ERR_FORMAT;
        if (memcmp(buffer, IC_MAGIC, 8))
            goto done;
        uint32_t more = 2 * room < IC_HEADER_BYTES ? 2 * room : IC_HEADER_BYTES;
        code = IC_ERR_MEMORY;
        uint8_t *larger = ic_memory_now.realloc(buffer, more);
        if (!larger)
            goto done;
        buffer = larger;
        memset(buffer + room, 0, more - room);
        room = more;
        code = probe_fill(io, buffer, &have, room);
    }
    if (code < 0)
        goto done;
    code = header_parse(buffer, size, info);
    if (code < 0)
        goto done;
    code = source_seek(io, 0);
done:
    ic_memory_now.free(buffer);
    return code;
}

/* ---- the demuxer ---- */

typedef struct ic_entry {
    uint64_t offset;
    uint32_t bytes; /* packet header and payload */
    uint32_t flags;
} ic_entry;

struct ic_demuxer {
    ic_input input;
    ic_info info;
    ic_entry *index; /* info.frame_count */
    uint32_t next;   /* number of the packet to read */
};

/* `start`: the least offset that the entry may have. */
static int entry_parse(const ic_info *info, const uint8_t raw[IC_INDEX_ENTRY], uint64_t start, ic_entry *entry)
{
    *entry = (ic_entry){ic_get64(raw), ic_get32(raw + 8), ic_get32(raw + 12)};
    if (entry->bytes <= IC_PACKET_BYTES || entry->flags & ~IC_FLAG_KEY || entry->offset < start)
        return IC_ERR_CORRUPT;
    if (entry->bytes > IC_PACKET_BYTES + info->max_packet_bytes)
        return IC_ERR_LIMIT;
    if (entry->offset > info->index_offset || entry->bytes > info->index_offset - entry->offset)
        return IC_ERR_CORRUPT;
    return IC_OK;
}

/* Memory grows with what was really read, not with what the header says. */
static int index_grow(ic_demuxer *demuxer, uint32_t *room)
{
    uint32_t more = *room ? 2 * *room : INDEX_STEP;
    more = more < demuxer->info.frame_count ? more : demuxer->info.frame_count;
    ic_entry *larger = ic_memory_now.realloc(demuxer->index, more * sizeof *larger);
    if (!larger)
        return IC_ERR_MEMORY;
    demuxer->index = larger;
    *room = more;
    return IC_OK;
}

static int index_read(ic_demuxer *demuxer)
{
    uint8_t raw[IC_INDEX_ENTRY];
    int code = input_seek(&demuxer->input, (int64_t)demuxer->info.index_offset);
    if (code == IC_OK)
        code = input_read(&demuxer->input, raw, IC_INDEX_HEAD);
    if (code < 0)
        return code;
    if (ic_get32(raw) != IC_INDEX_MAGIC || ic_get32(raw + 4) != demuxer->info.frame_count)
        return IC_ERR_CORRUPT;
    uint64_t sum = 0, start = IC_HEADER_BYTES;
    uint32_t room = 0;
    for (uint32_t number = 0; number < demuxer->info.frame_count; number++) {
        if (number == room && (code = index_grow(demuxer, &room)) < 0)
            return code;
        if ((code = input_read(&demuxer->input, raw, sizeof raw)) < 0)
            return code;
        sum = ic_checksum(raw, sizeof raw) + sum * 31;
        ic_entry *entry = &demuxer->index[number];
        if ((code = entry_parse(&demuxer->info, raw, start, entry)) < 0)
            return code;
        start = entry->offset + entry->bytes;
    }
    if ((code = input_read(&demuxer->input, raw, IC_INDEX_TAIL)) < 0)
        return code;
    return ic_get64(raw) == sum && demuxer->index[0].flags & IC_FLAG_KEY ? IC_OK : IC_ERR_CORRUPT;
}

int ic_demuxer_open(ic_demuxer **opened, IOContext *io)
{
    uint8_t header[IC_HEADER_BYTES];
    if (!opened)
        return IC_ERR_ARGUMENT;
    *opened = NULL;
    ic_demuxer *demuxer = ic_memory_now.calloc(1, sizeof *demuxer);
    if (!demuxer)
        return IC_ERR_MEMORY;
    int code = input_open(&demuxer->input, io);
    if (code < 0)
        goto failed;
    code = input_seek(&demuxer->input, 0);
    if (code < 0)
        goto failed;
    code = input_read(&demuxer->input, header, sizeof header);
    if (code < 0)
        goto failed;
    code = header_parse(header, demuxer->input.size, &demuxer->info);
    if (code < 0)
        goto failed;
    code = index_read(demuxer);
    if (code < 0)
        goto failed;
    *opened = demuxer;
    return IC_OK;
failed:
    ic_demuxer_close(&demuxer);
    return code;
}

const ic_info *ic_demuxer_info(const ic_demuxer *demuxer)
{
    return &demuxer->info;
}

void ic_demuxer_close(ic_demuxer **demuxer)
{
    if (!*demuxer)
        return;
    ic_memory_now.free((*demuxer)->index);
    input_close(&(*demuxer)->input);
    ic_memory_now.free(*demuxer);
    *demuxer = NULL;
}

static int packet_parse(const ic_demuxer *demuxer, const uint8_t raw[IC_PACKET_BYTES], ic_packet *packet)
{
    const ic_entry *entry = &demuxer->index[demuxer->next];
    packet->number = ic_get32(raw + 4);
    packet->width = (uint16_t)ic_get16(raw + 8);
    packet->height = (uint16_t)ic_get16(raw + 10);
    packet->key = ic_get32(raw + 12) & IC_FLAG_KEY;
    packet->bytes = ic_get32(raw + 16);
    packet->frame_checksum = ic_get64(raw + 32);
    if (ic_get32(raw) != IC_PACKET_MAGIC || packet->number != demuxer->next ||
        ic_get32(raw + 12) != entry->flags || packet->bytes != entry->bytes - IC_PACKET_BYTES)
        return IC_ERR_CORRUPT;
    if (packet->width > demuxer->info.max_width || packet->height > demuxer->info.max_height)
        return IC_ERR_CORRUPT;
    return ic_size_check(packet->width, packet->height);
}

int ic_demuxer_read(ic_demuxer *demuxer, ic_packet **read)
{
    uint8_t raw[IC_PACKET_BYTES];
    if (read)
        *read = NULL;
    if (!demuxer || !read)
        return IC_ERR_ARGUMENT;
    if (demuxer->next == demuxer->info.frame_count)
        return IC_ERR_END;
    ic_packet *packet = ic_memory_now.calloc(1, sizeof *packet);
    if (!packet)
        return IC_ERR_MEMORY;
    int code = input_seek(&demuxer->input, (int64_t)demuxer->index[demuxer->next].offset);
    if (code < 0)
        goto failed;
    code = input_read(&demuxer->input, raw, sizeof raw);
    if (code < 0)
        goto failed;
    code = packet_parse(demuxer, raw, packet);
    if (code < 0)
        goto failed;
    code = IC_ERR_MEMORY;
    packet->data = ic_memory_now.malloc(packet->bytes + IC_PADDING);
    if (!packet->data)
        goto failed;
    memset(packet->data + packet->bytes, 0, IC_PADDING);
    code = input_read(&demuxer->input, packet->data, packet->bytes);
    if (code < 0)
        goto failed;
    code = IC_ERR_CORRUPT;
    if (ic_checksum(packet->data, packet->bytes) != ic_get64(raw + 24))
        goto failed;
    demuxer->next++;
    *read = packet;
    return IC_OK;
failed:
    ic_packet_free(&packet);
    return code;
}

int ic_demuxer_seek(ic_demuxer *demuxer, uint32_t number, uint32_t *key)
{
    if (!demuxer || !key)
        return IC_ERR_ARGUMENT;
    if (number >= demuxer->info.frame_count)
        return IC_ERR_SEEK;
    while (!(demuxer->index[number].flags & IC_FLAG_KEY))
        number--; /* the first is a key frame: index_read saw to it */
    demuxer->next = *key = number;
    return IC_OK;
}

void ic_packet_free(ic_packet **packet)
{
    if (!*packet)
        return;
    ic_memory_now.free((*packet)->data);
    ic_memory_now.free(*packet);
    *packet = NULL;
}

/* ---- all at once ---- */

int ic_decode_all(IOContext *io, int (*on_frame)(void *opaque, ic_frame *frame), void *opaque)
{
    ic_info info;
    ic_demuxer *demuxer = NULL;
    ic_decoder *decoder = NULL;
    ic_packet *packet = NULL;
    ic_frame *frame = NULL;
    int code = ic_probe(io, &info);
    if (code < 0)
        goto out;
    code = ic_demuxer_open(&demuxer, io);
    if (code < 0)
        goto out;
    code = ic_decoder_open(&decoder, &info);
    if (code < 0)
        goto close_demuxer;
    for (;;) {
        code = ic_demuxer_read(demuxer, &packet);
        if (code == IC_ERR_END)
            code = IC_OK;
        if (!packet)
            goto close_decoder;
        code = ic_decoder_decode(decoder, packet, &frame);
        if (code < 0)
            goto free_packet;
        code = on_frame(opaque, frame);
        ic_frame_free(&frame);
        if (code < 0) {
            code = code_of(code);
            goto free_packet;
        }
        ic_packet_free(&packet);
    }
free_packet:
    ic_packet_free(&packet);
close_decoder:
    ic_decoder_close(&decoder);
close_demuxer:
    ic_demuxer_close(&demuxer);
out:
    return code;
}
