/*
 * A library that registers a reclaimer as it is loaded and unregisters it as it
 * is unloaded, unloaded while its reclaimer runs, and then at any moment of
 * clean-ups: dlclose waits for the call, and nothing of the library is called
 * when its code is gone.
 *
 * expect: outcome=exit:0 processes=1 losses.foreign_frees=0
 */
#include "pressure.h"

#include <semaphore.h>

#define ROUNDS 200

static hl_pressure *words;
static const char *path;
static sem_t entered, leave;
static atomic_int over;

static void wait_inside(void)
{
    sem_post(&entered);
    sem_wait(&leave);
}

static void *load(void)
{
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    REQUIRE(plugin);
    return plugin;
}

static void *unload(void *plugin)
{
    REQUIRE(dlclose(plugin) == 0);
    REQUIRE(!dlopen(path, RTLD_NOW | RTLD_NOLOAD));
    return NULL;
}

static void while_it_runs(void)
{
    void *plugin = load();
    *(void (**)(void))dlsym(plugin, "plugin_inside") = wait_inside;
    REQUIRE(words->reclaimers == 1);
    uint32_t number = ask(words, HL_LEVEL_HIGH, 0);
    sem_wait(&entered);
    pthread_t thread = start_thread(unload, plugin);
    while (__atomic_load_n(&words->reclaimers, __ATOMIC_RELAXED))
        sched_yield(); /* until it is unregistered, and waited for */
    REQUIRE(__atomic_load_n(&words->done, __ATOMIC_RELAXED) != number);
    sem_post(&leave);
    pthread_join(thread, NULL);
    wait_done(words, number);
    REQUIRE(words->claimed_bytes == 1000);
}

static void *keep_asking(void *unused)
{
    while (!atomic_load(&over))
        wait_done(words, ask(words, HL_LEVEL_MODERATE, 0));
    return unused;
}

static void at_any_moment(void)
{
    pthread_t thread = start_thread(keep_asking, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        void *plugin = load();
        uint32_t done = __atomic_load_n(&words->done, __ATOMIC_RELAXED);
        for (int turn = 0; turn < round && __atomic_load_n(&words->done, __ATOMIC_RELAXED) == done; turn++)
            sched_yield();
        unload(plugin);
    }
    atomic_store(&over, 1);
    pthread_join(thread, NULL);
    wait_done(words, ask(words, HL_LEVEL_MODERATE, 0));
    REQUIRE(words->claimed_bytes == 0 && words->reclaimers == 0);
}

int main(int count, char **arguments)
{
    REQUIRE(count == 2);
    path = arguments[1];
    hl_header *header = own_ledger();
    if (header) {
        words = &header->pressure;
        sem_init(&entered, 0, 0);
        sem_init(&leave, 0, 0);
        while_it_runs();
        at_any_moment();
    } else {
        unload(load());
    }
    say(1, "unloaded\n");
    return 0;
}
