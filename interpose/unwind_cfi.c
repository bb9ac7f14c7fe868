/*
 * unwind_cfi.c: one step of a walk, from a function's entry in .eh_frame.
 *
 * An expression is not evaluated but brought into the form of a rule: a register
 * and an offset, or what lies there and another. Others are said not to be
 * understood.
 */
#include "unwind_tables.h"

/* ---- expressions ---- */

#define DEPTH 8

static bool is_number(const hl_rule *value)
{
    return value->reg == HL_REG_NONE;
}

/* A number has its value in `first`, so it must fit. */
static bool push_number(hl_rule *stack, unsigned *depth, int64_t value)
{
    if (*depth >= DEPTH || value != (int32_t)value)
        return false;
    stack[(*depth)++] = (hl_rule){HL_RULE_VALUE, HL_REG_NONE, 0, (int32_t)value, 0};
    return true;
}

static bool push_register(hl_rule *stack, unsigned *depth, uint64_t reg, int64_t offset, uintptr_t at)
{
#if defined(__x86_64__)
    /* The PLT's expression asks where in its entry the code is; its low bits say so. */
    if (reg == HL_REG_RA)
        return push_number(stack, depth, (int64_t)(at & 0xfff) + offset);
#else
    (void)at;
#endif
    if (*depth >= DEPTH || reg >= HL_REGISTERS || offset != (int32_t)offset)
        return false;
    stack[(*depth)++] = (hl_rule){HL_RULE_VALUE, (uint8_t)reg, 0, (int32_t)offset, 0};
    return true;
}

static bool add_number(hl_rule *value, int64_t more)
{
    int32_t *offset = value->deref ? &value->then : &value->first;
    int64_t sum = *offset + more;
    *offset = (int32_t)sum;
    return sum == (int32_t)sum;
}

/* Two operands to one; of numbers all, of a register its sum with a number. */
static bool combine(unsigned operation, hl_rule *left, const hl_rule *right)
{
    if (operation == 0x22 && is_number(left)) {
        int64_t number = left->first;
        *left = *right;
        return add_number(left, number);
    }
    if (!is_number(right))
        return false;
    int64_t number = right->first;
    if (operation == 0x22 || operation == 0x1c)
        return add_number(left, operation == 0x22 ? number : -number);
    if (!is_number(left))
        return false;
    int64_t value = left->first;
    switch (operation) {
    case 0x1a: value &= number; break;
    case 0x21: value |= number; break;
    case 0x24: value = number >= 0 && number < 32 ? value << number : INT64_MAX; break;
    case 0x25: value = number >= 0 && number < 32 && value >= 0 ? value >> number : INT64_MAX; break;
    case 0x29: value = value == number; break;
    case 0x2a: value = value >= number; break;
    case 0x2b: value = value > number; break;
    case 0x2c: value = value <= number; break;
    case 0x2d: value = value < number; break;
    case 0x2e: value = value != number; break;
    default: return false;
    }
    left->first = (int32_t)value;
    return value == (int32_t)value;
}

