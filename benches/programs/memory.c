/*
 * Holds memory and waits until its standard input ends, so that it can be
 * measured from outside.
 *
 *     memory blocks MEGABYTES   live blocks of 32 to 256 bytes
 *     memory threads COUNT      threads that live and have allocated
 *     memory short COUNT        threads that have come and gone
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <malloc.h>

static sem_t allocated;

static void *live(void *argument)
{
    void *volatile block = malloc(100);
    char *volatile other = strdup("a second call site");
    sem_post(&allocated);
    if (argument)
        pause();
    free(other);
    free(block);
    return NULL;
}

static uint64_t hold(uint64_t wanted)
{
    uint64_t random = 88172645463325252u, held = 0;
    while (held < wanted) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        size_t bytes = 32 + random % 225;
        char *block = malloc(bytes);
        memset(block, 1, bytes);
        held += malloc_usable_size(block);
    }
    return held;
}

int main(int count, char **words)
{
    if (count != 3)
        return 2;
    uint64_t number = strtoull(words[2], NULL, 10), held = 0;
    sem_init(&allocated, 0, 0);
    mallopt(M_ARENA_MAX, 1); /* an arena for every thread would be bare glibc's own noise */
    if (strcmp(words[1], "blocks") == 0)
        held = hold(number << 20);
    for (uint64_t i = 0; *words[1] != 'b' && i < number; i++) {
        pthread_t thread;
        int stays = *words[1] == 't';
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, 256 << 10);
        if (pthread_create(&thread, &attributes, live, stays ? words : NULL))
            return 3;
        sem_wait(&allocated);
        if (!stays)
            pthread_join(thread, NULL);
    }
    printf("%llu\n", (unsigned long long)held);
    fflush(stdout);
    char end;
    return read(0, &end, 1) != 0;
}
