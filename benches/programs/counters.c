/* See entries.c. */
#define COUNTERS
#include "entries.c"
