/*
 * watchers.c: the eventfds of hl_pressure_fd.
 *
 * The descriptor is the program's, which may close it and open something else
 * under its number at any time. So nothing is written before /proc says that
 * what is behind the number is the eventfd that was made, and then to a
 * duplicate that no longer depends on the number.
 */
#include "api.h"

#define EFD_FLAGS (02000000 /* EFD_CLOEXEC */ | 04000 /* EFD_NONBLOCK */)
#define F_DUPFD_CLOEXEC_ 1030

/* "eventfd-id: 7" since Linux 5.2; before, every eventfd is number 1. 0: not an eventfd, or no /proc. */
static uint64_t identifier_of(int file)
{
    char path[48] = "/proc/thread-self/fdinfo/";
    size_t end = hl_length(path);
    char digits[10];
    size_t length = 0;
    for (uint32_t rest = (uint32_t)file; rest || !length; rest /= 10)
        digits[length++] = (char)('0' + rest % 10);
    while (length)
        path[end++] = digits[--length];
    path[end] = 0;
    char text[512];
    long bytes = hl_read_file(path, text, sizeof text);
    uint64_t identifier = 0;
    for (long at = 0; at + 13 < bytes; at++) {
        if (hl_same_bytes(text + at, "eventfd-count", 13))
            identifier = 1;
        if (!hl_same_bytes(text + at, "eventfd-id:", 11))
            continue;
        for (at += 11; at < bytes && text[at] != '\n'; at++)
            if (text[at] >= '0' && text[at] <= '9')
                identifier = identifier * 10 + (uint64_t)(text[at] - '0');
        break;
    }
    return identifier;
}

/* Makes room where the program closed what was there. */
static bool note(int file, uint64_t identifier)
{
    hl_transient *now = hl_transient_now();
    for (uint32_t i = 0; i < HL_WATCHERS; i++) {
        int there = now->watchers[i].number - 1;
        if (there >= 0 && there != file && identifier_of(there) == now->watchers[i].identifier)
            continue;
        now->watchers[i].number = file + 1;
        now->watchers[i].identifier = identifier;
        return true;
    }
    return false;
}

int hl_watcher_open(void)
{
    long file = HL_SYS2(SYS_eventfd2, 0, EFD_FLAGS);
    if (hl_sys_failed(file))
        return -1;
    uint64_t identifier = identifier_of((int)file);
    uint64_t mask = hl_pressure_lock();
    bool noted = identifier && note((int)file, identifier);
    hl_pressure_unlock(mask);
    if (noted)
        return (int)file;
    HL_SYS1(SYS_close, file);
    return -1;
}

static bool signal_one(int file, uint64_t identifier)
{
    if (identifier_of(file) != identifier)
        return false;
    long copy = HL_SYS3(SYS_fcntl, file, F_DUPFD_CLOEXEC_, 3);
    if (hl_sys_failed(copy))
        return true; /* no descriptor is free now; it stays */
    uint64_t one = 1;
    bool same = identifier_of((int)copy) == identifier;
    if (same)
        HL_SYS3(SYS_write, copy, &one, sizeof one);
    HL_SYS1(SYS_close, copy);
    return same;
}

void hl_do_pressure_signal(void)
{
    hl_transient *now = hl_transient_now();
    for (uint32_t i = 0; i < HL_WATCHERS; i++) {
        uint64_t mask = hl_pressure_lock();
        if (now->watchers[i].number && !signal_one(now->watchers[i].number - 1, now->watchers[i].identifier))
            now->watchers[i].number = 0;
        hl_pressure_unlock(mask);
    }
}
