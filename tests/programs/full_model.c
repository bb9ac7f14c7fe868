/*
 * What mode full keeps, by random operations on four call sites beside a model of
 * the rules: a row is what its site allocated and freed; a block is temporary if
 * the next operation freed it; the peak is the first moment at which most was live,
 * and a realloc frees before it allocates. The program states each row itself, by
 * lines "SITE allocated-blocks bytes live-blocks bytes peak-blocks bytes temporary-blocks bytes",
 * and the most that was live.
 *
 *     full_model SEED OPERATIONS
 *
 * expect: outcome=exit:0 processes=1 losses.foreign_frees=0
 */
#include "program.h"

enum { SITES = 4, BLOCKS = 400 };

typedef struct row {
    long allocated[2], live[2], peak[2], temporary[2]; /* blocks, bytes */
} row;

static row rows[SITES];
static long live, most;
static void *last;

static struct {
    void *block;
    long bytes;
    int site;
} blocks[BLOCKS];

#define MALLOC_SITE(name)                              \
    SITE static void *name(void *block, size_t bytes)  \
    {                                                  \
        REQUIRE(!block);                               \
        return opaque(malloc(bytes));                  \
    }
MALLOC_SITE(model_small)
MALLOC_SITE(model_large)

SITE static void *model_zeroed(void *block, size_t bytes)
{
    REQUIRE(!block);
    return opaque(calloc(1, bytes));
}

SITE static void *model_moved(void *block, size_t bytes)
{
    return opaque(realloc(block, bytes));
}

static void *(*const allocate[SITES])(void *, size_t) = {model_small, model_large, model_zeroed, model_moved};

static void book(int site, void *block)
{
    long bytes = (long)malloc_usable_size(block);
    row *of = &rows[site];
    of->allocated[0]++, of->live[0]++;
    of->allocated[1] += bytes, of->live[1] += bytes;
    live += bytes;
    if (live > most) {
        most = live;
        for (int i = 0; i < SITES; i++)
            memcpy(rows[i].peak, rows[i].live, sizeof rows[i].peak);
    }
    last = block;
}

static void unbook(int site, void *block, long bytes)
{
    row *of = &rows[site];
    of->live[0]--;
    of->live[1] -= bytes;
    live -= bytes;
    if (block == last)
        of->temporary[0]++, of->temporary[1] += bytes;
    last = NULL;
}

static void operate(uint64_t *random, int grow)
{
    int at = (int)(next_random(random) % BLOCKS), site = (int)(next_random(random) % SITES);
    void *block = blocks[at].block;
    if (block && (site != 3 || next_random(random) % 2)) {
        unbook(blocks[at].site, block, blocks[at].bytes);
        free(block);
        blocks[at].block = NULL;
        return;
    }
    if (!block && !grow && next_random(random) % 3)
        return;
    size_t bytes = 1 + next_random(random) % (site == 1 ? 300000 : 2000);
    if (block)
        unbook(blocks[at].site, block, blocks[at].bytes);
    block = allocate[site](block, bytes);
    REQUIRE(block);
    book(site, block);
    blocks[at].block = block;
    blocks[at].bytes = (long)malloc_usable_size(block);
    blocks[at].site = site;
    if (next_random(random) % 4 == 0) {
        unbook(site, block, blocks[at].bytes);
        free(block);
        blocks[at].block = NULL;
    }
}

int main(int count, char **words)
{
    REQUIRE(count == 3);
    uint64_t random = 88172645463325252ull + strtoull(words[1], NULL, 10) * 7919;
    long operations = atol(words[2]);
    for (long i = 0; i < operations; i++)
        operate(&random, i / 500 % 3 != 2); /* growth and decline in turns */
    static const char *const names[SITES] = {"model_small", "model_large", "model_zeroed", "model_moved"};
    for (int i = 0; i < SITES; i++) {
        const row *of = &rows[i];
        say(1, "%s %ld %ld %ld %ld %ld %ld %ld %ld\n", names[i], of->allocated[0], of->allocated[1], of->live[0],
            of->live[1], of->peak[0], of->peak[1], of->temporary[0], of->temporary[1]);
    }
    say(1, "most %ld\n", most);
}
