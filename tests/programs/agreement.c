/*
 * Every way to get and give back memory, each at a call site of its own and so
 * often that books can be compared call by call with valgrind's dhat and with
 * heaptrack (tests/agreement.rs). The largest block lives while most is live.
 *
 * expect: outcome=exit:0 processes=1 losses.foreign_frees=0
 * expect: site=by_malloc allocated_blocks=100 freed_blocks=60 live_bytes=40*u(1000) requested_bytes=100*1000
 * expect: site=by_calloc allocated_blocks=50 live_blocks=50 requested_bytes=50*300
 * expect: site=to_be_moved allocated_blocks=20 freed_blocks=20 reallocs=0 requested_bytes=20*64
 * expect: site=by_realloc allocated_blocks=20 live_blocks=20 reallocs=20 requested_bytes=20*640
 * expect: site=by_realloc_of_null allocated_blocks=10 live_blocks=10 reallocs=0 requested_bytes=10*200
 * expect: site=to_become_nothing allocated_blocks=10 freed_blocks=10 requested_bytes=10*700
 * expect: site=to_stay allocated_blocks=3 live_blocks=3 requested_bytes=3*90
 * expect: site=by_posix_memalign allocated_blocks=12 live_blocks=6 requested_bytes=12*400
 * expect: site=by_aligned_alloc allocated_blocks=11 live_blocks=11 requested_bytes=11*512
 * expect: site=by_valloc allocated_blocks=2 live_blocks=2 requested_bytes=2*100
 * expect: site=by_memalign allocated_blocks=15 live_blocks=5 requested_bytes=15*500
 * expect: site=by_pvalloc allocated_blocks=3 live_blocks=3
 * expect: site=of_short_life allocated_blocks=30 freed_blocks=30 requested_bytes=30*48
 * expect: site=of_longer_life allocated_blocks=7 freed_blocks=7 requested_bytes=7*56
 * expect: site=at_the_peak allocated_blocks=1 freed_blocks=1 requested_bytes=100000
 */
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <string.h>

#include "program.h"

#define AFTER() __asm__ volatile("" ::: "memory") /* no tail call */

#define CALL(name, call)                                                                                               \
    SITE void *name(void)                                                                                              \
    {                                                                                                                  \
        void *block = opaque(call);                                                                                    \
        AFTER();                                                                                                       \
        return block;                                                                                                  \
    }

CALL(by_malloc, malloc(any(1000)))
CALL(by_calloc, calloc(any(3), any(100)))
CALL(to_be_moved, malloc(any(64)))
CALL(by_realloc_of_null, realloc(opaque(NULL), any(200)))
CALL(to_become_nothing, malloc(any(700)))
CALL(to_stay, malloc(any(90)))
CALL(by_aligned_alloc, aligned_alloc(any(128), any(512)))
CALL(by_valloc, valloc(any(100)))
CALL(by_memalign, memalign(any(64), any(500)))
CALL(by_pvalloc, pvalloc(any(100)))
CALL(of_short_life, malloc(any(48)))
CALL(of_longer_life, malloc(any(56)))
CALL(at_the_peak, malloc(any(100000)))

SITE void *by_realloc(void *block)
{
    block = opaque(realloc(block, any(640)));
    AFTER();
    return block;
}

SITE void *by_posix_memalign(void)
{
    void *block = NULL;
    REQUIRE(posix_memalign(&block, any(256), any(400)) == 0);
    return opaque(block);
}

static void *kept[100];

/* Called so often, what is kept of it freed from the first on. */
static void some(void *(*call)(void), int calls, int freed)
{
    for (int i = 0; i < calls; i++)
        REQUIRE((kept[i] = call()) != NULL);
    for (int i = 0; i < freed; i++)
        free(kept[i]);
}

int main(int count, char **words)
{
    bool with_pvalloc = count == 1 || strcmp(words[1], "pvalloc-not") != 0;
    some(by_malloc, 100, 60);
    some(by_calloc, 50, 0);
    for (int i = 0; i < 20; i++)
        kept[i] = to_be_moved();
    for (int i = 0; i < 20; i++)
        REQUIRE(by_realloc(kept[i]) != NULL);
    some(by_realloc_of_null, 10, 0);
    for (int i = 0; i < 10; i++)
        kept[i] = to_become_nothing();
    for (int i = 0; i < 10; i++)
        REQUIRE(opaque(realloc(kept[i], any(0))) == NULL);
    for (int i = 0; i < 3; i++) {
        void *stays = to_stay();
        REQUIRE(opaque(realloc(stays, any((size_t)1 << 60))) == NULL && errno == ENOMEM);
    }
    some(by_posix_memalign, 12, 6);
    some(by_aligned_alloc, 11, 0);
    some(by_valloc, 2, 0);
    some(by_memalign, 15, 10);
    if (with_pvalloc)
        some(by_pvalloc, 3, 0);
    some(of_longer_life, 7, 7);
    for (int i = 0; i < 30; i++)
        free(of_short_life());
    free(at_the_peak());
    return 0;
}
