#include "decoder.h"

#include <stdlib.h>

/* Some work for each pair of pixels, as a decoder has: a filter over noise. */
uint8_t *frame_decode(uint32_t number)
{
    uint8_t *pixels = malloc(FRAME_BYTES);
    uint32_t noise = number * 2654435761u + 1, left = 128;
    for (size_t i = 0; pixels && i < FRAME_BYTES; i += 2) {
        noise = noise * 1664525 + 1013904223;
        left = (3 * left + (noise >> 24)) / 4;
        pixels[i] = pixels[i + 1] = (uint8_t)left;
    }
    return pixels;
}

uint32_t frame_checksum(const uint8_t *pixels)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < FRAME_BYTES; i += 61)
        sum = sum * 31 + pixels[i];
    return sum;
}

void frame_free(uint8_t *pixels)
{
    free(pixels);
}
