/*
 * An auditor, which the dynamic linker loads before anything else, and waits for: the
 * program that it is set on is there for a good while before any library of its own is.
 */
#include <time.h>

unsigned la_version(unsigned version);
unsigned la_version(unsigned version)
{
    struct timespec pause = {0, 500000000};
    nanosleep(&pause, NULL);
    return version;
}
