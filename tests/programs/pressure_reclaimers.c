/*
 * Reclaimers from C, with the program as its own driver: their order and what
 * they are told, those that unregister themselves and others, one that is
 * unregistered while it runs, one that allocates, a fork and the program's end
 * while one runs, eventfds. What they allocate and free is booked as all is.
 *
 * expect: outcome=exit:0 processes=3 losses.foreign_frees=0
 * expect: in=allocate_in_reclaimer site=allocate_in_reclaimer allocated_blocks=1 requested_bytes=300000 freed_blocks=1
 * expect: in=allocate_in_reclaimer site=cached allocated_blocks=1 requested_bytes=500000 freed_blocks=1 live_blocks=0
 */
#include "pressure.h"

#include <poll.h>
#include <semaphore.h>

static hl_header *header;
static hl_pressure *words;
static char order[16];
static void *cache;
static uint64_t self_handle, victim_handle, slow_handle;
static sem_t entered, leave;
static atomic_int finished;

SITE void *cached(void)
{
    return opaque(malloc(any(500000)));
}

SITE void *allocate_in_reclaimer(void)
{
    return opaque(malloc(any(300000)));
}

static void note(char letter)
{
    size_t length = strlen(order);
    REQUIRE(length + 1 < sizeof order);
    order[length] = letter;
}

static uint64_t add(const char *name, uint32_t priority, int64_t (*reclaim)(void *, const struct hl_reclaim_request *),
                    void *context)
{
    struct hl_reclaimer what = {
        .bytes = sizeof what, .name = name, .priority = priority, .reclaim = reclaim, .context = context};
    uint64_t handle = HEAPLEDGER_REGISTER(&what);
    REQUIRE(handle || !words);
    return handle;
}

static int64_t drop_cache(void *context, const struct hl_reclaim_request *request)
{
    REQUIRE(context == &cache && request->bytes == sizeof *request);
    REQUIRE(request->level == HL_LEVEL_HIGH && request->target_bytes == 12345);
    note('c');
    free(cache);
    return 500000;
}

static int64_t allocate(void *context, const struct hl_reclaim_request *request)
{
    (void)request;
    note('h');
    uint32_t crossings = words->crossings;
    void *block = allocate_in_reclaimer();
    REQUIRE(words->crossings == crossings);
    free(block);
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    REQUIRE(sigismember(&mask, SIGTERM) && !sigismember(&mask, SIGSEGV));
    return *(int *)context;
}

static int64_t purge(void *context, const struct hl_reclaim_request *request)
{
    (void)context, (void)request;
    note('a');
    return -1; /* it cannot tell, and adds nothing to the sum */
}

static int64_t leave_for_good(void *context, const struct hl_reclaim_request *request)
{
    (void)context, (void)request;
    note('s');
    HEAPLEDGER_UNREGISTER(self_handle);
    HEAPLEDGER_UNREGISTER(victim_handle);
    self_handle = add("again", HL_RECLAIM_CACHE, leave_for_good, NULL);
    HEAPLEDGER_UNREGISTER(self_handle);
    return 1;
}

static int64_t never(void *context, const struct hl_reclaim_request *request)
{
    (void)context, (void)request;
    REQUIRE(!"called though unregistered");
    return 0;
}

static int64_t slow(void *context, const struct hl_reclaim_request *request)
{
    (void)context, (void)request;
    sem_post(&entered);
    sem_wait(&leave);
    atomic_store(&finished, 1);
    return 7;
}

static int64_t fork_inside(void *context, const struct hl_reclaim_request *request)
{
    (void)context, (void)request;
    pid_t child = fork();
    if (child == 0)
        return 0; /* ends there */
    int status;
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    return 3;
}

static void *unregister_slow(void *unused)
{
    HEAPLEDGER_UNREGISTER(slow_handle);
    REQUIRE(atomic_load(&finished)); /* it has waited */
    return unused;
}

static void clean_up_is(int64_t claimed, const char *expected)
{
    memset(order, 0, sizeof order);
    wait_done(words, ask(words, HL_LEVEL_HIGH, 12345));
    REQUIRE(words->claimed_bytes == claimed && strcmp(order, expected) == 0);
}

static void order_and_claims(void)
{
    int claim = 20;
    cache = cached();
    words->armed_bytes = 0;
    words->crossed = HL_CROSSED_ARMED; /* a driver at work: what is allocated now crosses nothing */
    uint64_t purger = add("purge", HL_RECLAIM_ALLOCATOR, purge, NULL);
    uint64_t host = add("host", HL_RECLAIM_HOST, allocate, &claim);
    uint64_t images = add("images", HL_RECLAIM_CACHE, drop_cache, &cache);
    REQUIRE(words->reclaimers == 3);
    clean_up_is(500020, "cha");
    words->armed_bytes = INT64_MAX;
    words->crossed = 0;
    HEAPLEDGER_UNREGISTER(purger);
    HEAPLEDGER_UNREGISTER(host);
    HEAPLEDGER_UNREGISTER(images);
    HEAPLEDGER_UNREGISTER(images);
    HEAPLEDGER_UNREGISTER(0);
    HEAPLEDGER_UNREGISTER(~0ull);
    REQUIRE(words->reclaimers == 0);
    clean_up_is(0, "");
}

