/* standin.h: see standin.c. */
#ifndef HEAPLEDGER_GO_STANDIN_H
#define HEAPLEDGER_GO_STANDIN_H

#include "../../heapledger.h"

struct standin_claims {
    int count;
    const char *names[64];
    int64_t claimed_bytes[64];
};

void standin_set_absent(int absent);
void standin_set_level(uint32_t level);
size_t standin_asked_bytes(void);
int standin_registered(void);
/* Calls all that are registered; 0 within_ns: without a deadline. */
void standin_cleanup(uint32_t number, int64_t target_bytes, int64_t within_ns, struct standin_claims *claims);
/* The same in a forked child; gives how many were called. */
int standin_cleanup_in_child(void);

#endif
