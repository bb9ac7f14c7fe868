/*
 * Functions that the compiler puts into others, around calls of malloc: what
 * debug information knows of them, and what is left without it.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=codec::decode live_blocks=10 live_bytes=10*u(1000)
 * expect: site=codec::Packet::copy live_blocks=5 live_bytes=5*u(4000)
 */
#include "program.h"

#ifndef BLOCKS
#define BLOCKS 10
#endif

namespace codec {

struct Buffer {
    void *bytes;
    __attribute__((always_inline)) void grow(size_t size)
    {
        bytes = opaque(malloc(size)); /* here: Buffer::grow */
        REQUIRE(bytes != nullptr);
    }
};

template <class T> __attribute__((always_inline)) inline T filled(size_t size)
{
    T buffer;
    buffer.grow(size); /* here: filled */
    return buffer;
}

SITE void decode(size_t size)
{
    Buffer buffer = filled<Buffer>(size); /* here: decode */
    opaque(buffer.bytes);
}

struct Packet {
    SITE static void copy(size_t size)
    {
        void *bytes = opaque(malloc(size)); /* here: Packet::copy */
        REQUIRE(bytes != nullptr);
    }
};

} // namespace codec

int main()
{
    for (int i = 0; i < BLOCKS; i++)
        codec::decode(any(1000));
    for (int i = 0; i < 5; i++)
        codec::Packet::copy(any(4000));
}