/* Brings an expression into the form of a rule; false where it is of another form. */
static bool form_of(hl_reader expression, uintptr_t at, bool with_cfa, hl_rule *into)
{
    hl_rule stack[DEPTH];
    unsigned depth = 0;
    if (with_cfa)
        stack[depth++] = (hl_rule){HL_RULE_VALUE, HL_REG_CFA, 0, 0, 0};
    while (!expression.bad && expression.at < expression.end) {
        unsigned operation = (unsigned)fixed(&expression, 1);
        bool done;
        if (operation >= 0x30 && operation <= 0x4f) {
            done = push_number(stack, &depth, operation - 0x30);
        } else if (operation >= 0x70 && operation <= 0x8f) {
            done = push_register(stack, &depth, operation - 0x70, sleb(&expression), at);
        } else if (operation == 0x92) {
            uint64_t reg = uleb(&expression);
            done = push_register(stack, &depth, reg, sleb(&expression), at);
        } else if (operation >= 0x08 && operation <= 0x0f) {
            unsigned bytes = 1u << ((operation - 0x08) / 2);
            done = push_number(stack, &depth,
                               operation & 1 ? fixed_signed(&expression, bytes) : (int64_t)fixed(&expression, bytes));
        } else if (operation == 0x10 || operation == 0x11) {
            done = push_number(stack, &depth, (int64_t)leb(&expression, operation == 0x11));
        } else if (operation == 0x06) {
            done = depth && !is_number(&stack[depth - 1]) && !stack[depth - 1].deref;
            if (done)
                stack[depth - 1].deref = 1;
        } else if (operation == 0x23) {
            done = depth && add_number(&stack[depth - 1], (int64_t)uleb(&expression));
        } else if (operation == 0x12) {
            done = depth && depth < DEPTH;
            if (done)
                stack[depth] = stack[depth - 1], depth++;
        } else {
            done = depth >= 2 && combine(operation, &stack[depth - 2], &stack[depth - 1]);
            depth--;
        }
        if (!done)
            return false;
    }
    if (expression.bad || !depth || is_number(&stack[depth - 1]))
        return false;
    *into = stack[depth - 1];
    return true;
}

/* ---- instructions ---- */

typedef struct machine {
    hl_walker *walker;
    const hl_function *of;
    uintptr_t at;       /* rows up to this address count */
    uintptr_t location;
    unsigned remembered;
    bool unknown;       /* something was not understood */
} machine;

/* Registers that nobody follows are let pass. */
static void rule(machine *machine, uint64_t reg, hl_rule rule)
{
    if (reg < HL_REGISTERS)
        machine->walker->row.regs[reg] = rule;
}

static void plain(machine *machine, uint64_t reg, uint8_t how)
{
    rule(machine, reg, (hl_rule){how, HL_REG_NONE, 0, 0, 0});
}

static void saved_at(machine *machine, uint64_t reg, int64_t offset, uint8_t how)
{
    bool fits = offset == (int32_t)offset;
    rule(machine, reg, (hl_rule){fits ? how : HL_RULE_UNKNOWN, HL_REG_CFA, 0, fits ? (int32_t)offset : 0, 0});
}

static void in_register(machine *machine, uint64_t reg, uint64_t other)
{
    bool followed = other < HL_REGISTERS;
    rule(machine, reg,
         (hl_rule){followed ? HL_RULE_VALUE : HL_RULE_UNKNOWN, followed ? (uint8_t)other : HL_REG_NONE, 0, 0, 0});
}

static void restored(machine *machine, uint64_t reg)
{
    if (reg < HL_REGISTERS)
        machine->walker->row.regs[reg] = machine->walker->initial.regs[reg];
}

static void cfa_offset(machine *machine, int64_t offset)
{
    hl_rule *cfa = &machine->walker->row.cfa;
    if (cfa->deref || offset != (int32_t)offset)
        machine->unknown = true;
    cfa->first = (int32_t)offset;
}

static void cfa_register(machine *machine, uint64_t reg)
{
    hl_rule *cfa = &machine->walker->row.cfa;
    machine->unknown |= cfa->deref || reg >= HL_REGISTERS;
    cfa->how = HL_RULE_VALUE;
    cfa->reg = (uint8_t)reg;
}

static void cfa_set(machine *machine, uint64_t reg, int64_t offset)
{
    machine->walker->row.cfa.deref = 0;
    machine->walker->row.cfa.then = 0;
    cfa_register(machine, reg);
    cfa_offset(machine, offset);
}

static hl_reader block(hl_reader *from)
{
    uint64_t bytes = uleb(from);
    hl_reader inside = *from;
    skip(from, bytes);
    inside.end = from->at;
    inside.bad = from->bad;
    return inside;
}

static void by_expression(machine *machine, uint64_t reg, hl_reader expression, uint8_t how)
{
    hl_rule form = {HL_RULE_UNKNOWN, HL_REG_NONE, 0, 0, 0};
    if (form_of(expression, machine->at, true, &form))
        form.how = how;
    rule(machine, reg, form);
}

