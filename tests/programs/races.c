/*
 * Everything that a program can do to the core, on several threads at once, for the
 * thread sanitizer: both sides allocate, blocks move from thread to thread and are
 * freed there, an allocator with memory of its own is booked around, scopes and
 * charges come and go under many names, others read the books meanwhile, short
 * threads leave their slots and their blocks to the next, and it forks in the middle.
 */
#include "program.h"

#include <api.h>

#define THREADS 4
#define ROUNDS 3000
#define SHORT_THREADS 400
#define FORKS 6

enum { OF_C, OF_RUST, KINDS };

struct parcel {
    uint32_t kind;
    uint32_t bytes;
    char content[];
};

/* One place for each thread; a parcel's content is its receiver's from the exchange on. */
static struct parcel *_Atomic places[THREADS];
static atomic_int short_threads;
static atomic_bool over;

/* ---- both sides ---- */

#define MALLOC_AT(number) \
    SITE static void *malloc_##number(size_t bytes) { return opaque(malloc(bytes)); }
MALLOC_AT(0) MALLOC_AT(1) MALLOC_AT(2) MALLOC_AT(3) MALLOC_AT(4) MALLOC_AT(5) MALLOC_AT(6) MALLOC_AT(7)
static void *(*const malloc_at[])(size_t) = {malloc_0, malloc_1, malloc_2, malloc_3,
                                             malloc_4, malloc_5, malloc_6, malloc_7};

SITE static void *rust_alloc(size_t bytes)
{
    return opaque(hl_do_rust_alloc(bytes, 8, HL_CALLER()));
}

static struct parcel *pack(uint64_t chance)
{
    uint32_t bytes = sizeof(struct parcel) + 8 + chance % (chance & 64 ? 3000 : 200);
    uint32_t kind = chance >> 20 & 1 ? OF_RUST : OF_C;
    struct parcel *parcel = kind == OF_RUST ? rust_alloc(bytes) : malloc_at[chance >> 30 & 7](bytes);
    REQUIRE(parcel);
    *parcel = (struct parcel){kind, bytes};
    memset(parcel->content, (int)bytes, bytes - sizeof *parcel);
    return parcel;
}

static struct parcel *repack(struct parcel *parcel, uint64_t chance)
{
    uint32_t bytes = parcel->bytes + 100 + chance % 900;
    parcel = parcel->kind == OF_RUST ? hl_do_rust_realloc(parcel, parcel->bytes, 8, bytes, HL_CALLER())
                                     : realloc(parcel, bytes);
    REQUIRE(parcel && parcel->content[7] == (char)parcel->bytes);
    parcel->bytes = bytes;
    return parcel;
}

static void unpack(struct parcel *parcel)
{
    if (!parcel)
        return;
    if (parcel->kind == OF_RUST)
        hl_do_rust_dealloc(parcel, parcel->bytes);
    else
        free(parcel);
}

/* ---- an allocator with memory of its own: each thread has some, and gives it away ---- */

static _Alignas(64) char memory[THREADS][64][64];

static void book_around(size_t thread, size_t round)
{
    char *block = memory[thread][round % 64];
    hl_core_wrapped_book(block, 40, HL_CALLER(), 0);
    hl_core_inner_enter();
    free(malloc_0(10)); /* its own, which nobody books */
    hl_core_inner_leave();
    hl_core_wrapped_unbook(hl_core_wrapped_retire(block), 40);
}

/* ---- threads ---- */

static void *exchange(void *argument)
{
    size_t thread = (size_t)argument;
    uint64_t state = 0x9e3779b97f4a7c15ull * (thread + 1);
    for (size_t round = 0; round < ROUNDS; round++) {
        uint64_t chance = next_random(&state);
        char name[24];
        snprintf(name, sizeof name, "scope %d", (int)(chance >> 40 & 15));
        hl_scope_push(name);
        struct parcel *parcel = pack(chance);
        if (chance >> 50 & 1)
            parcel = repack(parcel, chance);
        unpack(atomic_exchange(&places[chance >> 56 & (THREADS - 1)], parcel));
        hl_charge(name, 1000);
        hl_scope_pop();
        hl_uncharge(name, 1000);
        if (round % 8 == 0)
            book_around(thread, round / 8);
    }
    return NULL;
}

