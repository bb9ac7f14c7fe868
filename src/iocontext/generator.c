/* generator.c: containers made from a seed, the same bytes on every machine. */
#include <stdbool.h>

#include "codec.h"

#define LEAST_PAYLOAD (16u << 10)
#define CLOSING_BYTES 128u /* kept back, enough to paint all that is left in long runs */
#define CODED_BYTES 96u    /* at most, of one code */

/* Width and height: 1 to 8 MiB a frame; the small ones are for tests. */
static const uint16_t sizes[][2] = {
    {64, 64}, {320, 192}, {1280, 720}, {1600, 896}, {1920, 1088}, {2560, 1440}, {3072, 1728},
};
#define SIZES (sizeof sizes / sizeof *sizes)
#define SMALL_SIZES 2u

typedef struct maker {
    const ic_recipe *recipe;
    uint64_t random;     /* never 0 */
    uint32_t choice[SIZES]; /* sizes that fit the recipe, in an order of the seed's */
    uint32_t choices;
    uint32_t references; /* how many the decoder will have */
    uint8_t *payload;
    uint32_t used;
} maker;

/* xorshift64*, Vigna 2014. */
static uint32_t any(maker *maker, uint32_t below)
{
    maker->random ^= maker->random >> 12;
    maker->random ^= maker->random << 25;
    maker->random ^= maker->random >> 27;
    return (uint32_t)((maker->random * 0x2545f4914f6cdd1du >> 32) * below >> 32);
}

static void put(maker *maker, uint32_t byte)
{
    maker->payload[maker->used++] = (uint8_t)byte;
}

static void put_code(maker *maker, uint32_t kind, uint32_t run)
{
    put(maker, kind << IC_KIND_SHIFT | (run <= IC_RUN_MASK ? run : 0));
    if (run > IC_RUN_MASK) {
        put(maker, run & 255);
        put(maker, run >> 8);
    }
}

/* ---- a payload ---- */

static void put_blocks(maker *maker, uint32_t run)
{
    put_code(maker, IC_CODED, run);
    while (run--) {
        uint32_t count = 1 + any(maker, 6);
        put(maker, count);
        while (count--) {
            /* Low places more often than high ones, as in pictures. */
            put(maker, any(maker, 4) * 8 + any(maker, 4));
            put(maker, any(maker, 64) - 32);
        }
    }
}

static uint32_t at_most(uint32_t value, uint32_t limit)
{
    return value < limit ? value : limit;
}

/* Paints `blocks` of a plane; gives how many that were. `stretch` lengthens runs in large frames. */
static uint32_t put_run(maker *maker, bool key, uint32_t blocks, uint32_t stretch, uint32_t budget)
{
    uint32_t run = at_most(blocks, 65535);
    if (maker->used + CODED_BYTES > budget) {
        put_code(maker, key ? IC_FLAT : IC_SKIP, run);
        if (key)
            put(maker, any(maker, 256));
        return run;
    }
    uint32_t roll = any(maker, key ? 3 : 5);
    if (roll == 0) {
        run = at_most(run, 1 + any(maker, 6));
        put_blocks(maker, run);
        return run;
    }
    run = at_most(run, 1 + any(maker, 24 * stretch));
    if (roll <= 2) {
        put_code(maker, IC_FLAT, run);
        put(maker, any(maker, 256));
    } else if (roll == 3) {
        put_code(maker, IC_SKIP, run);
    } else {
        put_code(maker, IC_MOVE, run);
        put(maker, any(maker, 33) - 16);
        put(maker, any(maker, 33) - 16);
    }
    return run;
}