static void remember(machine *machine)
{
    if (machine->remembered < HL_REMEMBERED)
        machine->walker->remembered[machine->remembered] = machine->walker->row;
    else
        machine->unknown = true;
    machine->remembered++;
}

static void restore(machine *machine)
{
    if (!machine->remembered || machine->remembered > HL_REMEMBERED)
        machine->unknown = true;
    else
        machine->walker->row = machine->walker->remembered[machine->remembered - 1];
    machine->remembered -= machine->remembered != 0;
}

/* One of those with an opcode of their own; false: not known. */
static bool extended(machine *machine, unsigned operation, hl_reader *from)
{
    const int64_t data = machine->of->data_align;
    uint64_t reg;
    switch (operation) {
    case 0x00: break;
    case 0x05: reg = uleb(from); saved_at(machine, reg, (int64_t)uleb(from) * data, HL_RULE_AT); break;
    case 0x06: restored(machine, uleb(from)); break;
    case 0x07: plain(machine, uleb(from), HL_RULE_UNDEFINED); break;
    case 0x08: plain(machine, uleb(from), HL_RULE_SAME); break;
    case 0x09: reg = uleb(from); in_register(machine, reg, uleb(from)); break;
    case 0x0a: remember(machine); break;
    case 0x0b: restore(machine); break;
    case 0x0c: reg = uleb(from); cfa_set(machine, reg, (int64_t)uleb(from)); break;
    case 0x0d: cfa_register(machine, uleb(from)); break;
    case 0x0e: cfa_offset(machine, (int64_t)uleb(from)); break;
    case 0x0f: machine->unknown |= !form_of(block(from), machine->at, false, &machine->walker->row.cfa); break;
    case 0x10: reg = uleb(from); by_expression(machine, reg, block(from), HL_RULE_AT); break;
    case 0x11: reg = uleb(from); saved_at(machine, reg, sleb(from) * data, HL_RULE_AT); break;
    case 0x12: reg = uleb(from); cfa_set(machine, reg, sleb(from) * data); break;
    case 0x13: cfa_offset(machine, sleb(from) * data); break;
    case 0x14: reg = uleb(from); saved_at(machine, reg, (int64_t)uleb(from) * data, HL_RULE_VALUE); break;
    case 0x15: reg = uleb(from); saved_at(machine, reg, sleb(from) * data, HL_RULE_VALUE); break;
    case 0x16: reg = uleb(from); by_expression(machine, reg, block(from), HL_RULE_VALUE); break;
    case 0x2d: break; /* aarch64: whether the return address is signed, which its value says */
    case 0x2e: uleb(from); break;
    case 0x2f: reg = uleb(from); saved_at(machine, reg, -(int64_t)uleb(from) * data, HL_RULE_AT); break;
    default: return false;
    }
    return true;
}

/* Bytes that an instruction advances by; -1: it is another. */
static int64_t advance(unsigned operation, uint64_t align, hl_reader *from)
{
    if (operation >> 6 == 1)
        return (int64_t)((operation & 0x3f) * align);
    if (operation >= 0x02 && operation <= 0x04)
        return (int64_t)(fixed(from, 1u << (operation - 2)) * align);
    return -1;
}

static bool run(machine *machine, hl_reader from)
{
    while (!from.bad && from.at < from.end) {
        unsigned operation = (unsigned)fixed(&from, 1);
        int64_t bytes = advance(operation, machine->of->code_align, &from);
        if (bytes >= 0)
            machine->location += (uintptr_t)bytes;
        else if (operation >> 6 == 2)
            saved_at(machine, operation & 0x3f, (int64_t)uleb(&from) * machine->of->data_align, HL_RULE_AT);
        else if (operation >> 6 == 3)
            restored(machine, operation & 0x3f);
        else if (!extended(machine, operation, &from))
            return false;
        if (machine->location > machine->at)
            return true;
    }
    return !from.bad;
}

