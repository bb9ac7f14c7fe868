/*
 * A program whose clean-ups are driven from outside. Its arguments are done one
 * after the other; tests/run_pressure.rs says which, and what its ledger is then.
 * Apart from what they name it allocates nothing.
 */
#include "program.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define HEAPLEDGER_WEAK
#include <heapledger.h>

#define MIB ((size_t)1 << 20)

static void *blocks[512];
static volatile sig_atomic_t asked; /* how often it was told to free something */
static enum { FREES, KEEPS, HANGS, DIES, STOPS, COLLECTS } manner;
static int64_t claim;

/*
 * The block whose malloc crosses the threshold is not noted yet when the clean-up
 * that it brings about may begin already: it waits until all are.
 */
static pthread_mutex_t holding = PTHREAD_MUTEX_INITIALIZER;

static sigset_t begin(void)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&holding);
    return before;
}

static void end(sigset_t before)
{
    pthread_mutex_unlock(&holding);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

SITE static void hold(int count)
{
    size_t bytes = 0;
    sigset_t before = begin();
    for (int i = 0; i < count; i++) {
        blocks[i] = opaque(malloc(MIB));
        REQUIRE(blocks[i]);
        bytes += malloc_usable_size(blocks[i]);
    }
    end(before);
    say(1, "%zu\n", bytes);
}

/* In a signal's handler too: none runs while its thread is in malloc's family, or has the lock. */
SITE static void let_go(void)
{
    sigset_t before = begin();
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
    end(before);
}

static void on_signal(int signal)
{
    (void)signal;
    let_go();
    asked++;
}

static int64_t reclaim(void *context, const struct hl_reclaim_request *request)
{
    (void)context, (void)request;
    asked++;
    switch (manner) {
    case FREES:
    case COLLECTS:
        let_go();
        break;
    case KEEPS:
        break;
    case HANGS:
        for (;;)
            pause();
    case DIES:
        kill(getpid(), SIGKILL);
        break;
    case STOPS:
        kill(getpid(), SIGSTOP);
        break;
    }
    return claim;
}

static void enroll(const char *how)
{
    static const char *const names[] = {"frees", "keeps", "hangs", "dies", "stops", "collects"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(how, names[i]) == 0)
            manner = i;
    claim = manner == COLLECTS ? -1 : 300 * (int64_t)MIB;
    struct hl_reclaimer what = {sizeof what, how, HL_RECLAIM_CACHE, 0, reclaim, NULL};
    REQUIRE(HEAPLEDGER_REGISTER(&what));
}

static void pass_time(void)
{
    struct timespec pause = {0, 1000000};
    nanosleep(&pause, NULL);
}

/* ---- systemd's protocol, as a service follows it ---- */

static int told = -1;

static size_t decode(const char *text, unsigned char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0, have = 0;
    size_t bytes = 0;
    for (; *text && *text != '='; text++) {
        const char *digit = strchr(digits, *text);
        REQUIRE(digit);
        bits = bits << 6 | (uint32_t)(digit - digits);
        if ((have += 6) >= 8)
            out[bytes++] = (unsigned char)(bits >> (have -= 8));
    }
    return bytes;
}

static void listen_to_manager(void)
{
    const char *watch = getenv("MEMORY_PRESSURE_WATCH"), *first = getenv("MEMORY_PRESSURE_WRITE");
    REQUIRE(watch);
    if (strcmp(watch, "/dev/null") == 0)
        return say(1, "off\n");
    struct stat kind;
    REQUIRE(stat(watch, &kind) == 0 && S_ISSOCK(kind.st_mode));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    REQUIRE(strlen(watch) < sizeof address.sun_path);
    strcpy(address.sun_path, watch);
    told = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(told >= 0 && connect(told, (struct sockaddr *)&address, sizeof address) == 0);
    if (first) {
        unsigned char data[256];
        size_t bytes = decode(first, data);
        REQUIRE(write(told, data, bytes) == (ssize_t)bytes);
    }
}

/* Once: it reads and discards what made the socket readable, and frees. */
static void heed_manager(void)
{
    struct pollfd wait = {told, POLLIN, 0};
    REQUIRE(poll(&wait, 1, -1) == 1 && wait.revents == POLLIN);
    char discarded[64];
    REQUIRE(read(told, discarded, sizeof discarded) > 0);
    let_go();
}

static void was_not_told(void)
{
    struct pollfd wait = {told, POLLIN, 0};
    REQUIRE(poll(&wait, 1, 0) == 0);
}

/* ---- the arguments ---- */

static void wait_for_file(const char *path)
{
    while (access(path, F_OK) != 0)
        pass_time();
}

/* The child does the rest; the parent ends as it does, or goes on when it is stopped. */
static void begin_child(void)
{
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (!child)
        return;
    int status;
    REQUIRE(waitpid(child, &status, WUNTRACED) == child);
    if (told >= 0)
        was_not_told();
    _exit(WIFSTOPPED(status) ? 0 : WEXITSTATUS(status));
}

/* A session of its own, and nothing of ours open that somebody waits to see closed. */
static void leave_everybody(void)
{
    REQUIRE(setsid() == getpid());
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    REQUIRE(nothing >= 0);
    for (int file = 0; file < 3; file++)
        REQUIRE(dup2(nothing, file) == file);
    close(nothing);
}

/* The same program anew, with the rest of the arguments. */
static void become(char *program, char **rest)
{
    rest[0] = program;
    execv(program, rest);
    REQUIRE(!"execv");
}

int main(int count, char **arguments)
{
    for (char **at = arguments + 1; at < arguments + count; at++) {
        const char *what = *at;
        if (strcmp(what, "hold") == 0)
            hold(atoi(*++at));
        else if (strcmp(what, "handle") == 0)
            REQUIRE(signal(SIGUSR1, on_signal) != SIG_ERR);
        else if (strcmp(what, "register") == 0)
            enroll(*++at);
        else if (strcmp(what, "listen") == 0)
            listen_to_manager();
        else if (strcmp(what, "heed") == 0)
            heed_manager();
        else if (strcmp(what, "told") == 0)
            while (!asked)
                pass_time();
        else if (strcmp(what, "pressed") == 0)
            while (HEAPLEDGER_PRESSURE_LEVEL() == HL_LEVEL_CALM)
                pass_time();
        else if (strcmp(what, "calm") == 0)
            while (HEAPLEDGER_PRESSURE_LEVEL() != HL_LEVEL_CALM)
                pass_time();
        else if (strcmp(what, "once") == 0)
            REQUIRE(asked == 1);
        else if (strcmp(what, "ask") == 0)
            REQUIRE(HEAPLEDGER_REQUEST_CLEANUP(0) == 0);
        else if (strcmp(what, "file") == 0)
            wait_for_file(*++at);
        else if (strcmp(what, "free") == 0)
            let_go();
        else if (strcmp(what, "orphan") == 0) {
            say(1, "%s\n", getenv("HEAPLEDGER_DIR"));
            REQUIRE(kill(getppid(), SIGKILL) == 0);
        }
        else if (strcmp(what, "fork") == 0)
            begin_child();
        else if (strcmp(what, "daemon") == 0)
            leave_everybody();
        else if (strcmp(what, "exec") == 0)
            become(arguments[0], at);
        else
            REQUIRE(!"a known argument");
    }
    return 0;
}