static void make_payload(maker *maker, const ic_packet *packet)
{
    uint32_t blocks = (uint32_t)packet->width * packet->height / (IC_BLOCK * IC_BLOCK);
    uint32_t budget = LEAST_PAYLOAD + any(maker, IC_MAX_PACKET_BYTES - LEAST_PAYLOAD) - CLOSING_BYTES;
    uint32_t stretch = 1 + blocks / budget;
    maker->used = 0;
    put(maker, packet->key ? 0 : any(maker, maker->references));
    for (int plane = 0; plane < 3; plane++) {
        uint32_t left = plane ? blocks / 4 : blocks;
        while (left)
            left -= put_run(maker, packet->key, left, stretch, budget);
    }
    put(maker, IC_END);
}

/* ---- a container ---- */

static void maker_begin(maker *maker)
{
    const ic_recipe *recipe = maker->recipe;
    maker->random = recipe->seed * 2 + 1;
    maker->choices = 0;
    for (uint32_t size = 0; size < SIZES; size++) {
        bool fits = sizes[size][0] <= recipe->max_width && sizes[size][1] <= recipe->max_height;
        if (size == SMALL_SIZES && fits)
            maker->choices = 0; /* real ones are to be had */
        if (fits)
            maker->choice[maker->choices++] = size;
    }
    for (int warming = 0; warming < 8; warming++)
        any(maker, 1);
    for (uint32_t last = maker->choices; last > 1; last--) {
        uint32_t other = any(maker, last), kept = maker->choice[last - 1];
        maker->choice[last - 1] = maker->choice[other];
        maker->choice[other] = kept;
    }
}

/* Each key frame has the next size in turn, so that the mean is the same for all seeds. */
static void make_packet(maker *maker, uint32_t number, ic_packet *packet)
{
    uint32_t interval = maker->recipe->key_interval;
    const uint16_t *size = sizes[maker->choice[number / interval % maker->choices]];
    *packet = (ic_packet){
        .data = maker->payload, .number = number, .key = number % interval == 0, .width = size[0], .height = size[1]};
    maker->references = at_most(number % interval, 4);
    make_payload(maker, packet);
    packet->bytes = maker->used;
}

static int recipe_check(const ic_recipe *recipe)
{
    if (!recipe || !recipe->frame_count || !recipe->key_interval)
        return IC_ERR_ARGUMENT;
    if (recipe->frame_count > IC_MAX_FRAMES)
        return IC_ERR_LIMIT;
    return recipe->max_width < sizes[0][0] || recipe->max_height < sizes[0][1] ? IC_ERR_ARGUMENT : IC_OK;
}

static int write_header(const maker *maker, uint64_t index_offset, int (*write)(void *, const uint8_t *, int),
                        void *opaque)
{
    uint8_t header[IC_HEADER_BYTES] = {0};
    uint32_t width = 0, height = 0;
    for (uint32_t choice = 0; choice < maker->choices; choice++) {
        const uint16_t *size = sizes[maker->choice[choice]];
        width = size[0] > width ? size[0] : width;
        height = size[1] > height ? size[1] : height;
    }
    memcpy(header, IC_MAGIC, 8);
    ic_put32(header + IC_AT_FRAME_COUNT, maker->recipe->frame_count);
    ic_put32(header + IC_AT_MAX_WIDTH, width);
    ic_put32(header + IC_AT_MAX_HEIGHT, height);
    ic_put32(header + IC_AT_MAX_PACKET, IC_MAX_PACKET_BYTES);
    ic_put32(header + IC_AT_KEY_INTERVAL, maker->recipe->key_interval);
    ic_put64(header + IC_AT_INDEX_OFFSET, index_offset);
    for (uint32_t level = 0; level < 256; level++)
        header[IC_AT_LEVELS + level] = (uint8_t)(level * 167 + 13);
    ic_put64(header + IC_AT_CHECKSUM, ic_checksum(header, sizeof header));
    return write(opaque, header, sizeof header);
}

