/*
 * Blocks whose stacks tell exactly what became of them: two callers leak through one
 * function, a peak is held and let go, and what one place asks for it frees at once.
 *
 *     exact_figures            ends then
 *     exact_figures kill       is killed then
 *     exact_figures fork       a child frees half of what it inherited, and keeps what it asks for
 *     exact_figures threads    two threads do the same at once
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=keep live_blocks=30 live_bytes=30*u(5000)
 * expect: site=hold allocated_blocks=100 live_blocks=0
 * expect: site=fleeting allocated_blocks=1000 freed_blocks=1000
 */
#include "program.h"

#define AFTER() __asm__ volatile("" ::: "memory") /* no tail call */
#define HELD 100

static void *kept[60];

SITE void *keep(void)
{
    void *block = opaque(malloc(any(5000))); /* here: keep */
    AFTER();
    return block;
}

SITE void *hold(void)
{
    void *block = opaque(malloc(any(100000))); /* here: hold */
    AFTER();
    return block;
}

SITE void fleeting(void)
{
    void *block = opaque(malloc(any(200))); /* here: fleeting */
    free(block);
    AFTER();
}

/* Not at once: something is asked for in between. */
SITE void lasting(void)
{
    void *block = opaque(malloc(any(300))), *other = opaque(malloc(any(400)));
    free(block);
    free(other);
    AFTER();
}

SITE void before(void **to)
{
    for (int i = 0; i < 10; i++)
        to[i] = keep(); /* here: before */
    AFTER();
}

SITE void after(void **to)
{
    for (int i = 0; i < 20; i++)
        to[i] = keep(); /* here: after */
    AFTER();
}

static void *work(void *to)
{
    void **blocks = to, *held[HELD];
    before(blocks);
    for (int i = 0; i < HELD; i++)
        held[i] = hold();
    for (int i = 0; i < HELD; i++)
        free(held[i]);
    after(blocks + 10);
    for (int i = 0; i < 1000; i++)
        fleeting();
    for (int i = 0; i < 500; i++)
        lasting();
    return NULL;
}

int main(int count, char **words)
{
    const char *word = count > 1 ? words[1] : "";
    if (strcmp(word, "threads") == 0) {
        pthread_t one = start_thread(work, kept), other = start_thread(work, kept + 30);
        REQUIRE(pthread_join(one, NULL) == 0 && pthread_join(other, NULL) == 0);
        return 0;
    }
    work(kept);
    if (strcmp(word, "kill") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(word, "fork") == 0) {
        pid_t child = fork();
        if (child == 0) {
            for (int i = 0; i < 15; i++)
                free(kept[i]);
            before(kept);
            _exit(0);
        }
        REQUIRE(child > 0 && waitpid(child, NULL, 0) == child);
    }
    return 0;
}
