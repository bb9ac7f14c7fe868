/*
 * Address space is so short that stacks find no room, and is not any more once the
 * limit is raised: from then on stacks are kept again, after a while. With a word
 * the heap comes to a border of the owner map while little is left, so that the next
 * table has to wait for the limit, too, and what lies there until then is in no books.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=tight_alloc allocated_blocks=10500 live_blocks=10500 live_bytes=10500*u(1000)
 * expect: site=raised_alloc allocated_blocks=20000 live_blocks=20000 live_bytes=20000*u(100)
 * expect: site=kept_alloc allocated_blocks=20000 live_blocks=20000 live_bytes=20000*u(100)
 */
#include "program.h"

#define ALLOCATES(name, bytes)                      \
    SITE void name(int blocks)                      \
    {                                               \
        for (int i = 0; i < blocks; i++)            \
            REQUIRE(opaque(malloc(bytes)) != NULL); \
    }
ALLOCATES(tight_alloc, 1000)
ALLOCATES(raised_alloc, 100)
ALLOCATES(kept_alloc, 100)

static void limit_to(rlim_t bytes)
{
    struct rlimit limit = { bytes, RLIM_INFINITY };
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
}

/* So that the heap comes to a border of the owner map after so many bytes, wherever it was begun. */
static void grow_heap_before_border(uintptr_t bytes)
{
    const uintptr_t part = 16 << 20;
    uintptr_t border = ((uintptr_t)sbrk(0) + bytes + part - 1) & ~(part - 1);
    REQUIRE(brk((void *)(border - bytes)) == 0);
}

int main(int argc, char **argv)
{
    grow_heap_before_border(argc > 1 && *argv[1] ? (19 << 20) / 2 : 16 << 20);
    char text[256] = "";
    int file = open("/proc/self/statm", O_RDONLY);
    REQUIRE(file >= 0 && read(file, text, sizeof text - 1) > 0);
    close(file);
    limit_to(strtoul(text, NULL, 10) * 4096 + (16 << 20));
    tight_alloc(10500);
    limit_to(RLIM_INFINITY);
    raised_alloc(20000);
    kept_alloc(20000);
    say(1, "done\n");
}
