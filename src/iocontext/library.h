/*
 * library.h: a small media library that reads through the caller's callbacks.
 *
 * It is what most C media libraries are from the outside: the caller fills an
 * IOContext with functions, the library calls them back while it allocates
 * buffers of its own, and hands out packets and frames that the caller must
 * free. heapledger's demo, tests and benches run on it.
 *
 *     IOContext *io = ic_io_alloc();          zeroed; fill in opaque, read, seek, size
 *     ic_demuxer_open(&demuxer, io)           checks the header, reads the index
 *     ic_decoder_open(&decoder, info)
 *     ic_demuxer_read(demuxer, &packet)       one packet is one coded frame
 *     ic_decoder_decode(decoder, packet, &frame)
 *     ic_frame_free(&frame); ic_packet_free(&packet); ...
 *     ic_decoder_close(&decoder); ic_demuxer_close(&demuxer); ic_io_free(&io);
 *
 * Functions that can fail return 0 (IC_OK) or a negative code; those that give
 * an object set it to NULL when they fail. Every `free` and `close` takes the
 * address of the pointer, sets it to NULL, and does nothing with NULL. Codes of
 * callbacks are IC_ERR_IO and below, and handed on as they are.
 *
 * Objects are for one thread at a time, except frames: references to a frame
 * may be taken and released on any thread, also after its decoder was closed.
 */
#ifndef IC_LIBRARY_H
#define IC_LIBRARY_H

#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#define IC_API __attribute__((visibility("default")))

/* ---- codes ---- */

enum {
    IC_OK = 0,
    IC_ERR_MEMORY = -1,    /* the allocator refused */
    IC_ERR_END = -2,       /* there is no further packet */
    IC_ERR_FORMAT = -3,    /* not a container of this kind */
    IC_ERR_CORRUPT = -4,   /* a checksum or a structure is wrong */
    IC_ERR_TRUNCATED = -5, /* the data ends before it should */
    IC_ERR_LIMIT = -6,     /* a size is past what this library takes */
    IC_ERR_CALLBACK = -7,  /* a callback gave what it must not: too many bytes, another position */
    IC_ERR_ARGUMENT = -8,  /* the caller gave what it must not */
    IC_ERR_SEEK = -9,      /* beyond the end, or the caller cannot seek */
    /* For callbacks; the library makes none of them. Further ones, below, are the caller's own. */
    IC_ERR_IO = -20,     /* the source failed */
    IC_ERR_HANDLE = -21, /* the object behind `opaque` is gone */
    IC_ERR_PANIC = -22,  /* the callback was stopped in the middle */
};

/* What a code means, in a few words; never NULL. */
IC_API const char *ic_error_text(int code);

/* ---- limits, checked before anything is allocated by them ---- */

#define IC_MAX_SIDE 4096u                  /* pixels */
#define IC_MAX_FRAME_BYTES (8u << 20)
#define IC_MAX_PACKET_BYTES (64u << 10)
#define IC_MAX_FRAMES (1u << 20)

/* ---- memory ---- */

/*
 * Replaces the functions that all memory comes from, for the whole process; NULL
 * brings back malloc and friends. Only while no object exists and no other
 * thread is in the library.
 */
typedef struct ic_memory {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
} ic_memory;
IC_API void ic_set_memory(const ic_memory *memory);

/* ---- the caller's side ---- */

#define IC_SIZE_UNKNOWN (-1)

typedef struct IOContext {
    void *opaque; /* handed to every callback; the library never looks at it */
    /* Reads at most `size` (> 0) bytes into `buf`, all of which is initialised. The count, 0 at the end, or a code. */
    int (*read)(void *opaque, uint8_t *buf, int size);
    /* Goes to `offset`; `whence` is SEEK_SET. The new position, or a code. */
    int64_t (*seek)(void *opaque, int64_t offset, int whence);
    /* All bytes there are, IC_SIZE_UNKNOWN, or a code below it. */
    int64_t (*size)(void *opaque);
} IOContext;

