/* Plugin of deepbind.c. */
#include "program.h"

char *plugin_asprintf(int number)
{
    char *text = NULL;
    return asprintf(&text, "%d, a number with words behind it", number) < 0 ? NULL : text;
}

SITE void *plugin_malloc(void)
{
    return opaque(malloc(1000));
}
