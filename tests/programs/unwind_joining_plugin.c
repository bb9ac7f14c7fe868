/* Its constructor, which the loader runs under its lock, allocates and waits for a thread that does so too. */
#include <pthread.h>
#include <stdlib.h>

static void *allocate(void *unused)
{
    for (int i = 0; i < 100; i++)
        free(malloc(100));
    return unused;
}

__attribute__((constructor)) static void begin(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, allocate, NULL);
    allocate(NULL);
    pthread_join(thread, NULL);
}

void call(void (*what)(void));
void call(void (*what)(void))
{
    what();
    __asm__ volatile("" ::: "memory");
}
