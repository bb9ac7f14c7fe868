/*
 * Item 8. A plugin opened with RTLD_DEEPBIND calls libc's malloc past us: not
 * counted, but harmless. What libc allocates for it is counted.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=plugin_malloc allocated_blocks=0
 * expect: site=main_alloc allocated_blocks=300 live_blocks=300 live_bytes=300*u(80)
 * expect: library=libc.so.6 live_blocks=10
 * expect: losses.foreign_frees=100
 */
#include "program.h"

SITE void main_alloc(void)
{
    for (int i = 0; i < 300; i++)
        opaque(malloc(80));
}

int main(int argc, char **argv)
{
    REQUIRE(argc == 2);
    void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_DEEPBIND);
    REQUIRE(plugin != NULL);
    char *(*make_text)(int) = (char *(*)(int))dlsym(plugin, "plugin_asprintf");
    void *(*make_block)(void) = (void *(*)(void))dlsym(plugin, "plugin_malloc");
    unsigned long live = 0;
    for (int i = 0; i < 100; i++) {
        char *text = make_text(i);
        REQUIRE(text != NULL && atoi(text) == i);
        if (i < 90)
            free(text);
        else
            live += malloc_usable_size(text);
        free(make_block());
    }
    main_alloc();
    expect("library=libc.so.6 live_bytes=%lu", live);
    say(1, "plugin served\n");
}
