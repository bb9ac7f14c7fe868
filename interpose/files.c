/*
 * files.c: reading small files of the kernel's.
 */
#include "sys.h"

#define O_CLOEXEC_ 02000000
#define AT_FDCWD_ (-100)

long hl_open(const char *path)
{
    return HL_SYS4(SYS_openat, AT_FDCWD_, path, O_CLOEXEC_, 0);
}

long hl_read_file(const char *path, char *into, size_t room)
{
    long file = hl_open(path);
    if (hl_sys_failed(file))
        return file;
    size_t have = 0;
    while (have < room) {
        long got = HL_SYS3(SYS_read, file, into + have, room - have);
        if (got <= 0)
            break;
        have += (size_t)got;
    }
    HL_SYS1(SYS_close, file);
    return (long)have;
}
