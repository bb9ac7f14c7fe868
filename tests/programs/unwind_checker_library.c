/*
 * Holds the core's unwinder to libgcc's: preloaded, it walks the stack with both
 * at every UNWIND_CHECK_EVERY-th allocation, and where a program calls
 * unwind_check(). With UNWIND_CHECK_ALONE the core walks alone, for stacks that
 * are too small for libgcc, with UNWIND_CHECK_OLD it does so without
 * _dl_find_object. At the end it adds a line to UNWIND_CHECK_FILE:
 *   walks N whole N deep N lost N guessed N torn N remembered N different N
 * and before it, for the first few that differ, both stacks.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

#include "unwinder.h"

#define EXPORT __attribute__((visibility("default"), noinline))
#define MOST 4096
#define KEPT_WORDS (1ul << 22)

void *hl_reserve(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* ---- what was found ---- */

static char path[256];
static unsigned every = 1;
static unsigned long walks, different, by_outcome[4], guessed, remembered;
static int ready, alone;

static void say(const char *format, ...)
{
    char line[8192];
    va_list list;
    va_start(list, format);
    int bytes = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0 && write(file, line, bytes < (int)sizeof line ? (size_t)bytes : sizeof line) < 0)
        abort();
    close(file);
}

/* NULL, as before glibc 2.35, where that is to be proven. */
static void *look_up(void)
{
    return getenv("UNWIND_CHECK_OLD") ? NULL : dlsym(RTLD_DEFAULT, "_dl_find_object");
}

__attribute__((constructor)) static void begin(void)
{
    const char *file = getenv("UNWIND_CHECK_FILE"), *often = getenv("UNWIND_CHECK_EVERY");
    if (file && strlen(file) < sizeof path && hl_unwind_begin(look_up())) {
        strcpy(path, file);
        alone = getenv("UNWIND_CHECK_ALONE") != NULL;
        every = often ? (unsigned)atoi(often) : 1;
        ready = 1;
    }
}

__attribute__((destructor)) static void end(void)
{
    if (ready)
        say("walks %lu whole %lu deep %lu lost %lu guessed %lu torn %lu remembered %lu different %lu\n", walks,
            by_outcome[0], by_outcome[1], by_outcome[2], guessed, by_outcome[3], remembered, different);
}

/* ---- both walks ---- */

typedef struct trace {
    unsigned long frames[MOST];
    unsigned count;
    unsigned busy;
    unsigned since;
    hl_walker *walker;
    unsigned long *kept; /* walks that the memo has: how, count, frames */
    unsigned long kept_words;
} trace;
static _Thread_local trace *mine __attribute__((tls_model("initial-exec")));

static _Unwind_Reason_Code add(struct _Unwind_Context *context, void *into)
{
    trace *theirs = into;
    int before = 0;
    unsigned long ip = _Unwind_GetIPInfo(context, &before);
    if (!ip || theirs->count >= MOST)
        return _URC_END_OF_STACK;
    theirs->frames[theirs->count++] = ip + (before != 0);
    return _URC_NO_REASON;
}

static void show(const char *who, const unsigned long *frames, unsigned count)
{
    char line[4096];
    int at = 0;
    for (unsigned i = 0; i < count && at < 3900; i++)
        at += snprintf(line + at, sizeof line - (size_t)at, " %lx", frames[i]);
    say("%s%s\n", who, line);
}

/* Whole stacks are equal; what is cut short is equal as far as it goes. */
static int same(const hl_walker *walker, unsigned count, const unsigned long *theirs, unsigned their_count)
{
    unsigned how = walker->how & 3, least = count < their_count ? count : their_count;
    if (memcmp(walker->frames, theirs, least * sizeof *theirs) != 0)
        return 0;
    if (walker->how & HL_WALK_GUESSED)
        return count >= their_count || how == HL_WALK_DEEP;
    return how == HL_WALK_DEEP ? their_count >= count : count == their_count;
}

static __attribute__((noinline)) void hold_to_libgcc(unsigned count, unsigned long site);
static __attribute__((noinline)) unsigned hold_to_memo(unsigned count, unsigned long site);

