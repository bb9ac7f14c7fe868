/* codec.c: packets become frames: blocks, references, buffers. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "codec.h"

#define REFERENCES 4u
#define SPARES 2u
#define FILTER_STEP 24

/* ---- buffers, kept for the next frame of the same size ---- */

typedef struct ic_pool {
    pthread_mutex_t lock; /* for all that is below it */
    bool open;
    uint32_t spare_count;
    uint32_t spare_bytes; /* of each */
    uint8_t *spares[SPARES];
    _Atomic uint32_t references; /* the decoder's and one of each frame; the last to let go frees */
} ic_pool;

static ic_pool *pool_new(void)
{
    ic_pool *pool = ic_memory_now.calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pthread_mutex_init(&pool->lock, NULL); /* cannot fail without attributes */
    pool->open = true;
    atomic_init(&pool->references, 1);
    return pool;
}

/* Under the lock. */
static void pool_empty(ic_pool *pool)
{
    while (pool->spare_count)
        ic_memory_now.free(pool->spares[--pool->spare_count]);
}

static void pool_release(ic_pool *pool)
{
    /* Releases what this thread did to the pool, acquires what the others did. */
    if (atomic_fetch_sub_explicit(&pool->references, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&pool->lock);
    ic_memory_now.free(pool);
}

static void pool_close(ic_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->open = false;
    pool_empty(pool);
    pthread_mutex_unlock(&pool->lock);
    pool_release(pool);
}

static uint8_t *pool_take(ic_pool *pool, uint32_t bytes)
{
    uint8_t *buffer = NULL;
    pthread_mutex_lock(&pool->lock);
    if (pool->spare_bytes != bytes) {
        pool_empty(pool);
        pool->spare_bytes = bytes;
    }
    if (pool->spare_count)
        buffer = pool->spares[--pool->spare_count];
    pthread_mutex_unlock(&pool->lock);
    return buffer ? buffer : ic_memory_now.malloc(bytes);
}

static void pool_give(ic_pool *pool, uint8_t *buffer, uint32_t bytes)
{
    pthread_mutex_lock(&pool->lock);
    if (pool->open && pool->spare_bytes == bytes && pool->spare_count < SPARES) {
        pool->spares[pool->spare_count++] = buffer;
        buffer = NULL;
    }
    pthread_mutex_unlock(&pool->lock);
    ic_memory_now.free(buffer);
}

/* ---- frames ---- */

typedef struct owned_frame {
    ic_frame frame; /* first: its address is ours */
    _Atomic uint32_t references;
    ic_pool *pool;
} owned_frame;

static owned_frame *frame_new(ic_pool *pool, const ic_packet *packet)
{
    owned_frame *owned = ic_memory_now.calloc(1, sizeof *owned);
    if (!owned)
        return NULL;
    ic_frame *frame = &owned->frame;
    uint32_t pixels = (uint32_t)packet->width * packet->height;
    frame->width = packet->width;
    frame->height = packet->height;
    frame->number = packet->number;
    frame->key = packet->key;
    frame->bytes = ic_frame_bytes(packet->width, packet->height);
    uint8_t *buffer = pool_take(pool, frame->bytes);
    if (!buffer) {
        ic_memory_now.free(owned);
        return NULL;
    }
    for (int plane = 0; plane < 3; plane++) {
        frame->planes[plane] = buffer;
        frame->strides[plane] = plane ? frame->width / 2 : frame->width;
        buffer += plane ? pixels / 4 : pixels;
    }
    atomic_init(&owned->references, 1);
    atomic_fetch_add_explicit(&pool->references, 1, memory_order_relaxed);
    owned->pool = pool;
    return owned;
}

ic_frame *ic_frame_ref(ic_frame *frame)
{
    atomic_fetch_add_explicit(&((owned_frame *)frame)->references, 1, memory_order_relaxed);
    return frame;
}

void ic_frame_free(ic_frame **freed)
{
    owned_frame *owned = (owned_frame *)*freed;
    *freed = NULL;
    /* Releases this thread's use of the frame, acquires the others'. */
    if (!owned || atomic_fetch_sub_explicit(&owned->references, 1, memory_order_acq_rel) != 1)
        return;
    pool_give(owned->pool, owned->frame.planes[0], owned->frame.bytes);
    pool_release(owned->pool);
    ic_memory_now.free(owned);
}

/* ---- blocks ---- */

/* 64 times the cosines of the discrete cosine transform: row u, place x. */
static const int16_t basis[8][8] = {
    {45, 45, 45, 45, 45, 45, 45, 45},     {63, 53, 36, 12, -12, -36, -53, -63},
    {59, 24, -24, -59, -59, -24, 24, 59}, {53, -12, -63, -36, 36, 63, 12, -53},
    {45, -45, -45, 45, 45, -45, -45, 45}, {36, -63, 12, 53, -53, -12, 63, -36},
    {24, -59, 59, -24, -24, 59, -59, 24}, {12, -36, 53, -63, 63, -53, 36, -12},
};
#define BASIS_SHIFT 10

/* A plane that is being made, and what it may be made from. */
typedef struct canvas {
    uint8_t *pixels;
    const uint8_t *reference; /* NULL in key frames */
    uint32_t width;           /* of the plane, and its stride */
    uint32_t height;
} canvas;

typedef struct cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool torn; /* read past the end, which gives zeros */
} cursor;

