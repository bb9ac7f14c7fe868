/*
 * Item 11. What allocates inside libc reaches us as libc's: strdup, strndup,
 * asprintf, getline, open_memstream, realpath. How often each calls malloc is
 * its own affair, what they hand out is not. reallocarray jumps to realloc, so
 * that it may count as a call from here.
 *
 * expect: outcome=exit:0 processes=1
 * expect: library=libc.so.6 live_blocks=40
 * expect: side=c live_blocks=50
 * expect: losses.foreign_frees=0
 */
#include "program.h"

static unsigned long held, arrays;

static void hold(void *block)
{
    REQUIRE(block != NULL);
    held += malloc_usable_size(opaque(block));
}

int main(void)
{
    for (int i = 0; i < 10; i++) {
        hold(strdup("ten bytes"));
        free(opaque(strdup("and gone again")));
        hold(strndup("longer than it needs to be", 12));
        char *text = NULL;
        REQUIRE(asprintf(&text, "%*d", 10 * i + 1, i) == 10 * i + 1);
        hold(text);
        void *array = reallocarray(NULL, 10, 20);
        REQUIRE(opaque(array) != NULL);
        array = reallocarray(array, 30, 20);
        REQUIRE(opaque(array) != NULL);
        arrays += malloc_usable_size(array);
        char *stream_text = NULL;
        size_t stream_bytes = 0;
        FILE *stream = open_memstream(&stream_text, &stream_bytes);
        fprintf(stream, "%s", "a line\n");
        fclose(stream);
        FILE *again = fmemopen(stream_text, stream_bytes, "r");
        char *line = NULL;
        size_t room = 0;
        REQUIRE(getline(&line, &room, again) == 7);
        fclose(again);
        free(stream_text);
        hold(line);
    }
    free(opaque(realpath("/", NULL)));
    expect("library=libc.so.6 live_bytes=%lu", held);
    expect("side=c live_bytes=%lu", held + arrays);
    say(1, "held\n");
}
