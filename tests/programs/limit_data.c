/*
 * What can be written is limited (RLIMIT_DATA), to 3 MiB or as many as it is told above
 * what there is: two thirds of that are the program's in small blocks, and are there
 * with us as bare. With the word "exec" it sets the limit and begins anew, as a shell's
 * ulimit does; our tables find it there then.
 *
 * expect: outcome=exit:0
 * expect: losses.foreign_frees=0
 */
#include "program.h"

static rlim_t data_bytes(void)
{
    char text[256] = "";
    unsigned long pages[6];
    int file = open("/proc/self/statm", O_RDONLY);
    REQUIRE(file >= 0 && read(file, text, sizeof text - 1) > 0);
    close(file);
    char *at = text;
    for (int i = 0; i < 6; i++)
        pages[i] = strtoul(at, &at, 10);
    return pages[5] * 4096;
}

static void limit_to(rlim_t bytes)
{
    struct rlimit limit = { bytes, RLIM_INFINITY };
    REQUIRE(setrlimit(RLIMIT_DATA, &limit) == 0);
}

int main(int argc, char **argv)
{
    extern char **environ;
    size_t bytes = strtoul(argc > 1 ? argv[1] : "3", NULL, 10) << 20;
    char *again[] = { argv[0], argv[1], (char *)"set", NULL };
    const char *word = argc > 2 ? argv[2] : "";
    if (strcmp(word, "set") != 0)
        limit_to(data_bytes() + bytes);
    if (strcmp(word, "exec") == 0) {
        execve("/proc/self/exe", again, environ);
        return 98;
    }
    size_t taken = 0, refused = 0;
    for (; taken < bytes / 3 * 2; taken += 1000)
        if (!opaque(malloc(any(1000))))
            refused++;
    REQUIRE(refused == 0);
    say(1, "enough to write to\n");
    return 0;
}
