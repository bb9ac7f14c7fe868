/*
 * Allocates nothing: tracked, and nothing in the books.
 *
 * expect: outcome=exit:9 processes=1
 * expect: side=c allocated_blocks=0 live_bytes=0
 */
#include "program.h"

int main(void)
{
    say(1, "nothing\n");
    return 9;
}