static int write_packet(maker *maker, ic_decoder *decoder, uint32_t number,
                        int (*write)(void *, const uint8_t *, int), void *opaque)
{
    uint8_t head[IC_PACKET_BYTES] = {0};
    ic_packet packet;
    ic_frame *frame;
    make_packet(maker, number, &packet);
    int code = ic_decoder_reconstruct(decoder, &packet, &frame);
    if (code < 0)
        return code;
    ic_put32(head, IC_PACKET_MAGIC);
    ic_put32(head + 4, number);
    ic_put16(head + 8, packet.width);
    ic_put16(head + 10, packet.height);
    ic_put32(head + 12, packet.key ? IC_FLAG_KEY : 0);
    ic_put32(head + 16, packet.bytes);
    ic_put64(head + 24, ic_checksum(packet.data, packet.bytes));
    ic_put64(head + 32, frame->checksum);
    ic_decoder_keep(decoder, frame);
    code = write(opaque, head, sizeof head);
    return code < 0 ? code : write(opaque, packet.data, (int)packet.bytes);
}

static int write_index(const uint8_t *entries, uint32_t count, int (*write)(void *, const uint8_t *, int),
                       void *opaque)
{
    uint8_t head[IC_INDEX_HEAD], tail[IC_INDEX_TAIL];
    uint64_t sum = 0;
    for (uint32_t number = 0; number < count; number++)
        sum = ic_checksum(entries + (size_t)number * IC_INDEX_ENTRY, IC_INDEX_ENTRY) + sum * 31;
    ic_put32(head, IC_INDEX_MAGIC);
    ic_put32(head + 4, count);
    ic_put64(tail, sum);
    int code = write(opaque, head, sizeof head);
    if (code == IC_OK)
        code = write(opaque, entries, (int)(count * IC_INDEX_ENTRY));
    return code < 0 ? code : write(opaque, tail, sizeof tail);
}

/* The payloads are made twice: their lengths say where the index goes, which stands in front of them. */
static uint64_t lay_out(maker *maker, uint8_t *entries)
{
    uint64_t offset = IC_HEADER_BYTES;
    maker_begin(maker);
    for (uint32_t number = 0; number < maker->recipe->frame_count; number++) {
        ic_packet packet;
        make_packet(maker, number, &packet);
        uint8_t *entry = entries + (size_t)number * IC_INDEX_ENTRY;
        ic_put64(entry, offset);
        ic_put32(entry + 8, IC_PACKET_BYTES + packet.bytes);
        ic_put32(entry + 12, packet.key ? IC_FLAG_KEY : 0);
        offset += IC_PACKET_BYTES + packet.bytes;
    }
    return offset;
}

int ic_generate(const ic_recipe *recipe, int (*write)(void *opaque, const uint8_t *buf, int size), void *opaque)
{
    maker maker = {.recipe = recipe};
    ic_info info = {.max_width = sizes[0][0], .max_height = sizes[0][1]};
    ic_decoder *decoder = NULL;
    uint8_t *entries = NULL;
    int code = write ? recipe_check(recipe) : IC_ERR_ARGUMENT;
    if (code < 0)
        return code;
    code = IC_ERR_MEMORY;
    maker.payload = ic_memory_now.malloc(IC_MAX_PACKET_BYTES);
    if (!maker.payload)
        goto done;
    entries = ic_memory_now.malloc((size_t)recipe->frame_count * IC_INDEX_ENTRY);
    if (!entries)
        goto done;
    uint64_t index_offset = lay_out(&maker, entries);
    for (uint32_t level = 0; level < 256; level++)
        info.levels[level] = (uint8_t)(level * 167 + 13);
    code = ic_decoder_open(&decoder, &info);
    if (code < 0)
        goto done;
    maker_begin(&maker);
    code = write_header(&maker, index_offset, write, opaque);
    for (uint32_t number = 0; code == IC_OK && number < recipe->frame_count; number++)
        code = write_packet(&maker, decoder, number, write, opaque);
    if (code == IC_OK)
        code = write_index(entries, recipe->frame_count, write, opaque);
done:
    ic_decoder_close(&decoder);
    ic_memory_now.free(entries);
    ic_memory_now.free(maker.payload);
    return code;
}
