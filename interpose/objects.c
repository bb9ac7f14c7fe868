/*
 * objects.c: what the objects in this process ask of each other, and what the kernel's
 * own offers.
 *
 * For start-up alone: the walk over objects takes the loader's lock.
 */
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

#include "sys.h"

static bool is_text(const char *text, const char *expected)
{
    size_t bytes = hl_length(expected);
    return hl_length(text) == bytes && hl_same_bytes(text, expected, bytes);
}

static bool is_in(const struct dl_phdr_info *info, ElfW(Addr) at)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && at - (info->dlpi_addr + segment->p_vaddr) < segment->p_memsz)
            return true;
    }
    return false;
}

/*
 * A table of the dynamic section: the loader has made it an address, but in the
 * kernel's own object. NULL: neither is within the object.
 */
static const void *table_at(const struct dl_phdr_info *info, ElfW(Addr) at)
{
    if (is_in(info, at))
        return (const void *)at;
    return is_in(info, info->dlpi_addr + at) ? (const void *)(info->dlpi_addr + at) : NULL;
}

/* Of an object's dynamic section. */
typedef struct tables {
    const ElfW(Sym) *symbols;
    const char *names;
    size_t name_bytes;
    const uint32_t *all;    /* DT_HASH, which has every symbol */
    const uint32_t *offers; /* DT_GNU_HASH, which has those that the object offers */
} tables;

static tables tables_of(const struct dl_phdr_info *info)
{
    tables found = {NULL, NULL, 0, NULL, NULL};
    const ElfW(Dyn) *dynamic = NULL;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            dynamic = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
        if (dynamic->d_tag == DT_SYMTAB)
            found.symbols = table_at(info, dynamic->d_un.d_ptr);
        else if (dynamic->d_tag == DT_STRTAB)
            found.names = table_at(info, dynamic->d_un.d_ptr);
        else if (dynamic->d_tag == DT_STRSZ)
            found.name_bytes = dynamic->d_un.d_val;
        else if (dynamic->d_tag == DT_GNU_HASH)
            found.offers = table_at(info, dynamic->d_un.d_ptr);
        else if (dynamic->d_tag == DT_HASH)
            found.all = table_at(info, dynamic->d_un.d_ptr);
    }
    return found;
}

#if defined(HL_STATIC)
bool hl_is_asked_for(const char *name)
{
    (void)name;
    return true; /* nobody has to ask by name */
}
#else
/* What an object asks for is among so many first symbols; 0 or 1: it does not say. */
static uint32_t imports_of(const tables *of)
{
    /* Both tables have the number at the same place: where what is offered begins, or how many there are. */
    const uint32_t *hash = of->offers ? of->offers : of->all;
    return hash ? hash[1] : 0;
}

/*
 * Ends the search with 1 where an object asks others for the name. Of one that
 * offers nothing GNU's linker writes as if it asked for nothing either: then any
 * such name is taken for asking.
 */
static int asks_for(struct dl_phdr_info *info, size_t size, void *context)
{
    const char *name = context;
    size_t bytes = hl_length(name) + 1;
    (void)size;
    const tables of = tables_of(info);
    uint32_t imports = imports_of(&of);
    if (!of.symbols || !of.names)
        return 0;
    for (size_t at = 0; imports <= 1 && at + bytes <= of.name_bytes; at++)
        if (hl_same_bytes(of.names + at, name, bytes))
            return 1;
    for (uint32_t i = 0; i < imports; i++)
        if (of.symbols[i].st_shndx == SHN_UNDEF && is_text(of.names + of.symbols[i].st_name, name))
            return 1;
    return 0;
}

bool hl_is_asked_for(const char *name)
{
    return dl_iterate_phdr(asks_for, (void *)(uintptr_t)name) != 0;
}
#endif

/* How many symbols there are, as whichever table there is tells. */
static uint32_t symbols_of(const tables *of)
{
    if (of->all)
        return of->all[1];
    if (!of->offers)
        return 0;
    /* Number of buckets, first symbol, words of the filter, its shift; the filter, the buckets, the chains. */
    const uint32_t *head = of->offers;
    const uint32_t *buckets = head + 4 + head[2] * (sizeof(ElfW(Addr)) / sizeof *head);
    const uint32_t *chains = buckets + head[0];
    uint32_t last = 0;
    for (uint32_t i = 0; i < head[0]; i++)
        last = buckets[i] > last ? buckets[i] : last;
    if (last < head[1])
        return head[1];
    while (!(chains[last - head[1]] & 1))
        last++;
    return last + 1;
}

void *hl_kernel_function(const char *name)
{
    const ElfW(Ehdr) *header = (const void *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);
    if (!header)
        return NULL;
    const ElfW(Phdr) *segments = (const void *)((const char *)header + header->e_phoff);
    struct dl_phdr_info info = {.dlpi_phdr = segments, .dlpi_phnum = header->e_phnum};
    for (int i = header->e_phnum; i-- > 0;)
        if (segments[i].p_type == PT_LOAD)
            info.dlpi_addr = (ElfW(Addr))header + segments[i].p_offset - segments[i].p_vaddr;
    const tables of = tables_of(&info);
    if (!of.symbols || !of.names)
        return NULL;
    for (uint32_t i = 0, count = symbols_of(&of); i < count; i++)
        if (of.symbols[i].st_shndx != SHN_UNDEF && is_text(of.names + of.symbols[i].st_name, name))
            return (void *)(info.dlpi_addr + of.symbols[i].st_value);
    return NULL;
}
