/*
 * unwind_full.c: the slow walk, which follows every register.
 *
 * The dynamic linker's lazy resolver keeps its frame in rbx, a signal may come
 * where a compiler uses a register of its own: rare, and then the whole walk is
 * made anew in this way. It reads each row of .eh_frame as it comes.
 */
#include "unwinder.h"

static bool value_of(hl_walker *walker, const hl_rule *rule, uintptr_t cfa, uintptr_t *value)
{
    uintptr_t base = rule->reg == HL_REG_CFA ? cfa : walker->registers[rule->reg];
    *value = base + (uintptr_t)(intptr_t)rule->first;
    if (!rule->deref)
        return true;
    bool read = hl_load_slow(walker, *value, value);
    *value += (uintptr_t)(intptr_t)rule->then;
    return read;
}

/* The caller's registers from walker->row; false where one that matters is not to be had. */
static bool to_caller(hl_walker *walker)
{
    const hl_row *row = &walker->row;
    uintptr_t caller[HL_REGISTERS], cfa;
    if (!value_of(walker, &row->cfa, 0, &cfa) || cfa < walker->registers[HL_REG_SP])
        return false;
    for (unsigned reg = 0; reg < HL_REGISTERS; reg++) {
        const hl_rule *rule = &row->regs[reg];
        caller[reg] = reg == HL_REG_SP ? cfa : walker->registers[reg];
        bool wanted = rule->how == HL_RULE_AT || rule->how == HL_RULE_VALUE;
        bool known = wanted ? value_of(walker, rule, cfa, &caller[reg]) : rule->how != HL_RULE_UNKNOWN;
        if (known && rule->how == HL_RULE_AT)
            known = hl_load_slow(walker, caller[reg], &caller[reg]);
        if (!known && (reg == HL_REG_SP || reg == HL_REG_FP || reg == HL_REG_RA))
            return false;
    }
    for (unsigned reg = 0; reg < HL_REGISTERS; reg++)
        walker->registers[reg] = caller[reg];
    return true;
}

/* Over a signal's frame that has no unwinding data, to where the signal came. */
static bool over_signal(hl_walker *walker, uintptr_t *pc)
{
#if defined(__x86_64__)
    static const uint8_t places[HL_REGISTERS] = {13, 12, 14, 11, 9, 8, 10, 15, 0, 1, 2, 3, 4, 5, 6, 7, 16};
#endif
    uintptr_t sp = walker->registers[HL_REG_SP];
    for (unsigned reg = 0; reg < HL_REGISTERS; reg++) {
#if defined(__x86_64__)
        unsigned place = places[reg];
#else
        unsigned place = reg;
#endif
        if (!hl_load_slow(walker, sp + HL_SIGNAL_REGISTER(place), &walker->registers[reg]))
            return false;
    }
    return hl_load_slow(walker, sp + HL_SIGNAL_PC, pc);
}

/* From the frame that `at` is in to its caller's; false: no further. */
static bool leave(hl_walker *walker, uintptr_t *at, uint32_t *how)
{
    const hl_code *code = hl_code_around(walker, *at);
    int found = code ? hl_cfi_row(walker, code, *at) : HL_CFI_NONE;
    *how = HL_WALK_LOST;
    if (found == HL_CFI_NONE)
        return hl_is_sigreturn(code, *at) && over_signal(walker, at);
    if (walker->row.regs[HL_REG_RA].how == HL_RULE_UNDEFINED) {
        *how = HL_WALK_WHOLE;
        return false;
    }
    if (!to_caller(walker))
        return false;
    *at = hl_stripped(walker->registers[HL_REG_RA]) - (found == HL_CFI_FRAME);
    return true;
}

uint32_t hl_unwind_full(hl_walker *walker, uint64_t call_site)
{
    const uint32_t walk = walker->walk;
    uintptr_t at = hl_stripped(walker->registers[HL_REG_RA]) - 1;
    uint32_t count = 0, how = HL_WALK_DEEP;
    bool ours = call_site != 0;
    /* Each step rereads what a handler's walk would have changed, so that is asked at each. */
    for (uint32_t steps = 0; count < HL_MAX_FRAMES && steps < 2 * HL_MAX_FRAMES; steps++) {
        how = HL_WALK_WHOLE;
        if (at == UINTPTR_MAX)
            break;
        ours = ours && at + 1 != call_site;
        if (!ours)
            walker->frames[count++] = at + 1;
        bool left = leave(walker, &at, &how);
        if (walker->walk != walk) {
            how = HL_WALK_TORN;
            count = 0;
        }
        if (!left || how == HL_WALK_TORN)
            break;
        how = HL_WALK_DEEP;
    }
    walker->how = how;
    return count;
}
