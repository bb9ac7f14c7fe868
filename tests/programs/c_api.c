/*
 * The public C functions at their edges: a struct that is too small, a pop too
 * many, a name that is none, more scopes than are remembered, charges under two
 * names, and a forked child that stays in its parent's scope and has what it
 * charged. Found at run time, so that the program runs bare as well.
 *
 * expect: outcome=exit:0 processes=2 losses.foreign_frees=0
 * expect: in=in_parent scope=outer allocated_blocks=3 requested_bytes=3*100 freed_blocks=1 live_blocks=2
 * expect: in=in_parent scope=deep119 allocated_blocks=1 requested_bytes=200 live_bytes=u(200)
 * expect: in=in_parent scope=deep150 allocated_blocks=0 rows=0
 * expect: in=in_parent site=without_scope allocated_blocks=3 live_bytes=3*u(50) rows=1
 * expect: in=in_parent library=(charged) allocated_blocks=3 allocated_bytes=7000 freed_blocks=1 freed_bytes=1000 live_bytes=6000
 * expect: in=in_parent site=textures allocated_blocks=2 freed_blocks=1 live_blocks=1 live_bytes=2000
 * expect: in=in_parent site=models allocated_blocks=1 live_bytes=4000
 * expect: in=in_child scope=outer allocated_blocks=2 freed_blocks=1 live_blocks=1 live_bytes=u(300)
 * expect: in=in_child library=(charged) live_blocks=2 live_bytes=6000
 * expect: in=in_child site=in_child allocated_blocks=1 requested_bytes=300
 */
#include "program.h"

#define HEAPLEDGER_WEAK
#include <heapledger.h>

SITE void *without_scope(void)
{
    return opaque(malloc(50));
}

SITE void *in_scope(size_t bytes)
{
    return opaque(malloc(any(bytes)));
}

SITE void *in_child(void)
{
    return opaque(malloc(300));
}

SITE void *in_parent(void)
{
    return opaque(malloc(100));
}

static void deep(void)
{
    char name[] = "deep000";
    for (int i = 0; i < 151; i++) {
        name[4] = (char)('0' + i / 100);
        name[5] = (char)('0' + i / 10 % 10);
        name[6] = (char)('0' + i % 10);
        HEAPLEDGER_SCOPE_PUSH(name);
    }
    in_scope(200); /* past the 120th the scopes are counted, not entered */
    for (int i = 0; i < 151; i++)
        HEAPLEDGER_SCOPE_POP();
    without_scope();
}

static void snapshots(void)
{
    struct hl_books books = {.bytes = 8};
    if (!hl_snapshot)
        return;
    REQUIRE(hl_abi_version() == HEAPLEDGER_ABI);
    REQUIRE(hl_snapshot(&books) == -1);
    books.bytes = sizeof books;
    REQUIRE(hl_snapshot(&books) == 0);
    REQUIRE(books.sees_c == 1 && books.sees_rust == 0 && books.rust.allocated_blocks == 0);
    int64_t live = books.c.live_bytes;
    void *block = malloc(1000);
    REQUIRE(hl_snapshot(&books) == 0);
    REQUIRE(books.c.live_bytes == live + (int64_t)malloc_usable_size(block));
    REQUIRE(books.all.live_bytes == books.c.live_bytes && books.all.peak_live_bytes >= books.all.live_bytes);
    free(block);
    REQUIRE(hl_snapshot(&books) == 0);
    REQUIRE(books.c.live_bytes == live);
}

int main(void)
{
    HEAPLEDGER_SCOPE_POP();
    without_scope();
    HEAPLEDGER_SCOPE_PUSH("");
    without_scope();
    HEAPLEDGER_SCOPE_POP();
    deep();
    snapshots();

    HEAPLEDGER_CHARGE("textures", 1000);
    HEAPLEDGER_CHARGE("textures", 2000);
    HEAPLEDGER_CHARGE("models", 4000);
    HEAPLEDGER_UNCHARGE("textures", 1000);

    HEAPLEDGER_SCOPE_PUSH("outer");
    void *freed_outside = in_scope(100);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        free(freed_outside);
        in_child();
        _exit(0);
    }
    REQUIRE(waitpid(child, NULL, 0) == child);
    in_scope(100);
    in_parent();
    HEAPLEDGER_SCOPE_POP();
    free(freed_outside);
}