static uint32_t take_byte(cursor *from)
{
    if (from->at == from->end) {
        from->torn = true;
        return 0;
    }
    return *from->at++;
}

static uint8_t clamp_byte(int value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static uint32_t clamp_place(int64_t place, uint32_t last)
{
    return place < 0 ? 0 : place > last ? last : (uint32_t)place;
}

/* Runs are `columns` bytes wide and one block high. */
static void paint_flat(const canvas *canvas, uint32_t x, uint32_t y, uint32_t columns, uint8_t level)
{
    for (uint32_t row = 0; row < IC_BLOCK; row++)
        memset(canvas->pixels + (size_t)(y + row) * canvas->width + x, level, columns);
}

static void paint_moved(const canvas *canvas, uint32_t x, uint32_t y, uint32_t columns, int right, int down)
{
    uint32_t from_x = clamp_place((int64_t)x + right, canvas->width - columns);
    uint32_t from_y = clamp_place((int64_t)y + down, canvas->height - IC_BLOCK);
    for (uint32_t row = 0; row < IC_BLOCK; row++)
        memcpy(canvas->pixels + (size_t)(y + row) * canvas->width + x,
               canvas->reference + (size_t)(from_y + row) * canvas->width + from_x, columns);
}

/* One block: what it is predicted to be, and the cosines that are added. False: damaged. */
static bool paint_coded(const canvas *canvas, uint32_t x, uint32_t y, cursor *from)
{
    int32_t change[IC_BLOCK][IC_BLOCK] = {{0}};
    uint32_t count = take_byte(from);
    if (count > IC_MAX_COEFFICIENTS)
        return false;
    while (count--) {
        uint32_t place = take_byte(from) & 63;
        int amount = (int8_t)take_byte(from);
        const int16_t *across = basis[place & 7], *along = basis[place >> 3];
        for (uint32_t row = 0; row < IC_BLOCK; row++)
            for (uint32_t column = 0; column < IC_BLOCK; column++)
                change[row][column] += amount * along[row] * across[column];
    }
    for (uint32_t row = 0; row < IC_BLOCK; row++) {
        size_t at = (size_t)(y + row) * canvas->width + x;
        for (uint32_t column = 0; column < IC_BLOCK; column++) {
            int before = canvas->reference ? canvas->reference[at + column] : 128;
            canvas->pixels[at + column] = clamp_byte(before + (change[row][column] >> BASIS_SHIFT));
        }
    }
    return true;
}

/* Smooths the steps between blocks, as block codecs do. */
static void smooth(const canvas *canvas)
{
    for (uint32_t y = 0; y < canvas->height; y++)
        for (uint32_t x = IC_BLOCK; x < canvas->width; x += IC_BLOCK) {
            uint8_t *edge = canvas->pixels + (size_t)y * canvas->width + x;
            int left = edge[-1], right = edge[0];
            if (left - right < FILTER_STEP && right - left < FILTER_STEP) {
                edge[-1] = (uint8_t)((3 * left + right + 2) >> 2);
                edge[0] = (uint8_t)((left + 3 * right + 2) >> 2);
            }
        }
    for (uint32_t y = IC_BLOCK; y < canvas->height; y += IC_BLOCK) {
        uint8_t *lower = canvas->pixels + (size_t)y * canvas->width, *upper = lower - canvas->width;
        for (uint32_t x = 0; x < canvas->width; x++) {
            int above = upper[x], below = lower[x], apart = above - below;
            bool near = apart < FILTER_STEP && -apart < FILTER_STEP;
            upper[x] = near ? (uint8_t)((3 * above + below + 2) >> 2) : upper[x];
            lower[x] = near ? (uint8_t)((above + 3 * below + 2) >> 2) : lower[x];
        }
    }
}

static bool paint_run(const canvas *canvas, const uint8_t levels[256], uint32_t kind, uint32_t first, uint32_t run,
                      cursor *from)
{
    uint32_t row_blocks = canvas->width / IC_BLOCK;
    uint8_t level = kind == IC_FLAT ? levels[take_byte(from)] : 0;
    int right = kind == IC_MOVE ? (int8_t)take_byte(from) : 0;
    int down = kind == IC_MOVE ? (int8_t)take_byte(from) : 0;
    while (run) {
        uint32_t column = first % row_blocks;
        uint32_t here = row_blocks - column < run ? row_blocks - column : run;
        uint32_t x = column * IC_BLOCK, y = first / row_blocks * IC_BLOCK;
        if (kind == IC_FLAT)
            paint_flat(canvas, x, y, here * IC_BLOCK, level);
        else if (kind != IC_CODED)
            paint_moved(canvas, x, y, here * IC_BLOCK, right, down);
        else
            for (uint32_t block = 0; block < here; block++)
                if (!paint_coded(canvas, x + block * IC_BLOCK, y, from))
                    return false;
        first += here;
        run -= here;
    }
    return true;
}

static bool paint_plane(const canvas *canvas, const uint8_t levels[256], cursor *from)
{
    uint32_t blocks = canvas->width / IC_BLOCK * (canvas->height / IC_BLOCK);
    uint32_t painted = 0;
    while (painted < blocks) {
        uint32_t code = take_byte(from);
        uint32_t kind = code >> IC_KIND_SHIFT, run = code & IC_RUN_MASK;
        if (!run) {
            run = take_byte(from);
            run |= take_byte(from) << 8;
        }
        bool is_copy = kind == IC_SKIP || kind == IC_MOVE;
        if (kind == IC_END || kind >= IC_KINDS || !run || run > blocks - painted || (is_copy && !canvas->reference))
            return false;
        if (!paint_run(canvas, levels, kind, painted, run, from) || from->torn)
            return false;
        painted += run;
    }
    smooth(canvas);
    return true;
}

/* ---- the decoder ---- */

struct ic_decoder {
    ic_pool *pool;
    uint32_t reference_count;
    owned_frame *references[REFERENCES]; /* the newest first */
    uint8_t levels[256];
};

static void references_drop(ic_decoder *decoder)
{
    while (decoder->reference_count) {
        ic_frame *frame = &decoder->references[--decoder->reference_count]->frame;
        ic_frame_free(&frame);
    }
}

static void references_push(ic_decoder *decoder, owned_frame *owned)
{
    if (decoder->reference_count == REFERENCES) {
        ic_frame *oldest = &decoder->references[--decoder->reference_count]->frame;
        ic_frame_free(&oldest);
    }
    memmove(decoder->references + 1, decoder->references, decoder->reference_count * sizeof owned);
    decoder->references[0] = owned;
    decoder->reference_count++;
}

int ic_decoder_open(ic_decoder **opened, const ic_info *info)
{
    if (opened)
        *opened = NULL;
    if (!opened || !info)
        return IC_ERR_ARGUMENT;
    int code = ic_size_check(info->max_width, info->max_height);
    if (code < 0)
        return code;
    ic_decoder *decoder = ic_memory_now.calloc(1, sizeof *decoder);
    if (!decoder)
        return IC_ERR_MEMORY;
    decoder->pool = pool_new();
    if (!decoder->pool) {
        ic_memory_now.free(decoder);
        return IC_ERR_MEMORY;
    }
    memcpy(decoder->levels, info->levels, sizeof decoder->levels);
    *opened = decoder;
    return IC_OK;
}

void ic_decoder_close(ic_decoder **decoder)
{
    if (!*decoder)
        return;
    references_drop(*decoder);
    pool_close((*decoder)->pool);
    ic_memory_now.free(*decoder);
    *decoder = NULL;
}

static void frame_describe(ic_frame *frame)
{
    frame->checksum = ic_checksum(frame->planes[0], frame->bytes);
    for (uint32_t y = 0; y < frame->height; y += IC_BLOCK)
        for (uint32_t x = 0; x < frame->width; x += IC_BLOCK)
            frame->brightness[frame->planes[0][(size_t)y * frame->strides[0] + x] >> 2]++;
}

/* The payload begins with the number of the reference that it is made from. */
static bool frame_paint(const ic_decoder *decoder, const ic_packet *packet, ic_frame *frame)
{
    cursor from = {packet->data, packet->data + packet->bytes, false};
    uint32_t number = take_byte(&from);
    const ic_frame *reference = NULL;
    if (!packet->key) {
        if (number >= decoder->reference_count)
            return false;
        reference = &decoder->references[number]->frame;
        if (reference->width != frame->width || reference->height != frame->height)
            return false;
    }
    for (int plane = 0; plane < 3; plane++) {
        canvas canvas = {
            .pixels = frame->planes[plane],
            .reference = reference ? reference->planes[plane] : NULL,
            .width = frame->strides[plane],
            .height = plane ? frame->height / 2 : frame->height,
        };
        if (!paint_plane(&canvas, decoder->levels, &from))
            return false;
    }
    return take_byte(&from) == IC_END && !from.torn && from.at == from.end;
}

int ic_decoder_reconstruct(ic_decoder *decoder, const ic_packet *packet, ic_frame **decoded)
{
    *decoded = NULL;
    int code = ic_size_check(packet->width, packet->height);
    if (code < 0)
        return code;
    if (packet->key)
        references_drop(decoder);
    owned_frame *owned = frame_new(decoder->pool, packet);
    if (!owned)
        return IC_ERR_MEMORY;
    ic_frame *frame = &owned->frame;
    if (!frame_paint(decoder, packet, frame)) {
        ic_frame_free(&frame);
        return IC_ERR_CORRUPT;
    }
    frame_describe(frame);
    *decoded = frame;
    return IC_OK;
}

/* Makes the frame a reference, which takes over the caller's hold on it. */
void ic_decoder_keep(ic_decoder *decoder, ic_frame *frame)
{
    references_push(decoder, (owned_frame *)frame);
}

int ic_decoder_decode(ic_decoder *decoder, const ic_packet *packet, ic_frame **decoded)
{
    if (decoded)
        *decoded = NULL;
    if (!decoder || !packet || !packet->data || !decoded)
        return IC_ERR_ARGUMENT;
    int code = ic_decoder_reconstruct(decoder, packet, decoded);
    if (code == IC_OK && (*decoded)->checksum != packet->frame_checksum) {
        ic_frame_free(decoded);
        code = IC_ERR_CORRUPT;
    }
    if (code < 0) {
        references_drop(decoder);
        return code;
    }
    ic_decoder_keep(decoder, ic_frame_ref(*decoded));
    return IC_OK;
}
