/*
 * Item 15. A thread-specific destructor allocates, frees and re-arms itself, as
 * often as it is called again; detached threads leave their blocks to others.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=body_alloc allocated_blocks=100 freed_blocks=100 live_blocks=0
 * expect: site=destructor_alloc allocated_blocks=400 freed_blocks=300 live_blocks=100 live_bytes=100*u(40)
 * expect: losses.foreign_frees=0
 */
#include "program.h"

static pthread_key_t key;
static atomic_int calls;
static _Thread_local int rounds;

SITE void *destructor_alloc(void)
{
    return opaque(malloc(40));
}

SITE void *body_alloc(void)
{
    return opaque(malloc(30));
}

/* Frees what the round before left, and leaves a block to the next: four rounds a thread. */
static void destructor(void *block)
{
    free(block);
    block = destructor_alloc();
    if (++rounds < 4)
        pthread_setspecific(key, block);
    atomic_fetch_add(&calls, 1);
}

static void *body(void *unused)
{
    pthread_setspecific(key, body_alloc());
    return unused;
}

int main(void)
{
    REQUIRE(pthread_key_create(&key, destructor) == 0);
    for (int i = 0; i < 100; i++) {
        pthread_t thread = start_thread(body, NULL);
        if (i % 2 == 0)
            pthread_join(thread, NULL);
        else
            pthread_detach(thread);
    }
    while (atomic_load(&calls) < 400)
        sched_yield();
    say(1, "%d calls\n", calls);
}
