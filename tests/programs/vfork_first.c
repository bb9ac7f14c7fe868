/*
 * Items 15 and 16. The first to allocate on a thread is its vfork child. The
 * child is gone when the thread goes on, but the counters are still the
 * thread's: no other thread may take them for a dead one's.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=churn allocated_blocks=24*200000 freed_blocks=24*200000 live_blocks=0
 * expect: site=in_vfork_child allocated_blocks=12 freed_blocks=12
 * expect: losses.foreign_frees=0
 */
#include "program.h"

#define THREADS 24

static pthread_barrier_t all_there;

SITE void in_vfork_child(void)
{
    free(opaque(malloc(10)));
}

SITE void churn(void)
{
    for (int i = 0; i < 200000; i++)
        free(opaque(malloc(40)));
}

static void *body(void *is_first)
{
    if (is_first) {
        pid_t child = vfork();
        if (child == 0) {
            in_vfork_child();
            _exit(0);
        }
        int status;
        REQUIRE(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    }
    pthread_barrier_wait(&all_there);
    churn();
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    REQUIRE(pthread_barrier_init(&all_there, NULL, THREADS) == 0);
    for (int i = 0; i < THREADS; i++)
        threads[i] = start_thread(body, i < THREADS / 2 ? threads : NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    say(1, "churned\n");
}
