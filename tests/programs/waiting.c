/*
 * Items 27 and the kills. Says that it is ready, then waits for its standard
 * input to end, so that others can look at its ledger or kill somebody.
 *
 * expect: site=waiting_alloc allocated_blocks=1000 live_blocks=1000 live_bytes=1000*u(200)
 */
#include "program.h"

SITE void waiting_alloc(void)
{
    for (int i = 0; i < 1000; i++)
        opaque(malloc(200));
}

int main(void)
{
    waiting_alloc();
    say(1, "ready %d\n", (int)getpid());
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    say(1, "done\n");
}
