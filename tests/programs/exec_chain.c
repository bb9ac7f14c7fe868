/*
 * Item 29. One process becomes another program, twice: each image has a ledger
 * of its own, and the old ones end with outcome exec.
 *
 * expect: processes=3
 * expect: in=image_one outcome=exec
 * expect: in=image_one site=image_one allocated_blocks=100 live_blocks=100 live_bytes=100*u(24)
 * expect: in=image_two outcome=exec
 * expect: in=image_two site=image_two allocated_blocks=200 live_blocks=200 live_bytes=200*u(24)
 * expect: in=image_three outcome=exit:3
 * expect: in=image_three site=image_three allocated_blocks=300 live_blocks=300 live_bytes=300*u(24)
 */
#include "program.h"

#define IMAGE(name, count)                  \
    SITE void name(void)                    \
    {                                       \
        for (int i = 0; i < count; i++)     \
            opaque(malloc(24));             \
    }
IMAGE(image_one, 100)
IMAGE(image_two, 200)
IMAGE(image_three, 300)

int main(int argc, char **argv)
{
    extern char **environ;
    char *next[] = { argv[0], (char *)(argc == 1 ? "2" : "3"), NULL };
    if (argc == 1)
        image_one();
    else if (argv[1][0] == '2')
        image_two();
    else {
        image_three();
        say(1, "third image\n");
        return 3;
    }
    execve("/proc/self/exe", next, environ);
    return 98;
}