IC_API IOContext *ic_io_alloc(void); /* zeroed; NULL: no memory */
IC_API void ic_io_free(IOContext **io);

/* ---- containers ---- */

typedef struct ic_info {
    uint32_t frame_count;
    uint32_t max_width; /* pixels; key frames may change the size */
    uint32_t max_height;
    uint32_t max_packet_bytes;
    uint32_t key_interval; /* frames from one key frame to the next */
    uint32_t reserved;
    uint64_t index_offset;
    uint8_t levels[256]; /* brightness of flat blocks, by number */
} ic_info;

/* Looks whether this is a container, and goes back to its start. */
IC_API int ic_probe(IOContext *io, ic_info *info);

typedef struct ic_demuxer ic_demuxer;

typedef struct ic_packet {
    uint8_t *data;
    uint32_t bytes;
    uint32_t number; /* of the frame, from 0 */
    uint32_t key;    /* 1: needs no other frame */
    uint16_t width;
    uint16_t height;
    uint64_t frame_checksum; /* of the frame that it decodes to */
} ic_packet;

/* `io` must outlive the demuxer. */
IC_API int ic_demuxer_open(ic_demuxer **demuxer, IOContext *io);
IC_API const ic_info *ic_demuxer_info(const ic_demuxer *demuxer);
/* The next packet; IC_ERR_END after the last. After any other error the position is where it was. */
IC_API int ic_demuxer_read(ic_demuxer *demuxer, ic_packet **packet);
/* Goes to the last key frame at or before `number`; gives its number. */
IC_API int ic_demuxer_seek(ic_demuxer *demuxer, uint32_t number, uint32_t *key);
IC_API void ic_demuxer_close(ic_demuxer **demuxer);
IC_API void ic_packet_free(ic_packet **packet);

/* ---- frames ---- */

typedef struct ic_decoder ic_decoder;

/* Brightness in full, two colours in half resolution. Not to be written to: it may be a reference. */
typedef struct ic_frame {
    uint8_t *planes[3];
    uint32_t strides[3]; /* bytes */
    uint32_t width;
    uint32_t height;
    uint32_t number;
    uint32_t key;
    uint32_t bytes; /* of all planes */
    uint32_t reserved;
    uint64_t checksum;
    uint32_t brightness[64]; /* how many blocks begin with each brightness, in steps of 4 */
} ic_frame;

IC_API int ic_decoder_open(ic_decoder **decoder, const ic_info *info);
/* Gives a reference to the frame. An error leaves the decoder waiting for a key frame. */
IC_API int ic_decoder_decode(ic_decoder *decoder, const ic_packet *packet, ic_frame **frame);
IC_API void ic_decoder_close(ic_decoder **decoder);

IC_API ic_frame *ic_frame_ref(ic_frame *frame);
IC_API void ic_frame_free(ic_frame **frame);

/* ---- all at once ---- */

/*
 * Decodes a whole container; `on_frame` borrows each frame and may stop with a
 * code. The clean-up form that Rust's guards are set beside.
 */
IC_API int ic_decode_all(IOContext *io, int (*on_frame)(void *opaque, ic_frame *frame), void *opaque);

/* ---- making containers ---- */

typedef struct ic_recipe {
    uint64_t seed; /* the same recipe makes the same bytes everywhere */
    uint32_t frame_count;
    uint32_t key_interval;
    uint32_t max_width; /* of the sizes made, those that fit; at least 64 x 64 */
    uint32_t max_height;
} ic_recipe;

/* Writes a container front to back; `write` takes all `size` bytes and gives 0, or a code. */
IC_API int ic_generate(const ic_recipe *recipe, int (*write)(void *opaque, const uint8_t *buf, int size),
                       void *opaque);

#if defined(__cplusplus)
}
#endif

#endif
