/* decoder.h: a C library as Go programs bind them: a small handle, large frames. */
#ifndef DECODER_H
#define DECODER_H

#include <stddef.h>
#include <stdint.h>

/* 1920 x 1080 in YUV 4:2:0. */
#define FRAME_BYTES ((size_t)1920 * 1080 * 3 / 2)

/* NULL: out of memory. */
uint8_t *frame_decode(uint32_t number);
uint32_t frame_checksum(const uint8_t *pixels);
void frame_free(uint8_t *pixels);

#endif
