/* Thousands of distinct call sites, generated. */
#ifndef SITES_H
#define SITES_H

#define TEN_TIMES(x) x x x x x x x x x x
#define HUNDRED_TIMES(x) TEN_TIMES(TEN_TIMES(x))
#define THOUSAND_TIMES(x) TEN_TIMES(HUNDRED_TIMES(x))

#endif
