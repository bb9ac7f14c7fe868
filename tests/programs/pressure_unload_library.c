/* See pressure_unload.c: registers a reclaimer while it is loaded. */
#define HEAPLEDGER_WEAK
#include <heapledger.h>

#include <stdlib.h>

void (*plugin_inside)(void);
static uint64_t handle;
static void *cache;

static int64_t reclaim(void *context, const struct hl_reclaim_request *request)
{
    (void)context, (void)request;
    if (plugin_inside)
        plugin_inside();
    void *kept = __atomic_exchange_n(&cache, NULL, __ATOMIC_RELAXED);
    free(kept);
    return kept ? 1000 : 0;
}

__attribute__((constructor)) static void begin(void)
{
    struct hl_reclaimer what = {.bytes = sizeof what, .name = "plugin", .reclaim = reclaim};
    cache = malloc(1000);
    handle = HEAPLEDGER_REGISTER(&what);
}

__attribute__((destructor)) static void end(void)
{
    HEAPLEDGER_UNREGISTER(handle);
    free(cache);
}
