/*
 * Scopes, charges and a snapshot from C, with and without a ledger.
 *
 *     cc -g -Iinclude -o scopes examples/c/scopes.c
 *     ./scopes                          no ledger: every call below is skipped
 *     heapledger run -- ./scopes        the same program, booked
 *
 * Nothing is linked: HEAPLEDGER_WEAK makes every function of the header one
 * that may be missing at run time, and the macros test for it.
 */
#define HEAPLEDGER_WEAK
#include <heapledger.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define FRAMES 100
#define FRAME_BYTES 4000
#define ENTRIES 10
#define ENTRY_BYTES 500
#define TEXTURE_BYTES ((size_t)8 << 20)

static void *frames[FRAMES];
static void *entries[ENTRIES];
static void *notes[3];

/* Booked to whatever scope the caller is in: "index" below. */
static void index_frames(void)
{
    for (int i = 0; i < ENTRIES; i++)
        entries[i] = malloc(ENTRY_BYTES);
}

static void decode(void)
{
    HEAPLEDGER_SCOPE_PUSH("decode");
    for (int i = 0; i < FRAMES; i++)
        frames[i] = malloc(FRAME_BYTES);
    HEAPLEDGER_SCOPE_PUSH("index"); /* scopes nest, the innermost counts */
    index_frames();
    HEAPLEDGER_SCOPE_POP();
    HEAPLEDGER_SCOPE_POP();
    /* A block is freed from the scope that it was booked to, wherever that happens. */
    for (int i = 0; i < FRAMES / 4; i++) {
        free(frames[i]);
        frames[i] = NULL;
    }
}

/* Memory that malloc never sees is booked by name. */
static void upload_textures(void)
{
    HEAPLEDGER_CHARGE("textures", TEXTURE_BYTES);
    HEAPLEDGER_CHARGE("textures", TEXTURE_BYTES);
    HEAPLEDGER_UNCHARGE("textures", TEXTURE_BYTES);
}

static int snapshot(struct hl_books *books)
{
    books->bytes = sizeof *books; /* says which version of the struct this program knows */
    return hl_snapshot ? hl_snapshot(books) : -1;
}

static void take_notes(void)
{
    for (int i = 0; i < 3; i++)
        notes[i] = malloc(256);
}

int main(void)
{
    struct hl_books before, after;
    decode();
    upload_textures();

    int kept = snapshot(&before) == 0;
    take_notes();
    kept = kept && snapshot(&after) == 0;

    if (!kept) {
        puts("no ledger is kept here");
        return 0;
    }
    printf("interface %d, c is %s\n", hl_abi_version(), after.sees_c ? "booked" : "unknown");
    printf("take_notes: %" PRIu64 " blocks, %" PRIu64 " bytes asked for, %" PRId64 " bytes live\n",
           after.c.allocated_blocks - before.c.allocated_blocks,
           after.c.requested_bytes - before.c.requested_bytes, after.c.live_bytes - before.c.live_bytes);
    printf("live before: %" PRId64 " blocks, %" PRId64 " bytes\n", before.all.live_blocks, before.all.live_bytes);
    return 0;
}
