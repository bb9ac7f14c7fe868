//go:build linux

/*
 * mailbox.c: a reclaimer of the ledger's whose work is done by a goroutine.
 *
 * The ledger calls reclaimers on a thread of its own, with a small stack and
 * signals blocked. It could call into Go from there; it does not, so that it
 * never waits for Go's scheduler without a way out, and a goroutine, which
 * can be moved and preempted, does the work.
 */
#define _GNU_SOURCE
#include "mailbox.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* How long the ledger's thread waits where it was given no deadline: longer than any collection that is worth it. */
#define PATIENCE_NS 10000000000

/* What a reclaimer claims that cannot tell. */
#define UNKNOWN (-1)

enum state {
    IDLE,
    ASKED,  /* a request waits to be taken */
    TAKEN,  /* the goroutine is at it */
    CLOSED,
};

struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum state state;
    int file;
    pid_t process;
    uint64_t handle;
    struct hl_reclaim_request request;
    uint64_t answers; /* given so far */
    int64_t claimed_bytes;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Of the time until a deadline a tenth is left for the way back. */
static int64_t wait_until_ns(int64_t deadline_ns)
{
    int64_t now = now_ns();
    return deadline_ns ? now + (deadline_ns - now) / 10 * 9 : now + PATIENCE_NS;
}

/*
 * Under the lock: until the answer is there, the mailbox closed or the time up.
 * A request that nobody waits for any more is carried out all the same.
 */
static int64_t await(mailbox *box, int64_t until_ns)
{
    struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
    uint64_t before = box->answers;
    int late = 0;
    while (box->answers == before && box->state != CLOSED && !late)
        late = pthread_cond_timedwait(&box->changed, &box->lock, &until) != 0;
    return box->answers != before ? box->claimed_bytes : UNKNOWN;
}

static int64_t reclaim(void *context, const struct hl_reclaim_request *request)
{
    mailbox *box = context;
    if (getpid() != box->process)
        return 0; /* a forked child has no goroutines, and the eventfd is its parent's */
    int64_t until_ns = wait_until_ns((int64_t)request->deadline_mono_ns);
    int64_t claimed_bytes = UNKNOWN;
    uint64_t one = 1;
    pthread_mutex_lock(&box->lock);
    /* One that outlasted its deadline is still at work: nothing would come of asking again. */
    if (box->state == IDLE) {
        box->request = *request;
        box->state = ASKED;
        if (write(box->file, &one, sizeof one) == sizeof one)
            claimed_bytes = await(box, until_ns);
        else
            box->state = IDLE;
    }
    pthread_mutex_unlock(&box->lock);
    return claimed_bytes;
}

static void prepare(mailbox *box)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&box->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&box->lock, NULL);
    box->process = getpid();
}

mailbox *mailbox_open(const char *name, uint32_t priority)
{
    mailbox *box = hl_register && hl_unregister ? calloc(1, sizeof *box) : NULL;
    if (!box)
        return NULL;
    prepare(box);
    box->file = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct hl_reclaimer reclaimer = {sizeof reclaimer, name, priority, 0, reclaim, box};
    /* A request may come before the handle is stored; only closing reads it. */
    box->handle = box->file >= 0 ? hl_register(&reclaimer) : 0;
    if (box->handle)
        return box;
    if (box->file >= 0)
        close(box->file);
    mailbox_free(box);
    return NULL;
}

int mailbox_file(const mailbox *box)
{
    return box->file;
}

int mailbox_take(mailbox *box, struct mailbox_request *request)
{
    pthread_mutex_lock(&box->lock);
    int asked = box->state == ASKED;
    if (asked) {
        int64_t deadline_ns = (int64_t)box->request.deadline_mono_ns;
        int64_t remaining_ns = deadline_ns - now_ns();
        *request = (struct mailbox_request){
            .number = box->request.number,
            .level = box->request.level,
            .target_bytes = box->request.target_bytes,
            .remaining_ns = deadline_ns ? remaining_ns ? remaining_ns : -1 : 0,
        };
        box->state = TAKEN;
    }
    pthread_mutex_unlock(&box->lock);
    return asked;
}

void mailbox_answer(mailbox *box, int64_t claimed_bytes)
{
    pthread_mutex_lock(&box->lock);
    if (box->state == TAKEN) {
        box->state = IDLE;
        box->claimed_bytes = claimed_bytes;
        box->answers++;
        pthread_cond_broadcast(&box->changed);
    }
    pthread_mutex_unlock(&box->lock);
}

void mailbox_close(mailbox *box)
{
    pthread_mutex_lock(&box->lock);
    box->state = CLOSED;
    pthread_cond_broadcast(&box->changed);
    pthread_mutex_unlock(&box->lock);
    hl_unregister(box->handle); /* waits for a call in flight, which has just been let go */
}

void mailbox_free(mailbox *box)
{
    pthread_cond_destroy(&box->changed);
    pthread_mutex_destroy(&box->lock);
    free(box);
}

int ledger_snapshot(struct hl_books *books)
{
    books->bytes = sizeof *books;
    return hl_snapshot ? hl_snapshot(books) : -1;
}

uint32_t ledger_level(void)
{
    return HEAPLEDGER_PRESSURE_LEVEL();
}

int ledger_pressure_fd(void)
{
    return HEAPLEDGER_PRESSURE_FD();
}

int ledger_request_cleanup(uint64_t target_bytes)
{
    return HEAPLEDGER_REQUEST_CLEANUP((size_t)target_bytes);
}
