/*
 * Item 7. Threads with the least stack the system allows allocate: the
 * thread-local data of the interposer has to leave them room.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=cramped_alloc allocated_blocks=800 freed_blocks=400 live_blocks=400 live_bytes=400*u(48)
 */
#include "program.h"

#include <limits.h>

SITE void cramped_alloc(void)
{
    for (int i = 0; i < 50; i++) {
        opaque(malloc(48));
        free(opaque(malloc(64)));
    }
}

static void *cramped(void *unused)
{
    cramped_alloc();
    return unused;
}

int main(void)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    REQUIRE(pthread_attr_setstacksize(&attributes, (size_t)sysconf(_SC_THREAD_STACK_MIN)) == 0);
    for (int i = 0; i < 8; i++) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, &attributes, cramped, NULL) == 0);
        REQUIRE(pthread_join(thread, NULL) == 0);
    }
    say(1, "8 threads\n");
}
