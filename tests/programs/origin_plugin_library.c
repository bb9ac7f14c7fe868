/* Plugin of origin_plugin.c. */
#include "program.h"

void plugin_work(void)
{
    for (int i = 0; i < 70; i++)
        opaque(malloc(33));
}
