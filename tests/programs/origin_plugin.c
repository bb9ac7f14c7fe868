/*
 * Item 9. A program opens its plugin by $ORIGIN, and by a bare name that only
 * its own run path leads to: both look at who calls dlopen.
 *
 * expect: outcome=exit:0 processes=1
 * expect: library=liborigin_by_path.so allocated_blocks=70 live_blocks=70 live_bytes=70*u(33)
 * expect: library=liborigin_by_name.so allocated_blocks=70 live_blocks=70 live_bytes=70*u(33)
 */
#include "program.h"

static void serve(const char *name)
{
    void *plugin = dlopen(name, RTLD_NOW);
    if (plugin == NULL)
        say(1, "%s\n", dlerror());
    REQUIRE(plugin != NULL);
    ((void (*)(void))dlsym(plugin, "plugin_work"))();
}

int main(void)
{
    serve("$ORIGIN/plugins/liborigin_by_path.so");
    serve("liborigin_by_name.so");
    say(1, "two plugins\n");
}
