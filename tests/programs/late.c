/*
 * Opens a library that keeps books of its own (late_library.c) when a thread is
 * running already. That thread, the main one and one that comes later allocate there.
 *
 *     late LIBRARY
 */
#include "program.h"

#include "heapledger.h"

static void *(*late_alloc)(size_t);
static void (*late_free)(void *, size_t);
static int (*late_books)(struct hl_books *);
static pthread_barrier_t opened;

SITE void allocate_there(void)
{
    void *kept = late_alloc(1000), *given_back = late_alloc(500);
    REQUIRE(kept && given_back);
    memset(kept, 1, 1000);
    late_free(given_back, 500);
}

static void *early_thread(void *unused)
{
    pthread_barrier_wait(&opened);
    allocate_there();
    return unused;
}

static void *late_thread(void *unused)
{
    allocate_there();
    return unused;
}

int main(int count, char **words)
{
    REQUIRE(count == 2 && pthread_barrier_init(&opened, NULL, 2) == 0);
    pthread_t early = start_thread(early_thread, NULL);
    void *library = dlopen(words[1], RTLD_NOW | RTLD_LOCAL);
    if (!library)
        say(2, "%s\n", dlerror());
    REQUIRE(library != NULL);
    *(void **)&late_alloc = dlsym(library, "late_alloc");
    *(void **)&late_free = dlsym(library, "late_free");
    *(void **)&late_books = dlsym(library, "late_books");
    REQUIRE(late_alloc && late_free && late_books);
    pthread_barrier_wait(&opened);
    pthread_join(early, NULL);
    pthread_join(start_thread(late_thread, NULL), NULL);
    allocate_there();
    struct hl_books books = { .bytes = sizeof books };
    REQUIRE(late_books(&books) == 0);
    say(1, "c is %s, rust holds %lld bytes in %lld blocks of %llu\n", books.sees_c ? "booked" : "unknown",
        (long long)books.rust.live_bytes, (long long)books.rust.live_blocks,
        (unsigned long long)books.rust.allocated_blocks);
}
