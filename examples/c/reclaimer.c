/*
 * A cache in C that empties itself when it is asked to, with and without a ledger.
 *
 *     cc -g -pthread -Iinclude -o reclaimer examples/c/reclaimer.c
 *     ./reclaimer                                 no ledger: every call below is skipped
 *     heapledger run -- ./reclaimer               booked; nobody drives clean-ups
 *     heapledger run --soft-limit 1GiB -- ./reclaimer
 *                                                 driven: what it asks for is done
 *
 * Half of the cache is malloc's, half is mapped and charged by name. Nothing is
 * linked: HEAPLEDGER_WEAK makes every function of the header one that may be
 * missing at run time, and the macros test for it.
 */
#define _DEFAULT_SOURCE
#define HEAPLEDGER_WEAK
#include <heapledger.h>

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TILES 64
#define TILE_BYTES ((size_t)1 << 20)
#define PATIENCE_MS 1000

/* Tiles of a map, the oldest first; odd ones lie in mappings of their own. */
struct cache {
    pthread_mutex_t lock;
    pthread_cond_t reclaimed;
    void *tiles[TILES];
    unsigned first, count;
};

static void *tile_new(unsigned number)
{
    if (number % 2 == 0)
        return malloc(TILE_BYTES);
    void *tile = mmap(NULL, TILE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (tile == MAP_FAILED)
        return NULL;
    HEAPLEDGER_CHARGE("tiles", TILE_BYTES); /* malloc never sees it */
    return tile;
}

static void tile_free(void *tile, unsigned number)
{
    if (number % 2 == 0) {
        free(tile);
        return;
    }
    munmap(tile, TILE_BYTES);
    HEAPLEDGER_UNCHARGE("tiles", TILE_BYTES);
}

static int cache_add(struct cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    unsigned number = cache->first + cache->count;
    void *tile = number < TILES ? tile_new(number) : NULL;
    if (tile) {
        memset(tile, 1, TILE_BYTES);
        cache->tiles[number] = tile;
        cache->count++;
    }
    pthread_mutex_unlock(&cache->lock);
    return tile != NULL;
}

/*
 * Called on a thread of heapledger's, never from inside malloc, so the program's
 * own locks may be taken. What it gives is a claim; the ledger knows the truth.
 */
static int64_t cache_reclaim(void *context, const struct hl_reclaim_request *request)
{
    struct cache *cache = context;
    int64_t freed = 0;
    pthread_mutex_lock(&cache->lock);
    while (cache->count && (request->target_bytes == 0 || freed < request->target_bytes)) {
        tile_free(cache->tiles[cache->first], cache->first);
        cache->first++;
        cache->count--;
        freed += (int64_t)TILE_BYTES;
    }
    pthread_cond_broadcast(&cache->reclaimed);
    pthread_mutex_unlock(&cache->lock);
    return freed;
}

static int64_t live_bytes(void)
{
    struct hl_books books = {.bytes = sizeof books};
    return hl_snapshot && hl_snapshot(&books) == 0 ? books.c.live_bytes : -1;
}

/* Waits for a clean-up that was asked for: first until it begins, then for our turn in it. */
static void await_clean_up(struct cache *cache, int told)
{
    struct pollfd wait = {.fd = told, .events = POLLIN};
    if (poll(&wait, 1, PATIENCE_MS) != 1) {
        puts("nobody drives clean-ups here");
        return;
    }
    pthread_mutex_lock(&cache->lock);
    while (cache->count == TILES)
        pthread_cond_wait(&cache->reclaimed, &cache->lock);
    pthread_mutex_unlock(&cache->lock);
    puts("a clean-up came");
}

int main(void)
{
    static struct cache cache = {.lock = PTHREAD_MUTEX_INITIALIZER, .reclaimed = PTHREAD_COND_INITIALIZER};
    struct hl_reclaimer reclaimer = {
        .bytes = sizeof reclaimer, /* says which version of the struct this program knows */
        .name = "tiles",
        .priority = HL_RECLAIM_CACHE,
        .reclaim = cache_reclaim,
        .context = &cache,
    };
    uint64_t handle = HEAPLEDGER_REGISTER(&reclaimer);
    int told = HEAPLEDGER_PRESSURE_FD();

    int64_t before = live_bytes();
    while (cache_add(&cache))
        ;
    if (handle && told >= 0) {
        printf("c has grown by %" PRId64 " MiB\n", (live_bytes() - before) >> 20);
        /* A wish: whoever drives clean-ups decides. When memory nears a limit they come by themselves. */
        HEAPLEDGER_REQUEST_CLEANUP(TILES * TILE_BYTES);
        await_clean_up(&cache, told);
    } else {
        puts("no ledger is kept here");
    }

    /* When it returns, no call is in flight, and none will come: the cache needs no lock any more. */
    HEAPLEDGER_UNREGISTER(handle);
    printf("%u tiles are left\n", cache.count);
    struct hl_reclaim_request all = {.bytes = sizeof all};
    cache_reclaim(&cache, &all);
    if (told >= 0)
        close(told);
    return 0;
}