static void edges_of_registering(void)
{
    struct hl_reclaimer small = {.bytes = 8, .reclaim = never};
    REQUIRE(HEAPLEDGER_REGISTER(&small) == 0);
    uint64_t handles[64];
    for (int i = 0; i < 64; i++)
        handles[i] = add("many", HL_RECLAIM_HOST, never, NULL);
    struct hl_reclaimer full = {.bytes = sizeof full, .reclaim = never};
    REQUIRE(HEAPLEDGER_REGISTER(&full) == 0);
    for (int i = 0; i < 64; i++)
        HEAPLEDGER_UNREGISTER(handles[i]);
    self_handle = add("self", HL_RECLAIM_CACHE, leave_for_good, NULL);
    victim_handle = add("victim", HL_RECLAIM_HOST, never, NULL);
    clean_up_is(1, "s");
    clean_up_is(0, "");
    uint64_t forker = add("forker", HL_RECLAIM_CACHE, fork_inside, NULL);
    clean_up_is(3, "");
    HEAPLEDGER_UNREGISTER(forker);
}

/* The child inherits the reclaimer, but neither the call nor the thread that makes it. */
static void in_child(void)
{
    HEAPLEDGER_UNREGISTER(slow_handle);
    header = own_ledger();
    words = &header->pressure;
    REQUIRE(words->request == 0 && words->armed_bytes == INT64_MAX);
    uint64_t purger = add("purge", HL_RECLAIM_ALLOCATOR, purge, NULL);
    REQUIRE(words->reclaimers == 1);
    clean_up_is(0, "a");
    HEAPLEDGER_UNREGISTER(purger);
    _exit(0);
}

static void fork_and_unregister_while_one_runs(void)
{
    slow_handle = add("slow", HL_RECLAIM_HOST, slow, NULL);
    uint32_t number = ask(words, HL_LEVEL_MODERATE, 0);
    sem_wait(&entered);
    pid_t child = fork();
    if (child == 0)
        in_child();
    int status;
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    pthread_t thread = start_thread(unregister_slow, NULL);
    while (__atomic_load_n(&words->reclaimers, __ATOMIC_RELAXED))
        sched_yield(); /* until it is unregistered, and waited for */
    sem_post(&leave);
    pthread_join(thread, NULL);
    wait_done(words, number);
    REQUIRE(words->claimed_bytes == 7);
}

static void becomes_readable(int file)
{
    struct pollfd poll_it = {.fd = file, .events = POLLIN};
    uint64_t value;
    REQUIRE(poll(&poll_it, 1, -1) == 1 && read(file, &value, sizeof value) == sizeof value && value >= 1);
}

static void eventfds(void)
{
    int one = HEAPLEDGER_PRESSURE_FD(), other = HEAPLEDGER_PRESSURE_FD();
    REQUIRE(one >= 0 && other >= 0 && one != other);
    wait_done(words, ask(words, HL_LEVEL_MODERATE, 0));
    becomes_readable(one);
    becomes_readable(other);
    __atomic_store_n(&words->level, HL_LEVEL_HIGH, __ATOMIC_RELEASE);
    __atomic_fetch_add(&words->bell, 1, __ATOMIC_RELEASE);
    futex_wake(&words->bell);
    becomes_readable(one);
    becomes_readable(other);
    REQUIRE(HEAPLEDGER_PRESSURE_LEVEL() == HL_LEVEL_HIGH);

    /* Closed, and the number given to something else: nothing is written there. */
    int ends[2];
    REQUIRE(pipe2(ends, O_NONBLOCK) == 0 && dup2(ends[1], one) == one);
    wait_done(words, ask(words, HL_LEVEL_MODERATE, 0));
    becomes_readable(other);
    char byte;
    REQUIRE(read(ends[0], &byte, 1) == -1 && errno == EAGAIN);
    close(other);
    for (int i = 0; i < 200; i++) { /* what is closed makes room */
        int file = HEAPLEDGER_PRESSURE_FD();
        REQUIRE(file >= 0 && close(file) == 0);
    }
}

int main(void)
{
    header = own_ledger();
    if (!header) {
        REQUIRE(HEAPLEDGER_PRESSURE_LEVEL() == HL_LEVEL_CALM && HEAPLEDGER_PRESSURE_FD() == -1);
        REQUIRE(add("none", HL_RECLAIM_CACHE, never, NULL) == 0 && HEAPLEDGER_REQUEST_CLEANUP(1) == -1);
        say(1, "reclaimed\n");
        return 0;
    }
    words = &header->pressure;
    sem_init(&entered, 0, 0);
    sem_init(&leave, 0, 0);
    order_and_claims();
    edges_of_registering();
    fork_and_unregister_while_one_runs();
    eventfds();
    REQUIRE(HEAPLEDGER_REQUEST_CLEANUP(99) == 0 && words->asked == 1 && words->asked_bytes == 99);
    REQUIRE(words->crossed == HL_CROSSED_ASKED);
    say(1, "reclaimed\n");
    /* The program ends while one runs. */
    add("slow", HL_RECLAIM_CACHE, slow, NULL);
    ask(words, HL_LEVEL_CRITICAL, 0);
    sem_wait(&entered);
}
