/*
 * mailbox.h: where the ledger's thread leaves a request for a goroutine.
 */
#ifndef HEAPLEDGER_GO_MAILBOX_H
#define HEAPLEDGER_GO_MAILBOX_H

#define HEAPLEDGER_WEAK
#include "heapledger.h"

typedef struct mailbox mailbox;

struct mailbox_request {
    uint32_t number;
    uint32_t level;
    int64_t target_bytes;
    int64_t remaining_ns; /* until the deadline; 0: none, negative: past */
};

/* NULL: no ledger is kept, or it has no room, or nothing more can be opened. `name` is copied. */
mailbox *mailbox_open(const char *name, uint32_t priority);

/* Readable when there is a request: non-blocking, and the caller's to close. */
int mailbox_file(const mailbox *box);

/* Takes the request that waits; 0: none does. */
int mailbox_take(mailbox *box, struct mailbox_request *request);

/* Ends what mailbox_take began. */
void mailbox_answer(mailbox *box, int64_t claimed_bytes);

/* No request comes any more when it returns; it does not wait for an answer. */
void mailbox_close(mailbox *box);

/* After mailbox_close, once nobody takes or answers. */
void mailbox_free(mailbox *box);

int ledger_snapshot(struct hl_books *books);
uint32_t ledger_level(void);
int ledger_pressure_fd(void);
int ledger_request_cleanup(uint64_t target_bytes);

#endif
