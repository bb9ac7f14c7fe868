/* A child of untracked_children.c, built twice. It stays for a moment, as a
 * program that does something would. */
#include "program.h"

#include <time.h>

int main(void)
{
    struct timespec moment = { .tv_nsec = 100 * 1000 * 1000 };
    for (int i = 0; i < 100; i++)
        opaque(malloc(24));
    nanosleep(&moment, NULL);
    say(1, "child\n");
}
