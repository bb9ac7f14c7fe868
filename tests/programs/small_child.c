/* A child of untracked_children.c, built twice. It stays for a moment, as a
 * program that does something would; with AT_ONCE it does not. */
#include "program.h"

#include <time.h>

int main(void)
{
    for (int i = 0; i < 100; i++)
        opaque(malloc(24));
#ifndef AT_ONCE
    struct timespec moment = { .tv_nsec = 100 * 1000 * 1000 };
    nanosleep(&moment, NULL);
#endif
    say(1, "child\n");
}
