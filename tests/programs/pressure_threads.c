/*
 * Drivers, reclaimers that come and go, unregistering from inside and outside,
 * eventfds and crossings, all at once on several threads, for the thread sanitizer.
 */
#include "program.h"

#include <api.h>

#define ROUNDS 300

static atomic_int calls, running[2];
static atomic_bool over;

static int64_t once_at_a_time(void *context, const struct hl_reclaim_request *request)
{
    atomic_int *mine = context;
    REQUIRE(request->bytes == sizeof *request);
    REQUIRE(atomic_fetch_add(mine, 1) == 0);
    atomic_fetch_add(&calls, 1);
    free(opaque(malloc(100)));
    atomic_fetch_sub(mine, 1);
    return 1;
}

static int64_t unregister_self(void *context, const struct hl_reclaim_request *request)
{
    (void)request;
    hl_unregister(atomic_load((_Atomic uint64_t *)context));
    return 1;
}

/* What it uses is on its stack: a call after hl_unregister has returned is seen. */
static void *come_and_go(void *unused)
{
    for (int round = 0; round < ROUNDS; round++) {
        atomic_int in_call = 0;
        struct hl_reclaimer what = {.bytes = sizeof what,
                                    .name = "come and go",
                                    .priority = (uint32_t)round % 3,
                                    .reclaim = once_at_a_time,
                                    .context = &in_call};
        uint64_t handle = hl_register(&what);
        REQUIRE(handle);
        hl_charge("something", 200000);
        hl_unregister(handle);
        REQUIRE(in_call == 0);
        hl_uncharge("something", 200000);
    }
    return unused;
}

static void *come_and_leave_inside(void *unused)
{
    static _Atomic uint64_t handle; /* a driver may call before it is known: then nobody is unregistered */
    for (int round = 0; round < 20; round++) {
        struct hl_reclaimer what = {
            .bytes = sizeof what, .priority = 1, .reclaim = unregister_self, .context = &handle};
        struct hl_reclaim_request request = {.bytes = sizeof request};
        hl_claim claim;
        handle = hl_core_reclaim_register(&what, 0);
        REQUIRE(handle);
        int called = hl_core_reclaim_call(handle, &request, &claim);
        REQUIRE(called == 0 || called == -1); /* another driver was faster */
        hl_unregister(handle);
    }
    return unused;
}

/* A driver in the program, beside the helper. */
static void *drive(void *unused)
{
    while (!atomic_load(&over)) {
        uint64_t handles[HL_MAX_RECLAIMERS];
        struct hl_reclaim_request request = {.bytes = sizeof request};
        hl_claim claim;
        hl_core_pressure_arm(100000);
        hl_core_pressure_wait(HL_WORD_CROSSED, 0, 1000000);
        hl_core_pressure_arm(INT64_MAX);
        hl_core_pressure_take();
        hl_core_pressure_signal();
        for (uint32_t priority = 0; priority < 3; priority++) {
            uint32_t count = hl_core_reclaim_list(priority, handles, HL_MAX_RECLAIMERS);
            for (uint32_t i = 0; i < count; i++)
                hl_core_reclaim_call(handles[i], &request, &claim);
        }
        hl_core_pressure_level_set((uint32_t)atomic_load(&calls) % 4);
    }
    return unused;
}

static void *ask_the_helper(void *unused)
{
    while (!atomic_load(&over)) {
        hl_pressure before, now;
        hl_core_pressure_read(&before);
        hl_core_pressure_request(1, 0);
        for (hl_core_pressure_read(&now); now.done != before.request + 1; hl_core_pressure_read(&now))
            hl_core_pressure_wait(HL_WORD_DONE, now.done, UINT64_MAX);
    }
    return unused;
}

static void *watch(void *unused)
{
    for (int round = 0; round < ROUNDS; round++) {
        int file = hl_pressure_fd();
        REQUIRE(file >= 0);
        hl_request_cleanup(1);
        REQUIRE(hl_pressure_level() < 4);
        close(file);
    }
    return unused;
}

int main(void)
{
    struct hl_reclaimer steady = {
        .bytes = sizeof steady, .name = "steady", .reclaim = once_at_a_time, .context = &running[0]};
    REQUIRE(hl_register(&steady));
    pthread_t drivers[] = {start_thread(drive, NULL), start_thread(ask_the_helper, NULL)};
    pthread_t guests[] = {start_thread(come_and_go, NULL), start_thread(come_and_go, NULL),
                          start_thread(come_and_leave_inside, NULL), start_thread(watch, NULL)};
    for (size_t i = 0; i < sizeof guests / sizeof *guests; i++)
        pthread_join(guests[i], NULL);
    atomic_store(&over, true);
    for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++)
        pthread_join(drivers[i], NULL);
    REQUIRE(calls > 0);
    say(1, "no race\n");
}
