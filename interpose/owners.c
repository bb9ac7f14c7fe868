/*
 * owners.c: turns call sites, modules and scope names into identifiers.
 *
 * Everything here runs once for each new key, off the fast path, without a
 * lock and without calling into the loader's locked parts. Rows are only ever
 * added; a row that lost a race stays empty and is skipped.
 */
#include <link.h>

#include "core.h"

/* ---- owners ---- */

#define INDEX_CELLS (2 * HL_MAX_OWNERS)
static _Atomic uint16_t owner_index[INDEX_CELLS]; /* hash -> owner; written once, release */

hl_owner *hl_owner_row(uint32_t owner)
{
    if (owner >= HL_MAX_OWNERS)
        return NULL;
    hl_owner *page = hl_table_page((void *_Atomic *)&hl.owner_rows[owner / HL_OWNERS_PER_PAGE],
                                   &hl.header->owner_pages[owner / HL_OWNERS_PER_PAGE]);
    return page ? &page[owner % HL_OWNERS_PER_PAGE] : NULL;
}

static void fill_owner(hl_owner *row, uint64_t call_site, uint32_t tag, uint32_t kind)
{
    row->call_site = call_site;
    row->tag = tag;
    row->module = kind == HL_OWNER_SITE ? hl_module_of(call_site) : 0;
    __atomic_store_n(&row->kind, kind, __ATOMIC_RELEASE); /* pairs with the reader's copy of the row */
}

static uint32_t hash_of(uint64_t call_site, uint32_t tag)
{
    uint64_t mixed = (call_site ^ ((uint64_t)tag << 40) ^ tag) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(mixed >> 40);
}

static bool is_owner(uint32_t owner, uint64_t call_site, uint32_t tag, uint32_t kind)
{
    hl_owner *row = hl_owner_row(owner);
    return row && row->call_site == call_site && row->tag == tag && row->kind == kind;
}

static uint32_t overflow_owner(uint32_t tag)
{
    return HL_TAG_SIDE(tag) == HL_SIDE_C ? HL_OWNER_C_OVERFLOW : HL_OWNER_RUST_OVERFLOW;
}

/* A complete row for the key, or 0. */
static uint32_t new_owner(uint64_t call_site, uint32_t tag, uint32_t kind)
{
    uint32_t owner = __atomic_load_n(&hl.header->owner_count, __ATOMIC_RELAXED);
    if (owner >= HL_OWNER_SAMPLED)
        return 0;
    if (!hl_owner_row(owner)) /* do not use identifiers up where there is no room for rows */
        return 0;
    owner = __atomic_fetch_add(&hl.header->owner_count, 1, __ATOMIC_RELAXED);
    hl_owner *row = owner < HL_OWNER_SAMPLED ? hl_owner_row(owner) : NULL;
    if (!row)
        return 0;
    fill_owner(row, call_site, tag, kind);
    return owner;
}

uint32_t hl_owner_intern(uint64_t call_site, uint32_t tag, uint32_t kind)
{
    uint32_t mine = 0;
    uint32_t cell = hash_of(call_site, tag) % INDEX_CELLS;
    for (uint32_t tries = 0; tries < INDEX_CELLS; cell = (cell + 1) % INDEX_CELLS, tries++) {
        uint16_t there = atomic_load_explicit(&owner_index[cell], memory_order_acquire);
        if (!there) {
            if (!mine && !(mine = new_owner(call_site, tag, kind)))
                break;
            if (atomic_compare_exchange_strong_explicit(&owner_index[cell], &there, (uint16_t)mine,
                                                        memory_order_acq_rel, memory_order_acquire))
                return mine;
        }
        if (is_owner(there, call_site, tag, kind))
            return there;
    }
    return overflow_owner(tag);
}

bool hl_owners_begin(void)
{
    hl.header->owner_count = HL_FIRST_OWNER;
    hl_owner *c = hl_owner_row(HL_OWNER_C_OVERFLOW), *rust = hl_owner_row(HL_OWNER_RUST_OVERFLOW);
    if (!c || !rust)
        return false;
    fill_owner(c, 0, HL_TAG(HL_SIDE_C, 0), HL_OWNER_OVERFLOW);
    fill_owner(rust, 0, HL_TAG(HL_SIDE_RUST, 0), HL_OWNER_OVERFLOW);
    return true;
}

