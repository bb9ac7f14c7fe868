/*
 * lifetimes.h: how long sampled blocks live.
 */
#ifndef HL_LIFETIMES_H
#define HL_LIFETIMES_H

#include <stdbool.h>
#include <stdint.h>

#include "ledger.h"

#pragma GCC visibility push(hidden)

/* Takes pages for them in a new ledger; where there are none, no lives are kept. Chooses the clock if told to. */
void hl_lifetimes_begin(bool choose);

/* Now, by the chosen clock: a date of birth. */
uint64_t hl_now_ns(void);

/* Books the end of a sampled block's life; `blocks` is how many it stands for, HL_WEIGHT_BLOCK each. */
void hl_lifetime_end(hl_sampled *row, uint64_t born_ns, uint64_t blocks);

#pragma GCC visibility pop

#endif
