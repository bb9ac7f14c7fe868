/*
 * Item 24. mlockall makes every mapping resident, also those to come: what we
 * reserve must not become megabytes that nobody can page out.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=main_alloc allocated_blocks=1000 live_blocks=1000 live_bytes=1000*u(1000)
 * expect: site=thread_alloc allocated_blocks=800 live_blocks=800 live_bytes=800*u(100)
 */
#include "program.h"

SITE void main_alloc(void)
{
    for (int i = 0; i < 1000; i++)
        opaque(malloc(1000));
}

SITE void *thread_alloc(void *unused)
{
    for (int i = 0; i < 100; i++)
        opaque(malloc(100));
    return unused;
}

int main(void)
{
    mallopt(M_ARENA_MAX, 1);
    int locked = mlockall(MCL_CURRENT | MCL_FUTURE);
    say(1, "%s\n", locked == 0 ? "locked" : strerror(errno));
    main_alloc();
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 << 10);
    for (int i = 0; i < 8; i++) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, &attributes, thread_alloc, NULL) == 0);
        pthread_join(thread, NULL);
    }
    char text[256] = "";
    int file = open("/proc/self/statm", O_RDONLY);
    REQUIRE(file >= 0 && read(file, text, sizeof text - 1) > 0);
    close(file);
    long mebibytes = strtol(strchr(text, ' '), NULL, 10) * 4096 >> 20;
    if (mebibytes < 40)
        say(1, "small\n");
    else
        say(1, "%ld MiB resident\n", mebibytes);
}