/* ---- modules ---- */

/* glibc's struct dl_find_object (2.35); declared here since older headers lack it. */
typedef struct found_object {
    unsigned long long flags;
    void *map_start, *map_end;
    struct link_map *link_map;
    void *eh_frame;
    unsigned long long reserved[8];
} found_object;

/* Lock-free, and so the only loader call that a hook may make. NULL before glibc 2.35. */
static int (*find_object)(void *, found_object *);

static hl_module *module_row(uint32_t index)
{
    hl_module *page = hl_table_page((void *_Atomic *)&hl.module_rows[index / HL_MODULES_PER_PAGE],
                                    &hl.header->module_pages[index / HL_MODULES_PER_PAGE]);
    return page ? &page[index % HL_MODULES_PER_PAGE] : NULL;
}

/* Copies the GNU build-id out of the object's notes, as they lie in memory. */
static uint32_t build_id_of(uint64_t start, uint64_t bias, uint8_t *into)
{
    const ElfW(Ehdr) *elf = (const void *)(uintptr_t)start;
    if (!hl_same_bytes(elf->e_ident, ELFMAG, SELFMAG) || elf->e_phoff > HL_PAGE_BYTES ||
        elf->e_phoff + elf->e_phnum * sizeof(ElfW(Phdr)) > HL_PAGE_BYTES)
        return 0;
    const ElfW(Phdr) *segment = (const void *)(uintptr_t)(start + elf->e_phoff);
    for (int i = 0; i < elf->e_phnum; i++, segment++) {
        if (segment->p_type != PT_NOTE)
            continue;
        const char *note = (const char *)(uintptr_t)(bias + segment->p_vaddr);
        const char *end = note + segment->p_memsz;
        while (note + sizeof(ElfW(Nhdr)) <= end) {
            const ElfW(Nhdr) *head = (const void *)note;
            const char *name = note + sizeof *head;
            const char *value = name + ((head->n_namesz + 3) & ~3u);
            if (value + head->n_descsz > end || value < note)
                break;
            if (head->n_type == NT_GNU_BUILD_ID && head->n_namesz == 4 && hl_same_bytes(name, "GNU", 4) &&
                head->n_descsz <= HL_BUILD_ID_BYTES) {
                hl_copy_bytes(into, value, head->n_descsz);
                return head->n_descsz;
            }
            note = value + ((head->n_descsz + 3) & ~3u);
        }
    }
    return 0;
}

/* Adds a module or finds it; 1 + its index, 0 when there is no room. */
static uint32_t intern_module(uint64_t start, uint64_t end, uint64_t bias, const char *path)
{
    size_t bytes = hl_length(path);
    hl_text exe = hl.header->exe;
    if (!bytes && exe.bytes) {
        path = hl_text_at(exe.reference);
        bytes = exe.bytes;
    }
    uint32_t count = __atomic_load_n(&hl.header->module_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = count < HL_MAX_MODULES ? count : HL_MAX_MODULES; i-- > 0;) {
        const hl_module *row = module_row(i);
        if (row && __atomic_load_n(&row->ready, __ATOMIC_ACQUIRE) && row->start == start && row->end == end && row->path.bytes == bytes &&
            hl_same_bytes(hl_text_at(row->path.reference), path, bytes))
            return i + 1;
    }
    if (count >= HL_MAX_MODULES || !module_row(count))
        return 0;
    uint32_t index = __atomic_fetch_add(&hl.header->module_count, 1, __ATOMIC_ACQ_REL);
    hl_module *row = index < HL_MAX_MODULES ? module_row(index) : NULL;
    if (!row)
        return 0;
    row->start = start;
    row->end = end;
    row->bias = bias;
    row->path = !bytes || exe.bytes != bytes || path != hl_text_at(exe.reference) ? hl_text_add(path, bytes) : exe;
    row->build_id_bytes = build_id_of(start, bias, row->build_id);
    __atomic_store_n(&row->ready, 1, __ATOMIC_RELEASE); /* pairs with the look at the row above and below, and the reader's copy */
    return index + 1;
}

