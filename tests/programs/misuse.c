/*
 * Calls that no correct program makes, one kind a word. Without a word, and with
 * "right", the same calls are made as they should be.
 *
 *     misuse double      frees a block twice
 *     misuse cycle       the same with another one freed between, which glibc does not see
 *     misuse resized     resizes a block that was freed
 *     misuse inside      frees a block by an address inside it
 *     misuse static      frees what no allocator gave out
 *     misuse threads     frees in one thread what another has freed
 *     misuse unwritten   frees what was handed out past the hooks where a block was freed, unwritten: right
 *     misuse flushed     the same where a thread freed it that has ended since: right
 *     misuse copied      the same of another block, which unwritten words of that one were copied to: right
 *     misuse many        frees six blocks twice, all at one place
 *     misuse surely      frees three blocks twice at one place; the last is too long for a fast bin
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=make_block allocated_blocks=2 freed_blocks=2 live_bytes=0
 * expect: site=grow_block allocated_blocks=1 freed_blocks=1 reallocs=1
 * expect: losses.foreign_frees=0 losses.crossed_frees=0
 */
#include "program.h"

#define AFTER() __asm__ volatile("" ::: "memory") /* no tail call */

static char no_block[256] __attribute__((aligned(64)));

SITE char *make_block(size_t bytes)
{
    char *block = opaque(malloc(any(bytes))); /* here: make_block */
    memset(block, 0, bytes); /* what glibc says of it must not depend on what lay there */
    return block;
}

SITE void free_first(void *block)
{
    free(opaque(block)); /* here: free_first */
    AFTER();
}

SITE void free_again(void *block)
{
    free(opaque(block)); /* here: free_again */
    AFTER();
}

SITE void *grow_block(void *block)
{
    block = realloc(opaque(block), any(100)); /* here: grow_block */
    AFTER();
    return opaque(block);
}

SITE void free_in_cycle(void *block, void *other)
{
    free_first(block);
    free_first(other);
    free_again(block);
    AFTER();
}

static void *free_in_thread(void *block)
{
    free_first(block);
    return NULL;
}

/* As from a fast bin, whose link is its first word until somebody writes there. */
SITE void *hand_out_past(size_t bytes)
{
    extern void *__libc_malloc(size_t);
    return __libc_malloc(bytes);
}

SITE void do_right(void)
{
    char *one = make_block(100), *other = make_block(100);
    one = grow_block(one);
    free_first(one);
    free_again(other);
}

SITE void do_wrong(const char *word)
{
    char *block = make_block(100);
    if (strcmp(word, "double") == 0) {
        free_first(block);
        free_again(block);
    } else if (strcmp(word, "cycle") == 0) {
        free_in_cycle(block, make_block(100));
    } else if (strcmp(word, "resized") == 0) {
        free_first(block);
        grow_block(block);
    } else if (strcmp(word, "inside") == 0) {
        free_again(block + 16);
    } else if (strcmp(word, "static") == 0) {
        free_again(no_block);
    } else if (strcmp(word, "threads") == 0) {
        pthread_join(start_thread(free_in_thread, block), NULL);
        free_again(block);
    } else if (strcmp(word, "unwritten") == 0) {
        make_block(100);
        free_first(block);
        REQUIRE(hand_out_past(100) == block);
        free_again(block);
    } else if (strcmp(word, "flushed") == 0) {
        make_block(100);
        pthread_join(start_thread(free_in_thread, block), NULL);
        REQUIRE(hand_out_past(100) == block);
        free_again(block);
    } else if (strcmp(word, "copied") == 0) {
        char *other = make_block(100);
        make_block(100);
        pthread_join(start_thread(free_in_thread, block), NULL);
        const char *unwritten = opaque(malloc(any(100)));
        REQUIRE(unwritten == block);
        free_first(other);
        REQUIRE(hand_out_past(100) == other);
        memcpy(other, unwritten, 16);
        free_again(other);
    } else if (strcmp(word, "many") == 0) {
        /* Each size has a list of its own, which a block is then in twice. */
        for (size_t bytes = 24; bytes <= 104; bytes += 16)
            free_in_cycle(make_block(bytes), make_block(bytes));
    } else if (strcmp(word, "surely") == 0) {
        static const size_t sizes[] = { 40, 56, 200 }, others[] = { 40, 56, 72 };
        for (int i = 0; i < 3; i++) {
            char *one = make_block(sizes[i]);
            free_in_cycle(one, make_block(others[i])); /* behind the first: no block here reaches the heap's end */
        }
    } else {
        REQUIRE(!"a word that is known");
    }
}

int main(int count, char **words)
{
    if (count > 1 && strcmp(words[1], "right") != 0)
        do_wrong(words[1]);
    else
        do_right();
    say(1, "done\n");
    return 0;
}
