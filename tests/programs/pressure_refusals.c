/*
 * Past a hard limit of 32 MiB, which the test sets in the environment, large
 * requests fail with ENOMEM, each counted; small ones do not, nor those that fit
 * again after a free. A forked child goes on with the limit and what it inherited.
 *
 * expect: outcome=exit:0 processes=2 losses.foreign_frees=0
 * expect: in=parent site=take_large allocated_blocks=32 requested_bytes=32*1048576 freed_blocks=2 live_blocks=30
 * expect: in=parent site=take_small allocated_blocks=1000 live_blocks=1000
 * expect: in=parent site=growing allocated_blocks=2 live_blocks=0
 */
#include "pressure.h"

#define LARGE ((size_t)1 << 20)
#define FIT 31 /* of them, with their headers */

static int limited;

SITE void *take_large(void)
{
    return opaque(malloc(any(LARGE)));
}

SITE void *take_small(void)
{
    return opaque(malloc(any(1000)));
}

SITE void *parent(void)
{
    return opaque(malloc(any(10)));
}

static uint64_t refused(void)
{
    return own_ledger()->pressure.refused;
}

/* Of every function of the family: refused where that is asked for, and errno says why. */
static void fails(void *block)
{
    REQUIRE(limited ? !block && errno == ENOMEM : block != NULL);
    free(block);
    errno = 0;
}

static void all_of_the_family(void)
{
    errno = 0;
    fails(malloc(any(LARGE)));
    fails(calloc(any(16), LARGE / 16));
    fails(realloc(NULL, any(LARGE)));
    fails(memalign(64, any(LARGE)));
    fails(aligned_alloc(64, any(LARGE)));
    fails(valloc(any(LARGE)));
    fails(pvalloc(any(LARGE)));
    void *block = NULL;
    int error = posix_memalign(&block, 64, any(LARGE));
    REQUIRE(limited ? error == ENOMEM && !block : error == 0);
    free(block);
}

/* A block that may not grow stays what it is. */
SITE void growing(void)
{
    char *block = opaque(malloc(any(100)));
    memset(block, 7, 100);
    char *grown = realloc(block, any(LARGE));
    REQUIRE(limited ? !grown && errno == ENOMEM : grown != NULL);
    block = grown ? grown : block;
    REQUIRE(block[0] == 7 && block[99] == 7);
    block = realloc(block, any(50000)); /* less than a quantum more */
    REQUIRE(block && block[99] == 7);
    free(block);
    /* Not a size at all: the allocator's own refusal. */
    REQUIRE(!calloc(any(SIZE_MAX), any(16)) && errno == ENOMEM);
}

int main(void)
{
    static void *blocks[FIT];
    limited = getenv("HEAPLEDGER_DIR") != NULL;
    for (int i = 0; i < FIT; i++)
        REQUIRE(blocks[i] = take_large());
    all_of_the_family();
    REQUIRE(!limited || refused() == 8);
    growing();
    REQUIRE(!limited || refused() == 9);
    for (int i = 0; i < 1000; i++)
        REQUIRE(take_small());
    free(blocks[0]);
    free(blocks[1]);
    REQUIRE(blocks[0] = take_large()); /* it fits again */
    pid_t child = fork();
    if (child == 0) {
        REQUIRE(blocks[1] = opaque(malloc(any(LARGE / 4))));
        fails(malloc(any(LARGE)));
        REQUIRE(!limited || refused() == 1); /* its own count */
        _exit(0);
    }
    REQUIRE(parent());
    int status;
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    say(1, "refused\n");
    return 0;
}