/* The newest module around the address among those that are known. */
static uint32_t known_module(uint64_t address)
{
    uint32_t count = __atomic_load_n(&hl.header->module_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = count < HL_MAX_MODULES ? count : HL_MAX_MODULES; i-- > 0;) {
        const hl_module *row = module_row(i);
        if (row && __atomic_load_n(&row->ready, __ATOMIC_ACQUIRE) && row->start <= address && address < row->end)
            return i + 1;
    }
    return 0;
}

uint32_t hl_module_of(uint64_t address)
{
    found_object found;
    if (!find_object)
        return known_module(address);
    if (find_object((void *)(uintptr_t)address, &found) != 0)
        return 0;
    return intern_module((uint64_t)(uintptr_t)found.map_start, (uint64_t)(uintptr_t)found.map_end,
                         found.link_map->l_addr, found.link_map->l_name ? found.link_map->l_name : "");
}

static int add_loaded(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    (void)context;
    uint64_t start = UINT64_MAX, end = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_LOAD)
            continue;
        uint64_t first = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        uint64_t last = first + info->dlpi_phdr[i].p_memsz;
        start = first < start ? first & ~(uint64_t)(HL_PAGE_BYTES - 1) : start;
        end = last > end ? last : end;
    }
    if (start < end)
        intern_module(start, end, info->dlpi_addr, info->dlpi_name ? info->dlpi_name : "");
    return 0;
}

void hl_modules_at_start(void)
{
#ifndef HL_STATIC
    *(void **)&find_object = hl_symbol("_dl_find_object");
#endif
    if (!find_object)
        dl_iterate_phdr(add_loaded, NULL);
}

/* ---- scopes ---- */

#define SCOPE_CELLS (2 * HL_MAX_SCOPES)
static _Atomic uint16_t scope_index[SCOPE_CELLS]; /* hash -> scope; written once, release */

static hl_text *scope_row(uint32_t scope)
{
    uint32_t index = scope - 1;
    hl_text *page = hl_table_page((void *_Atomic *)&hl.scope_rows[index / HL_SCOPES_PER_PAGE],
                                  &hl.header->scope_pages[index / HL_SCOPES_PER_PAGE]);
    return page ? &page[index % HL_SCOPES_PER_PAGE] : NULL;
}

static uint32_t new_scope(const char *name, size_t bytes)
{
    uint32_t scope = __atomic_load_n(&hl.header->scope_count, __ATOMIC_RELAXED) + 1;
    if (scope > HL_MAX_SCOPES || !scope_row(scope))
        return 0;
    hl_text text = hl_text_add(name, bytes);
    if (!text.reference)
        return 0;
    scope = __atomic_fetch_add(&hl.header->scope_count, 1, __ATOMIC_RELAXED) + 1;
    hl_text *row = scope <= HL_MAX_SCOPES ? scope_row(scope) : NULL;
    if (!row)
        return 0;
    row->bytes = text.bytes;
    __atomic_store_n(&row->reference, text.reference, __ATOMIC_RELEASE); /* pairs with the reader's copy of the row */
    return scope;
}

uint32_t hl_scope_intern(const char *name, size_t bytes)
{
    if (!bytes)
        return 0;
    if (bytes > HL_PAGE_BYTES)
        bytes = HL_PAGE_BYTES;
    uint64_t hash = 0xcbf29ce484222325ull; /* FNV-1a */
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ (unsigned char)name[i]) * 0x100000001b3ull;
    uint32_t mine = 0;
    uint32_t cell = (uint32_t)(hash >> 32) % SCOPE_CELLS;
    for (uint32_t tries = 0; tries < SCOPE_CELLS; cell = (cell + 1) % SCOPE_CELLS, tries++) {
        uint16_t there = atomic_load_explicit(&scope_index[cell], memory_order_acquire);
        if (!there) {
            if (!mine && !(mine = new_scope(name, bytes)))
                break;
            if (atomic_compare_exchange_strong_explicit(&scope_index[cell], &there, (uint16_t)mine,
                                                        memory_order_acq_rel, memory_order_acquire))
                return mine;
        }
        const hl_text *row = scope_row(there);
        if (row && row->bytes == bytes && hl_same_bytes(hl_text_at(row->reference), name, bytes))
            return there;
    }
    __atomic_fetch_add(&hl.header->scopes_overflowed, 1, __ATOMIC_RELAXED);
    return 0;
}
