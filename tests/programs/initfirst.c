/*
 * Item 2. A library linked with -z initfirst allocates in its constructor,
 * which runs before every other one.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=initfirst_constructor allocated_blocks=100 live_blocks=60 live_bytes=60*u(24) freed_blocks=40
 * expect: library=libinitfirst_library.so allocated_blocks=100 requested_bytes=2400
 * expect: side=c allocated_blocks=100
 */
#include "program.h"

extern int initfirst_blocks(void);

int main(void)
{
    say(1, "%d blocks\n", initfirst_blocks());
}
