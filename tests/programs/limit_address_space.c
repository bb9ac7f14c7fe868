/*
 * Item 24. RLIMIT_AS leaves 32 MiB above what is mapped, or as many as it is told:
 * our tables cannot be had for the asking, and what the program could map bare it
 * can map with us. With a second word the heap grows over a border of the owner map,
 * which then needs another table.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=after_alloc allocated_blocks=1000 live_blocks=1000 live_bytes=1000*u(1000)
 * expect: site=thread_alloc allocated_blocks=400 live_blocks=400 live_bytes=400*u(1000)
 * expect: site=large_alloc allocated_blocks=1 live_blocks=1
 */
#include "program.h"
#include "sites.h"

static _Atomic unsigned refused;

static void count(void *block)
{
    if (!opaque(block))
        refused++;
}

SITE void after_alloc(void)
{
    THOUSAND_TIMES(count(malloc(1000));)
}

SITE void *large_alloc(size_t bytes)
{
    return opaque(malloc(bytes));
}

SITE void *thread_alloc(void *unused)
{
    for (int i = 0; i < 100; i++)
        count(malloc(1000));
    return unused;
}

int main(int argc, char **argv)
{
    if (argc > 2 && *argv[2]) {
        const uintptr_t part = 16 << 20, before = 300 << 10;
        uintptr_t border = ((uintptr_t)sbrk(0) + before + part - 1) & ~(part - 1);
        REQUIRE(brk((void *)(border - before)) == 0);
    }
    rlim_t left = (argc > 1 ? strtoul(argv[1], NULL, 10) : 32) << 20;
    char text[256] = "";
    int file = open("/proc/self/statm", O_RDONLY);
    REQUIRE(file >= 0 && read(file, text, sizeof text - 1) > 0);
    close(file);
    rlim_t pages = strtoul(text, NULL, 10);
    struct rlimit tight = { pages * 4096 + left, RLIM_INFINITY };
    REQUIRE(setrlimit(RLIMIT_AS, &tight) == 0);
    mallopt(M_ARENA_MAX, 1); /* a second arena alone reserves 128 MiB */
    REQUIRE(large_alloc(left / 2) != NULL);
    after_alloc();
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 << 10);
    for (int i = 0; i < 4; i++) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, &attributes, thread_alloc, NULL) == 0);
        pthread_join(thread, NULL);
    }
    REQUIRE(refused == 0);
    say(1, "enough room\n");
}