static __attribute__((noinline)) void compare(unsigned long site)
{
    if (!mine) {
        trace *made = hl_reserve(sizeof *made);
        made->walker = hl_reserve(sizeof *made->walker);
        made->walker->memo = hl_reserve(hl_memo_bytes());
        hl_memo_forget(made->walker->memo);
        made->kept = hl_reserve(KEPT_WORDS * sizeof *made->kept);
        made->kept_words = 1;
        mine = made;
    }
    if (mine->busy || ++mine->since < every)
        return;
    mine->busy = 1;
    mine->since = 0;
    unsigned count = hl_unwind(mine->walker, site);
    __atomic_fetch_add(&walks, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&by_outcome[mine->walker->how & 3], 1, __ATOMIC_RELAXED);
    if (mine->walker->how & HL_WALK_GUESSED)
        __atomic_fetch_add(&guessed, 1, __ATOMIC_RELAXED);
    count = hold_to_memo(count, site);
    if (!alone)
        hold_to_libgcc(count, site);
    mine->busy = 0;
}

/*
 * What is known again must have been the same walk; what is not is walked anew,
 * with notes, and left for libgcc to be compared with.
 */
static unsigned hold_to_memo(unsigned count, unsigned long site)
{
    hl_walker *walker = mine->walker;
    unsigned how = walker->how, walk = walker->walk;
    unsigned long known = hl_unwind_known(walker, (uint64_t)site, 7, walk);
    if (known) {
        const unsigned long *kept = mine->kept + known;
        __atomic_fetch_add(&remembered, 1, __ATOMIC_RELAXED);
        if ((kept[0] != how || kept[1] != count || memcmp(kept + 2, walker->frames, count * sizeof *kept) != 0) &&
            __atomic_fetch_add(&different, 1, __ATOMIC_RELAXED) < 5) {
            say("how %u, remembered %lu\n", how, kept[0]);
            show("walked    ", walker->frames, count);
            show("remembered", kept + 2, (unsigned)kept[1]);
        }
        return count;
    }
    if (walker->how != HL_WALK_TORN && mine->kept_words + 2 + walker->count <= KEPT_WORDS) {
        unsigned long *kept = mine->kept + mine->kept_words;
        kept[0] = walker->how;
        kept[1] = walker->count;
        memcpy(kept + 2, walker->frames, walker->count * sizeof *kept);
        hl_unwind_keep(walker, site, 7, (uint32_t)mine->kept_words);
        mine->kept_words += 2 + walker->count;
    }
    return walker->count;
}

static void hold_to_libgcc(unsigned count, unsigned long site)
{
    mine->count = 0;
    _Unwind_Backtrace(add, mine);
    unsigned first = 0;
    while (first < mine->count && mine->frames[first] != site)
        first++;
    unsigned how = mine->walker->how & 3;
    if (how != HL_WALK_TORN && !same(mine->walker, count, mine->frames + first, mine->count - first) &&
        __atomic_fetch_add(&different, 1, __ATOMIC_RELAXED) < 5) {
        say("how %u\n", mine->walker->how);
        show("ours  ", mine->walker->frames, count);
        show("theirs", mine->frames + first, mine->count - first);
        char maps[8192];
        int file = open("/proc/self/maps", O_RDONLY);
        for (ssize_t got; (got = read(file, maps, sizeof maps - 1)) > 0;)
            say("%.*s", (int)got, maps);
        close(file);
    }
}

#define CHECK()                                                          \
    do {                                                                 \
        if (ready)                                                       \
            compare((unsigned long)__builtin_return_address(0));         \
    } while (0)

void unwind_check(void);
EXPORT void unwind_check(void)
{
    CHECK();
}

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

EXPORT void *malloc(size_t bytes)
{
    CHECK();
    return __libc_malloc(bytes);
}

EXPORT void *calloc(size_t count, size_t bytes)
{
    CHECK();
    return __libc_calloc(count, bytes);
}

EXPORT void *realloc(void *block, size_t bytes)
{
    CHECK();
    return __libc_realloc(block, bytes);
}
