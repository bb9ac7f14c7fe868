/*
 * Takes 5,000 blocks through a library, 1,000 itself, and kills itself.
 *
 * expect: outcome=signal:SIGKILL processes=1
 * expect: library=libkilled_library.so allocated_blocks=5000 freed_blocks=0 live_blocks=5000 live_bytes=5000*u(300)
 * expect: site=library_take allocated_blocks=5000 live_blocks=5000 requested_bytes=5000*300
 * expect: site=main_take allocated_blocks=1000 live_blocks=1000 live_bytes=1000*u(100)
 * expect: side=c allocated_blocks=6000 live_blocks=6000 live_bytes=5000*u(300)+1000*u(100)
 */
#include "program.h"

extern void *library_take(void);

SITE void *main_take(void)
{
    return opaque(malloc(100));
}

int main(void)
{
    for (int i = 0; i < 1000; i++) {
        main_take();
        for (int j = 0; j < 5; j++)
            library_take();
    }
    say(1, "6000 blocks\n");
    kill(getpid(), SIGKILL);
}
