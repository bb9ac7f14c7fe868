/*
 * Item 23. Five thousand call sites make the tables grow, wherever the ledger
 * lies: where it finds no room the sums are still exact.
 *
 * expect: outcome=exit:0 processes=1
 * expect: side=c allocated_blocks=10000 allocated_bytes=10000*u(24) requested_bytes=10000*24
 * expect: side=c freed_blocks=5000 live_blocks=5000 live_bytes=5000*u(24)
 * expect: losses.foreign_frees=0
 */
#include "program.h"
#include "sites.h"

static void *blocks[5000];

SITE void five_thousand_sites(void)
{
    void **at = blocks;
    THOUSAND_TIMES(*at++ = malloc(24); *at++ = malloc(24); *at++ = malloc(24); *at++ = malloc(24); *at++ = malloc(24);)
}

int main(int argc, char **argv)
{
    five_thousand_sites();
    for (int i = 0; i < 5000; i++)
        free(blocks[i]);
    five_thousand_sites();
    if (argc == 1)
        expect("site=five_thousand_sites rows=5000 allocated_blocks=10000 live_blocks=5000 live_bytes=5000*u(24) "
               "losses.owners_overflowed=0");
    say(1, "%s\n", argc == 1 ? "room for all" : argv[1]);
}
