/*
 * Items 1 and 14. A program that is not position-independent and whose heap
 * begins right behind it has blocks within 16 MiB of address 0: NULL, freed or
 * returned, must still be nobody's block.
 *
 * expect: processes=2
 * expect: in=low_alloc outcome=exit:0
 * expect: in=low_alloc site=low_alloc allocated_blocks=1000 live_blocks=500 live_bytes=500*u(50)
 * expect: in=low_alloc losses.foreign_frees=0
 */
#include "program.h"
#include <sys/personality.h>

SITE void low_alloc(void)
{
    for (int i = 0; i < 1000; i++) {
        void *block = opaque(malloc(50));
        if ((uintptr_t)block >= 16 << 20)
            _exit(77); /* the heap is not where this test needs it */
        free(NULL);
        if (opaque(malloc((size_t)1 << 62)) || opaque(calloc((size_t)1 << 31, (size_t)1 << 31)))
            _exit(1);
        if (i % 2)
            free(block);
    }
}

int main(int argc, char **argv)
{
    if (argc == 1) { /* once more, with the heap where the linker's layout puts it */
        personality(ADDR_NO_RANDOMIZE);
        execv(argv[0], (char *[]){ argv[0], (char *)"again", NULL });
        return 1;
    }
    low_alloc();
    return 0;
}
