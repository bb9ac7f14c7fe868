/*
 * Near a limit of address space one thread takes much room and gives it back, again
 * and again, while another allocates, more than there is room for the stacks of. What
 * it could take bare it can take with us, however often it is asked how much is left.
 * Built plain, it is killed if that is asked by taking room; built with -DCAGED it
 * asks for prctl, as programs do that make sandboxes, and takes its room by malloc.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=worker_alloc allocated_blocks=1200000 freed_blocks=1200000 live_bytes=0
 */
#include "program.h"
#include "sites.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#define MIB ((size_t)1 << 20)
#define ROUNDS 3
#define BLOCKS 400000
#if defined(RACES_H)
#define ROOM (800 * MIB) /* the sanitizer takes some as it goes */
#elif defined(CAGED)
#define ROOM (180 * MIB) /* mapped blocks cost parts of the owner map */
#else
#define ROOM (140 * MIB) /* the worker's blocks, what is taken, and less than their stacks need */
#endif

static _Atomic int done;

SITE void *worker_alloc(size_t bytes)
{
    void *block = malloc(bytes);
    __asm__ volatile("" ::: "memory"); /* no tail call */
    return block;
}

static void *worker(void *unused)
{
    static void *blocks[BLOCKS];
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < BLOCKS; i++)
            REQUIRE(blocks[i] = opaque(worker_alloc(40 + i % 100)));
        for (int i = 0; i < BLOCKS; i++)
            free(blocks[i]);
        malloc_trim(0);
    }
    atomic_store(&done, 1);
    return unused;
}

#if defined(CAGED)
static void forbid_trials(void)
{
    REQUIRE(prctl(PR_GET_DUMPABLE) == 1);
}

static void *take(size_t bytes)
{
    return malloc(bytes);
}

static void give_back(void *room, size_t bytes)
{
    (void)bytes;
    free(room);
}
#else
/* By the call itself: whoever asks for prctl by name is taken for one that makes a sandbox. */
static void forbid_trials(void)
{
#define WORD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IS(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
    struct sock_filter steps[] = {
        WORD(nr),
        IS(SYS_mmap, 0, 4),
        WORD(args[2]),
        IS(PROT_NONE, 0, 2),
        WORD(args[3]),
        IS(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog filter = { sizeof steps / sizeof *steps, steps };
    REQUIRE(syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    REQUIRE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) == 0);
}

static void *take(size_t bytes)
{
    void *room = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return room == MAP_FAILED ? NULL : room;
}

static void give_back(void *room, size_t bytes)
{
    munmap(room, bytes);
}
#endif

int main(void)
{
    mallopt(M_ARENA_MAX, 1); /* a second arena alone reserves 128 MiB */
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    forbid_trials();
    char text[256] = "";
    int file = open("/proc/self/statm", O_RDONLY);
    REQUIRE(file >= 0 && read(file, text, sizeof text - 1) > 0);
    close(file);
    struct rlimit tight = { strtoul(text, NULL, 10) * 4096 + ROOM, RLIM_INFINITY };
    REQUIRE(setrlimit(RLIMIT_AS, &tight) == 0);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 << 10);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, &attributes, worker, NULL) == 0);
    do {
        void *room = opaque(take(any(70 * MIB)));
        REQUIRE(room != NULL);
        give_back(room, 70 * MIB);
    } while (!atomic_load(&done));
    pthread_join(thread, NULL);
    say(1, "found room each time\n");
    return 0;
}