/* What one has, the next one finds: slots of threads that have ended are taken over. */
static void *live_short(void *unused)
{
    (void)unused;
    struct parcel *parcel = pack(0x9e3779b97f4a7c15ull * (uint64_t)atomic_fetch_add(&short_threads, 1));
    unpack(atomic_exchange(&places[0], parcel));
    free(malloc_1(100));
    return NULL;
}

static void *start_short_threads(void *unused)
{
    for (int i = 0; i < SHORT_THREADS; i += 2) {
        pthread_t joined = start_thread(live_short, NULL), detached = start_thread(live_short, NULL);
        pthread_detach(detached);
        pthread_join(joined, NULL);
    }
    while (atomic_load(&short_threads) < SHORT_THREADS)
        sched_yield();
    return unused;
}

static void *read_books(void *unused)
{
    while (!atomic_load(&over)) {
        struct hl_books books = {.bytes = sizeof books};
        REQUIRE(hl_snapshot(&books) == 0 && books.sees_c);
        hl_watch watch = {.on = 1};
        hl_core_watch(&watch);
        free(malloc_2(5000));
        hl_core_watch(&watch);
        REQUIRE(watch.peak[HL_SIDE_C] >= 5000);
        int64_t peaks[HL_SIDES + 1];
        hl_core_process_peaks(peaks, 1);
        hl_totals totals[HL_SIDES];
        hl_core_thread_totals(totals);
        uint64_t words[64];
        REQUIRE(hl_core_copy_words(offsetof(hl_header, live), words, 64) == 0);
        sched_yield();
    }
    return unused;
}

/* Children have the books of their parent, and go on with their own. */
static void fork_in_the_middle(void)
{
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (!child) {
            for (size_t place = 0; place < THREADS; place++)
                unpack(atomic_exchange(&places[place], NULL));
            free(malloc_3(1000));
            struct hl_books books = {.bytes = sizeof books};
            _exit(hl_snapshot(&books) == 0 && books.c.allocated_blocks ? 0 : 1);
        }
        int status;
        REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    }
}

static int at_rest[2];

/* Leaves a block and a slot to the child; at rest when it has said so, for as long as the process is there. */
static void *rest(void *unused)
{
    unpack(atomic_exchange(&places[0], pack(77)));
    char byte = 0;
    REQUIRE(write(at_rest[1], &byte, 1) == 1);
    for (;;)
        pause();
    return unused;
}

static void go_on_in_a_child(void)
{
    REQUIRE(pipe2(at_rest, O_CLOEXEC) == 0);
    for (int i = 0; i < 3; i++) {
        pthread_detach(start_thread(rest, NULL));
        char byte;
        REQUIRE(read(at_rest[0], &byte, 1) == 1);
    }
    pid_t child = fork();
    if (child == 0)
        return;
    int status;
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 97);
}

/* With an argument all of it happens in the child of a process with several threads. */
int main(int count, char **arguments)
{
    (void)arguments;
    if (count > 1)
        go_on_in_a_child();
    pthread_t reader = start_thread(read_books, NULL), starter = start_thread(start_short_threads, NULL);
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        threads[i] = start_thread(exchange, (void *)i);
    fork_in_the_middle();
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_join(starter, NULL);
    atomic_store(&over, true);
    pthread_join(reader, NULL);
    for (size_t i = 0; i < THREADS; i++)
        unpack(atomic_exchange(&places[i], NULL));
    struct hl_books books = {.bytes = sizeof books};
    REQUIRE(hl_snapshot(&books) == 0 && books.rust.live_blocks == 0 && books.rust.live_bytes == 0);
    say(1, "no race\n");
    return 0;
}
