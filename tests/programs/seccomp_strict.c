/*
 * Item 26. SECCOMP_MODE_STRICT allows read, write, exit and sigreturn; any other
 * system call kills. The loop allocates at a site it had before and, when told
 * `new`, at sites it did not have.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=strict_alloc allocated_blocks=100001 freed_blocks=100001 live_blocks=0
 */
#include "program.h"
#include "sites.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>

SITE void *strict_alloc(size_t size)
{
    return opaque(malloc(size));
}

SITE void new_sites(void)
{
    HUNDRED_TIMES(opaque(malloc(24));)
}

int main(int argc, char **argv)
{
    int fresh = argc == 2 && strcmp(argv[1], "new") == 0;
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    mallopt(M_TOP_PAD, 16 << 20);
    free(strict_alloc(100));
    if (fresh)
        expect("site=new_sites allocated_blocks=100 live_blocks=100 live_bytes=100*u(24)");
    REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    for (size_t i = 0; i < 100000; i++)
        free(strict_alloc(1 + i % 4000));
    if (fresh)
        new_sites();
    REQUIRE(write(1, "strict\n", 7) == 7);
    syscall(SYS_exit, 0);
}
