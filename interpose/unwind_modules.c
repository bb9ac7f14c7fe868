/*
 * unwind_modules.c: which object an address lies in, and whether that object is
 * still the one that steps were learnt from.
 *
 * A library can be unloaded and another one take its place. So a step in the
 * cache belongs to an object's identity, and each walk asks _dl_find_object
 * once an object who is there now. What is on the stack cannot be unloaded
 * during the walk.
 */
#include <link.h>

#include "unwinder.h"

/* glibc's struct dl_find_object (2.35); declared here since older headers lack it. */
typedef struct found_object {
    unsigned long long flags;
    void *map_start, *map_end;
    struct link_map *link_map;
    void *eh_frame;
    unsigned long long reserved[8];
} found_object;

/* NULL before glibc 2.35. */
static int (*find_object)(void *, found_object *);

/* ---- before glibc 2.35: the objects that were there at the start, and are never unloaded ---- */

#define MAX_FIRST 1024u

static found_object *first_objects; /* in order of their addresses */
static uint32_t first_count;

static int add_first(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    (void)context;
    found_object object = {.map_start = (void *)UINTPTR_MAX};
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + segment->p_vaddr;
        if (segment->p_type == PT_GNU_EH_FRAME)
            object.eh_frame = (void *)start;
        if (segment->p_type != PT_LOAD)
            continue;
        if (start < (uintptr_t)object.map_start)
            object.map_start = (void *)(start & ~(uintptr_t)4095);
        if (start + segment->p_memsz > (uintptr_t)object.map_end)
            object.map_end = (void *)(start + segment->p_memsz);
    }
    if (object.map_start >= object.map_end || first_count >= MAX_FIRST)
        return 0;
    uint32_t place = first_count++;
    for (; place && first_objects[place - 1].map_start > object.map_start; place--)
        first_objects[place] = first_objects[place - 1];
    first_objects[place] = object;
    return 0;
}

static int find_first(void *address, found_object *into)
{
    uint32_t low = 0, high = first_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (address < first_objects[middle].map_start) {
            high = middle;
        } else if (address >= first_objects[middle].map_end) {
            low = middle + 1;
        } else {
            *into = first_objects[middle];
            return 0;
        }
    }
    return -1;
}

/* ---- objects that stay: those that the program began with ---- */

#define MAX_STAYING 1024u

static const void **staying; /* their link maps */
static uint32_t staying_count;

/*
 * Taken before anything can have been loaded by dlopen, which only the preload
 * library's start is sure to be: in any other core each walk asks.
 */
static void note_staying(void)
{
#if defined(HL_PRELOAD)
    const struct link_map *map = _r_debug.r_map;
    staying = hl_reserve(sizeof *staying * MAX_STAYING);
    for (; staying && map && staying_count < MAX_STAYING; map = map->l_next)
        staying[staying_count++] = map;
#endif
}

static bool is_staying(const void *link_map)
{
    if (find_object == find_first)
        return true;
    for (uint32_t i = 0; i < staying_count; i++)
        if (staying[i] == link_map)
            return true;
    return false;
}

/* ---- beginning ---- */

bool hl_codes_begin(void *found)
{
    *(void **)&find_object = found;
    note_staying();
    if (find_object)
        return true;
    first_objects = hl_reserve(sizeof *first_objects * MAX_FIRST);
    if (!first_objects)
        return false;
    find_object = find_first;
    dl_iterate_phdr(add_first, NULL);
    return true;
}

/* ---- knowing an object again ---- */

#define FIRST_PAGE 4096u

/*
 * A word that two builds do not share: of the build-id, if that is in the first
 * page, else of the ELF header, which says how long the file is. NULL: neither.
 * That header is where the object's memory begins, which is not l_addr in an
 * object that was linked for another address than 0.
 */
static const uint64_t *mark_of(const found_object *object)
{
    const ElfW(Ehdr) *elf = object->link_map ? object->map_start : NULL;
    if (!elf || !hl_same_bytes(elf->e_ident, ELFMAG, SELFMAG) ||
        elf->e_phoff + elf->e_phnum * sizeof(ElfW(Phdr)) > FIRST_PAGE)
        return NULL;
    const ElfW(Phdr) *segment = (const void *)((const char *)elf + elf->e_phoff);
    for (int i = 0; i < elf->e_phnum; i++, segment++) {
        if (segment->p_type != PT_NOTE)
            continue;
        uint64_t at = segment->p_offset, end = at + segment->p_memsz;
        while (at + sizeof(ElfW(Nhdr)) + 12 <= end && end <= FIRST_PAGE) {
            const ElfW(Nhdr) *note = (const void *)((const char *)elf + at);
            if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && note->n_descsz >= 8)
                return (const uint64_t *)(const void *)((const char *)(note + 1) + 4);
            at += sizeof *note + ((note->n_namesz + 3ull) & ~3ull) + ((note->n_descsz + 3ull) & ~3ull);
        }
    }
    return (const uint64_t *)(const void *)&elf->e_shoff;
}

static uint64_t word_at(const void *from)
{
    uint64_t word;
    __builtin_memcpy(&word, from, sizeof word);
    return word;
}

static bool is_same(const hl_code *code, const found_object *object)
{
    return code->start == (uintptr_t)object->map_start &&
           code->bytes == (uintptr_t)object->map_end - (uintptr_t)object->map_start &&
           code->link_map == object->link_map && code->header == object->eh_frame &&
           (!code->mark || word_at(code->mark) == code->marked[0]) &&
           (!code->header ||
            (word_at(code->header) == code->marked[1] && word_at(code->header + 8) == code->marked[2]));
}

static uint64_t mixed(uint64_t into, uint64_t word)
{
    into = (into ^ word) * 0x9e3779b97f4a7c15ull;
    return into ^ into >> 32;
}

static void note(hl_code *code, const found_object *object)
{
    code->start = (uintptr_t)object->map_start;
    code->bytes = (uintptr_t)object->map_end - code->start;
    code->link_map = object->link_map;
    code->header = object->eh_frame;
    code->stays = is_staying(object->link_map);
    code->mark = mark_of(object);
    code->marked[0] = code->mark ? word_at(code->mark) : 0;
    code->marked[1] = code->header ? word_at(code->header) : 0;
    code->marked[2] = code->header ? word_at(code->header + 8) : 0;
    uint64_t identity = mixed(mixed(mixed(1, code->start), code->bytes), (uintptr_t)code->link_map);
    identity = mixed(mixed(identity, (uintptr_t)code->header), code->marked[0]);
    code->identity = mixed(mixed(identity, code->marked[1]), code->marked[2]);
}

const hl_code *hl_code_around(hl_walker *walker, uintptr_t at)
{
    found_object object;
    hl_code *known = NULL;
    for (uint32_t i = 0; i < HL_WALK_CODES && !known; i++)
        if (at - walker->codes[i].start < walker->codes[i].bytes)
            known = &walker->codes[i];
    if (known && known->walk == walker->walk)
        return known;
    if (find_object((void *)at, &object) != 0)
        return NULL;
    if (!known || !is_same(known, &object)) {
        if (!known)
            known = &walker->codes[walker->turn++ % HL_WALK_CODES];
        note(known, &object);
    }
    known->walk = walker->walk;
    walker->objects += known->identity;
    return known;
}
