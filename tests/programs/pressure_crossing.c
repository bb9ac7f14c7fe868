/*
 * A thousand threads pass the armed threshold at once: the word is set once,
 * its waiter wakes, errno stays the threads' own. Disarmed, nothing happens;
 * armed again, it is set once more.
 *
 * expect: outcome=exit:0 processes=1 losses.foreign_frees=0
 * expect: site=cross allocated_blocks=1002 requested_bytes=1002*100000 freed_blocks=1002 live_blocks=0
 */
#include "pressure.h"

#define THREADS 1000

static pthread_barrier_t start, end;
static hl_pressure *words;

SITE void *cross(void)
{
    return opaque(malloc(any(100000)));
}

static void *allocate(void *unused)
{
    pthread_barrier_wait(&start);
    errno = 4711;
    void *block = cross();
    REQUIRE(errno == 4711);
    pthread_barrier_wait(&end); /* all are held at once */
    free(block);
    return unused;
}

static void *wait_crossed(void *unused)
{
    while (words && !__atomic_load_n(&words->crossed, __ATOMIC_ACQUIRE))
        futex_wait(&words->crossed, 0);
    return unused;
}

static void arm(int64_t bytes)
{
    if (!words)
        return;
    words->crossed = 0;
    __atomic_store_n(&words->armed_bytes, bytes, __ATOMIC_RELEASE);
}

static void crossings_are(uint32_t crossings, uint32_t crossed)
{
    REQUIRE(!words || (words->crossings == crossings && words->crossed == crossed));
}

int main(void)
{
    hl_header *header = own_ledger();
    words = header ? &header->pressure : NULL;
    REQUIRE(!words || (words->armed_bytes == INT64_MAX && words->helper == 0));
    pthread_barrier_init(&start, NULL, THREADS);
    pthread_barrier_init(&end, NULL, THREADS);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    pthread_t threads[THREADS];
    arm(10 << 20);
    pthread_t waiter = start_thread(wait_crossed, NULL);
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], &small, allocate, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_join(waiter, NULL);
    crossings_are(1, HL_CROSSED_ARMED);

    arm(INT64_MAX);
    free(cross());
    crossings_are(1, 0);
    arm(0);
    free(cross());
    crossings_are(2, HL_CROSSED_ARMED);
    say(1, "crossed\n");
}
