"""Decodes frames whose pixels C's malloc holds, through ctypes.

To Python each frame is one small object. Frames of a group know each other, so
no reference count falls to zero by itself: their pixels are freed when the
cyclic collector finds the group. It comes after so many new objects (700 in
Python 3.11, see gc.get_threshold), whatever they hold.

    python3 frames.py                                                              2 GB and more
    heapledger run --soft-limit 256MiB --on-pressure python -- python3 frames.py   about what was asked for
"""

import ctypes
import sys
import zlib

# 1920 x 1080 in YUV 4:2:0.
FRAME_BYTES = 1920 * 1080 * 3 // 2
# Frames that refer to each other, as those between two key frames do.
GROUP = 8

libc = ctypes.CDLL(None)
libc.malloc.argtypes = [ctypes.c_size_t]
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.free.restype = None


class Frame:
    __slots__ = ("number", "pixels", "previous", "next")

    def __init__(self, number, previous):
        self.number = number
        self.pixels = libc.malloc(FRAME_BYTES)
        if not self.pixels:
            raise MemoryError(f"frame {number}")
        self.previous, self.next = previous, None
        if previous:
            previous.next = self

    # Bound here, for __del__ also runs when the interpreter ends.
    def __del__(self, free=libc.free):
        free(self.pixels)

    def decode(self):
        ctypes.memset(self.pixels, self.number % 251, FRAME_BYTES)

    def checksum(self, start):
        return zlib.crc32((ctypes.c_char * FRAME_BYTES).from_address(self.pixels), start)


def main(count):
    frame, checksum = None, 0
    for number in range(count):
        frame = Frame(number, frame if number % GROUP else None)
        frame.decode()
        checksum = frame.checksum(checksum)
    print(f"{count} frames, checksum {checksum:08x}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
