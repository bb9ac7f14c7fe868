/* Library of startup_ifunc.c: allocates while the linker is still relocating. */
#include "program.h"

static int picked(void)
{
    return 42;
}

SITE void *resolver_realloc(void *block)
{
    return opaque(realloc(block, 300));
}

SITE void ifunc_resolver(void)
{
    for (int i = 0; i < 10; i++) {
        void *grown = malloc(50), *freed = malloc(60);
        opaque(malloc(70));
        memset(opaque(grown), 'x', 50);
        char *moved = resolver_realloc(grown);
        REQUIRE(moved[0] == 'x' && moved[49] == 'x');
        free(opaque(freed));
    }
}

static int (*resolve(void))(void)
{
    ifunc_resolver();
    return picked;
}

int picked_at_relocation(void) __attribute__((ifunc("resolve")));

#ifdef SELF_REFERENCE
/* A call within the library: the linker resolves it while it relocates this very
 * library, which is before it relocates any preload. */
static int picked_before_preloads(void) __attribute__((ifunc("resolve")));

int own_call(void)
{
    return picked_before_preloads();
}
#endif

__attribute__((constructor)) SITE void library_constructor(void)
{
    for (int i = 0; i < 100; i++) {
        opaque(malloc(100));
        free(opaque(calloc(1, 200)));
    }
}
