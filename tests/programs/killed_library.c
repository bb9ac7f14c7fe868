/* Library of killed.c. */
#include "program.h"

SITE void *library_take(void)
{
    return opaque(malloc(300));
}