int hl_cfi_row(hl_walker *walker, const hl_code *code, uintptr_t at)
{
    hl_function of;
    if (!code->header || !hl_find_function(code, at, &of) || of.return_column != HL_REG_RA)
        return HL_CFI_NONE;
    walker->row = (hl_row){.cfa = {HL_RULE_UNKNOWN, HL_REG_NONE, 0, 0, 0}};
    machine machine = {walker, &of, at, of.start, 0, false};
    bool known = run(&machine, of.initial);
    walker->initial = walker->row;
    known = known && run(&machine, of.instructions);
    if (!known || machine.unknown || walker->row.cfa.how != HL_RULE_VALUE)
        return HL_CFI_NONE;
    return of.signal ? HL_CFI_SIGNAL : HL_CFI_FRAME;
}

/* What a coroutine returns to is no call's: glibc puts the very beginning of a function there. */
static bool begins_function(const hl_code *code, uintptr_t at)
{
    hl_function of;
    return code->header && hl_find_function(code, at, &of) && of.start == at;
}

/* ---- the row as one word ---- */

static uint64_t pack(unsigned kind, int64_t fp, int64_t second, int64_t cfa)
{
    return kind | (uint64_t)(uint16_t)fp << 4 | (uint64_t)(uint16_t)second << 20 | (uint64_t)cfa << 36;
}

/* A register saved at so many words from the CFA, or still in its place (0). */
static bool in_words(const hl_rule *rule, int64_t *words)
{
    *words = rule->first / (int32_t)sizeof(uintptr_t);
    if (rule->how == HL_RULE_SAME || rule->how == HL_RULE_UNDEFINED) {
        *words = 0;
        return true;
    }
    return rule->how == HL_RULE_AT && rule->reg == HL_REG_CFA && !rule->deref && *words == (int16_t)*words && *words &&
           rule->first % (int32_t)sizeof(uintptr_t) == 0;
}

static uint64_t step_of_row(const hl_row *row)
{
    const hl_rule *ra = &row->regs[HL_REG_RA], *fp = &row->regs[HL_REG_FP], *cfa = &row->cfa;
    int64_t fp_words = 1, ra_words;
    if (ra->how == HL_RULE_UNDEFINED)
        return pack(HL_STEP_END, 0, 0, 0);
    bool aligned = cfa->deref && cfa->reg == HL_REG_FP && fp->how == HL_RULE_AT && fp->reg == HL_REG_FP &&
                   !fp->deref && fp->first == 0;
    if ((!aligned && !in_words(fp, &fp_words)) || !in_words(ra, &ra_words) ||
        row->regs[HL_REG_SP].how != HL_RULE_SAME || cfa->first >= 1 << 27 || cfa->first < -(1 << 27) ||
        (cfa->reg != HL_REG_SP && cfa->reg != HL_REG_FP))
        return pack(HL_STEP_FULL, 0, 0, 0);
#if defined(__x86_64__)
    if (ra_words != -1 || cfa->then != (int16_t)cfa->then)
        return pack(HL_STEP_FULL, 0, 0, 0);
    unsigned deref = aligned ? HL_STEP_ALIGNED : cfa->reg == HL_REG_SP ? HL_STEP_SP_DEREF : HL_STEP_FP_DEREF;
    if (cfa->deref)
        return pack(deref, fp_words, cfa->then, cfa->first);
#else
    if (cfa->deref || aligned)
        return pack(HL_STEP_FULL, 0, 0, 0);
#endif
    return pack(cfa->reg == HL_REG_SP ? HL_STEP_SP : HL_STEP_FP, fp_words, ra_words, cfa->first);
}

uint64_t hl_cfi_step(hl_walker *walker, const hl_code *code, uintptr_t at)
{
    int found = code ? hl_cfi_row(walker, code, at) : HL_CFI_NONE;
    if (found == HL_CFI_FRAME)
        return step_of_row(&walker->row);
    if (hl_is_sigreturn(code, at))
        return pack(HL_STEP_SIGNAL, 0, 0, 0);
    if (found == HL_CFI_NONE && code && begins_function(code, at + 1))
        return pack(HL_STEP_END, 0, 0, 0);
    return pack(found == HL_CFI_SIGNAL ? HL_STEP_FULL : HL_STEP_NO_DATA, 0, 0, 0);
}
