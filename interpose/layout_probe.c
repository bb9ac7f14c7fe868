/*
 * Compiled to assembly only, never linked: build.rs reads the lines marked
 * "->" and turns them into the constants that src/ledger/layout.rs is checked
 * against. The compiler that builds the core is the one that is asked.
 */
#include <stddef.h>

#include "ledger.h"

#define FACT(name, value) __asm__ volatile("\n#-> " #name " %0" ::"i"((long long)(value)))
#define BYTES(type) FACT(type.SIZE, sizeof(type))
#define FIELD(type, field) FACT(type.field, offsetof(type, field))

void hl_layout_probe(void);
void hl_layout_probe(void)
{
    FACT(const.MAGIC, HL_MAGIC);
    FACT(const.LAYOUT, HL_LAYOUT);
    FACT(const.PAGE_BYTES, HL_PAGE_BYTES);
    FACT(const.MAX_PAGES, HL_MAX_PAGES);
    FACT(const.QUANTUM, HL_QUANTUM);
    FACT(const.STATE_READY, HL_STATE_READY);
    FACT(const.HOOKS_C, HL_HOOKS_C);
    FACT(const.HOOKS_RUST, HL_HOOKS_RUST);
    FACT(const.NEXT_GLIBC, HL_NEXT_GLIBC);
    FACT(const.FLAG_FORKED, HL_FLAG_FORKED);
    FACT(const.FLAG_PRELOAD, HL_FLAG_PRELOAD);
    FACT(const.FLAG_DETACHED, HL_FLAG_DETACHED);
    FACT(const.FLAG_BYPASSED, HL_FLAG_BYPASSED);
    FACT(const.OWNER_SITE, HL_OWNER_SITE);
    FACT(const.OWNER_OVERFLOW, HL_OWNER_OVERFLOW);
    FACT(const.OWNER_CHARGE, HL_OWNER_CHARGE);
    FACT(const.SLOT_THREAD, HL_SLOT_THREAD);
    FACT(const.SLOT_SHARED, HL_SLOT_SHARED);
    FACT(const.SLOT_INHERITED, HL_SLOT_INHERITED);
    FACT(const.CROSSED_ARMED, HL_CROSSED_ARMED);
    FACT(const.CROSSED_ASKED, HL_CROSSED_ASKED);
    FACT(const.CROSSED_POKED, HL_CROSSED_POKED);
    FACT(const.ACTION_TRIM, HL_ACTION_TRIM);
    FACT(const.ACTION_PYTHON, HL_ACTION_PYTHON);
    FACT(const.ACTION_JVM, HL_ACTION_JVM);
    FACT(const.REQUEST_NO_PURGE, HL_REQUEST_NO_PURGE);
    FACT(const.REQUEST_PURGE, HL_REQUEST_PURGE);
    FACT(const.TRIGGER_GROWTH, HL_TRIGGER_GROWTH);
    FACT(const.TRIGGER_SOFT_LIMIT, HL_TRIGGER_SOFT_LIMIT);
    FACT(const.TRIGGER_HARD_LIMIT, HL_TRIGGER_HARD_LIMIT);
    FACT(const.TRIGGER_CGROUP, HL_TRIGGER_CGROUP);
    FACT(const.TRIGGER_PSI, HL_TRIGGER_PSI);
    FACT(const.TRIGGER_ASKED, HL_TRIGGER_ASKED);
    FACT(const.ENDING_RETURNED, HL_ENDING_RETURNED);
    FACT(const.ENDING_PANICKED, HL_ENDING_PANICKED);
    FACT(const.ENDING_LATE, HL_ENDING_LATE);
    FACT(const.CLEANUP_NAME_BYTES, HL_CLEANUP_NAME_BYTES);
    FACT(const.CLEANUP_CALLS, HL_CLEANUP_CALLS);
    FACT(const.CLAIM_UNKNOWN, HL_CLAIM_UNKNOWN);
    FACT(const.CLEANUPS, HL_CLEANUPS);
    FACT(const.ANSWERS, HL_ANSWERS);
    FACT(const.ENDING_NONE, HL_ENDING_NONE);
    FACT(const.MAX_OWNERS, HL_MAX_OWNERS);
    FACT(const.FIRST_OWNER, HL_FIRST_OWNER);
    FACT(const.OWNERS_PER_PAGE, HL_OWNERS_PER_PAGE);
    FACT(const.OWNER_PAGES, HL_OWNER_PAGES);
    FACT(const.MODULES_PER_PAGE, HL_MODULES_PER_PAGE);
    FACT(const.MODULE_PAGES, HL_MODULE_PAGES);
    FACT(const.SCOPES_PER_PAGE, HL_SCOPES_PER_PAGE);
    FACT(const.SCOPE_PAGES, HL_SCOPE_PAGES);
    FACT(const.RECORDS_PER_PAGE, HL_RECORDS_PER_PAGE);
    FACT(const.RECORD_PAGES, HL_RECORD_PAGES);
    FACT(const.STACKS_PER_PAGE, HL_STACKS_PER_PAGE);
    FACT(const.STACK_PAGES, HL_STACK_PAGES);
    FACT(const.MISUSES_PER_PAGE, HL_MISUSES_PER_PAGE);
    FACT(const.MISUSE_PAGES, HL_MISUSE_PAGES);
    FACT(const.ROWS_SAMPLED, HL_ROWS_SAMPLED);
    FACT(const.ROWS_EXACT, HL_ROWS_EXACT);
    FACT(const.MISUSE_DOUBLE_FREE, HL_MISUSE_DOUBLE_FREE);
    FACT(const.MISUSE_NEVER_ALLOCATED, HL_MISUSE_NEVER_ALLOCATED);
    FACT(const.MISUSE_NEVER_SEEN, HL_MISUSE_NEVER_SEEN);
    FACT(const.MISUSE_RUST_BY_C, HL_MISUSE_RUST_BY_C);
    FACT(const.MISUSE_C_BY_RUST, HL_MISUSE_C_BY_RUST);
    FACT(const.MISUSE_OTHER_SIZE, HL_MISUSE_OTHER_SIZE);
    FACT(const.CALL_FREE, HL_CALL_FREE);
    FACT(const.CALL_REALLOC, HL_CALL_REALLOC);
    FACT(const.STACK_WHOLE, HL_STACK_WHOLE);
    FACT(const.STACK_DEEP, HL_STACK_DEEP);
    FACT(const.STACK_LOST, HL_STACK_LOST);
    FACT(const.STACK_TORN, HL_STACK_TORN);
    FACT(const.STACK_GUESSED, HL_STACK_GUESSED);
    FACT(const.STACK_OVERFLOW, HL_STACK_OVERFLOW);
    FACT(const.WEIGHT_BLOCK, HL_WEIGHT_BLOCK);
    FACT(const.WEIGHT_SPREAD, HL_WEIGHT_SPREAD);
    FACT(const.BUILD_ID_BYTES, HL_BUILD_ID_BYTES);
    FACT(const.LINEAR_SIZES, HL_LINEAR_SIZES);
    FACT(const.LINEAR_SHIFT, HL_LINEAR_SHIFT);
    FACT(const.LINEAR_EXTRA, HL_LINEAR_EXTRA);
    FACT(const.SIZE_BITS, HL_SIZE_BITS);
    FACT(const.SIZE_BUCKETS, HL_SIZE_BUCKETS);
    FACT(const.LIFETIME_BITS, HL_LIFETIME_BITS);
    FACT(const.LIFETIME_BUCKETS, HL_LIFETIME_BUCKETS);

    BYTES(hl_text);
    FIELD(hl_text, reference);
    FIELD(hl_text, bytes);

    BYTES(hl_weights);
    FIELD(hl_weights, samples);
    FIELD(hl_weights, blocks);
    FIELD(hl_weights, bytes);
    FIELD(hl_weights, spread_blocks);
    FIELD(hl_weights, spread_bytes);

    BYTES(hl_stack);
    FIELD(hl_stack, hash);
    FIELD(hl_stack, frames);
    FIELD(hl_stack, tag);
    FIELD(hl_stack, thread);
    FIELD(hl_stack, how);
    FIELD(hl_stack, ready);

    BYTES(hl_sampled);
    FIELD(hl_sampled, stack);
    FIELD(hl_sampled, allocated);
    FIELD(hl_sampled, freed);
    FIELD(hl_sampled, short_blocks);
    FIELD(hl_sampled, lived_ns);

    BYTES(hl_lives);
    FIELD(hl_lives, samples);
    FIELD(hl_lives, longest_ns);
    FIELD(hl_lives, buckets);

    BYTES(hl_lifetimes);
    FIELD(hl_lifetimes, step_ns);
    FIELD(hl_lifetimes, sides);
    FIELD(hl_lifetimes, reserved);

    BYTES(hl_exact);
    FIELD(hl_exact, stack);
    FIELD(hl_exact, allocated_blocks);
    FIELD(hl_exact, allocated_bytes);
    FIELD(hl_exact, freed_blocks);
    FIELD(hl_exact, freed_bytes);
    FIELD(hl_exact, elsewhere_blocks);
    FIELD(hl_exact, elsewhere_bytes);
    FIELD(hl_exact, temporary_blocks);
    FIELD(hl_exact, temporary_bytes);
    FIELD(hl_exact, peak_blocks);
    FIELD(hl_exact, peak_bytes);
    FIELD(hl_exact, excursion);
    FIELD(hl_exact, reserved);

    BYTES(hl_misuse);
    FIELD(hl_misuse, block);
    FIELD(hl_misuse, bytes);
    FIELD(hl_misuse, inside);
    FIELD(hl_misuse, allocated);
    FIELD(hl_misuse, freed);
    FIELD(hl_misuse, called);
    FIELD(hl_misuse, thread);
    FIELD(hl_misuse, mono_ns);
    FIELD(hl_misuse, count);
    FIELD(hl_misuse, call);
    FIELD(hl_misuse, doubt);
    FIELD(hl_misuse, kind);

    BYTES(hl_samples);
    FIELD(hl_samples, mean_bytes);
    FIELD(hl_samples, row_count);
    FIELD(hl_samples, rows);
    FIELD(hl_samples, misuse_count);
    FIELD(hl_samples, reserved);
    FIELD(hl_samples, misuses_dropped);
    FIELD(hl_samples, misuse_pages);
    FIELD(hl_samples, reserved1);
    FIELD(hl_samples, held_bytes);
    FIELD(hl_samples, most_bytes);
    FIELD(hl_samples, excursion);
    FIELD(hl_samples, reserved2);
    FIELD(hl_samples, row_pages);

    BYTES(hl_record);
    FIELD(hl_record, allocated_bytes);
    FIELD(hl_record, allocated_blocks);
    FIELD(hl_record, requested_bytes);
    FIELD(hl_record, freed_bytes);
    FIELD(hl_record, freed_blocks);
    FIELD(hl_record, reallocs);
    FIELD(hl_record, key);
    FIELD(hl_record, owner);
    FIELD(hl_record, reserved);

    BYTES(hl_owner);
    FIELD(hl_owner, call_site);
    FIELD(hl_owner, tag);
    FIELD(hl_owner, module);
    FIELD(hl_owner, kind);
    FIELD(hl_owner, reserved);
    FIELD(hl_owner, peak_bytes);
    FIELD(hl_owner, peak_blocks);
    FIELD(hl_owner, reserved2);

    BYTES(hl_module);
    FIELD(hl_module, start);
    FIELD(hl_module, end);
    FIELD(hl_module, bias);
    FIELD(hl_module, path);
    FIELD(hl_module, build_id_bytes);
    FIELD(hl_module, ready);
    FIELD(hl_module, build_id);
    FIELD(hl_module, reserved);

    BYTES(hl_flow);
    FIELD(hl_flow, allocated_bytes);
    FIELD(hl_flow, freed_bytes);

    BYTES(hl_totals);
    FIELD(hl_totals, allocated_bytes);
    FIELD(hl_totals, allocated_blocks);
    FIELD(hl_totals, requested_bytes);
    FIELD(hl_totals, freed_bytes);
    FIELD(hl_totals, freed_blocks);
    FIELD(hl_totals, reallocs);

    BYTES(hl_hot);
    FIELD(hl_hot, allocated);
    FIELD(hl_hot, freed);
    FIELD(hl_hot, longest);
    FIELD(hl_hot, unused);

    BYTES(hl_slot);
    FIELD(hl_slot, tid);
    FIELD(hl_slot, kind);
    FIELD(hl_slot, next);
    FIELD(hl_slot, generation);
    FIELD(hl_slot, flow);
    FIELD(hl_slot, published);
    FIELD(hl_slot, foreign_frees);
    FIELD(hl_slot, crossed_frees);
    FIELD(hl_slot, record_count);
    FIELD(hl_slot, reserved);
    FIELD(hl_slot, ended);
    FIELD(hl_slot, record_pages);
    FIELD(hl_slot, sizes);
    FIELD(hl_slot, reserved2);
    FIELD(hl_slot, hot);
    FIELD(hl_slot, reserved3);

    BYTES(hl_pressure);
    FIELD(hl_pressure, armed_bytes);
    FIELD(hl_pressure, crossed);
    FIELD(hl_pressure, level);
    FIELD(hl_pressure, request);
    FIELD(hl_pressure, request_level);
    FIELD(hl_pressure, request_target_bytes);
    FIELD(hl_pressure, done);
    FIELD(hl_pressure, asked);
    FIELD(hl_pressure, claimed_bytes);
    FIELD(hl_pressure, asked_bytes);
    FIELD(hl_pressure, bell);
    FIELD(hl_pressure, crossings);
    FIELD(hl_pressure, helper);
    FIELD(hl_pressure, actions);
    FIELD(hl_pressure, acted);
    FIELD(hl_pressure, reclaimers);
    FIELD(hl_pressure, driver);
    FIELD(hl_pressure, history);
    FIELD(hl_pressure, answers);
    FIELD(hl_pressure, beat);
    FIELD(hl_pressure, refuse_bytes);
    FIELD(hl_pressure, refused);
    FIELD(hl_pressure, refused_bytes);
    FIELD(hl_pressure, reserved);

    BYTES(hl_cleanup_call);
    FIELD(hl_cleanup_call, claimed_bytes);
    FIELD(hl_cleanup_call, took_us);
    FIELD(hl_cleanup_call, ending);
    FIELD(hl_cleanup_call, name);

    BYTES(hl_answers);
    FIELD(hl_answers, request);
    FIELD(hl_answers, count);
    FIELD(hl_answers, reserved);
    FIELD(hl_answers, calls);

    BYTES(hl_cleanup);
    FIELD(hl_cleanup, number);
    FIELD(hl_cleanup, started_mono_ns);
    FIELD(hl_cleanup, took_ns);
    FIELD(hl_cleanup, settle_ns);
    FIELD(hl_cleanup, before_bytes);
    FIELD(hl_cleanup, freed_bytes);
    FIELD(hl_cleanup, claimed_bytes);
    FIELD(hl_cleanup, target_bytes);
    FIELD(hl_cleanup, trigger);
    FIELD(hl_cleanup, level);
    FIELD(hl_cleanup, called);
    FIELD(hl_cleanup, reserved);
    FIELD(hl_cleanup, calls);
    FIELD(hl_cleanup, reserved2);

    BYTES(hl_header);
    FIELD(hl_header, magic);
    FIELD(hl_header, layout);
    FIELD(hl_header, page_bytes);
    FIELD(hl_header, state);
    FIELD(hl_header, flags);
    FIELD(hl_header, pid);
    FIELD(hl_header, parent_pid);
    FIELD(hl_header, uid);
    FIELD(hl_header, hooks);
    FIELD(hl_header, next_allocator);
    FIELD(hl_header, granule_shift);
    FIELD(hl_header, start_ticks);
    FIELD(hl_header, created_mono_ns);
    FIELD(hl_header, created_unix_ns);
    FIELD(hl_header, exe);
    FIELD(hl_header, args);
    FIELD(hl_header, next_page);
    FIELD(hl_header, owner_count);
    FIELD(hl_header, module_count);
    FIELD(hl_header, scope_count);
    FIELD(hl_header, slot_count);
    FIELD(hl_header, first_slot);
    FIELD(hl_header, text_cursor);
    FIELD(hl_header, live);
    FIELD(hl_header, peak);
    FIELD(hl_header, peak_mono_ns);
    FIELD(hl_header, peak_capture);
    FIELD(hl_header, peak_capturer);
    FIELD(hl_header, captured_live);
    FIELD(hl_header, captured_mono_ns);
    FIELD(hl_header, owners_overflowed);
    FIELD(hl_header, slots_overflowed);
    FIELD(hl_header, scopes_overflowed);
    FIELD(hl_header, pages_refused);
    FIELD(hl_header, children_untracked);
    FIELD(hl_header, samples_dropped);
    FIELD(hl_header, stacks_overflowed);
    FIELD(hl_header, blocks_unbooked);
    FIELD(hl_header, reserved_losses);
    FIELD(hl_header, pressure);
    FIELD(hl_header, samples);
    FIELD(hl_header, lifetimes);
    FIELD(hl_header, reserved);
    FIELD(hl_header, module_pages);
    FIELD(hl_header, scope_pages);
    FIELD(hl_header, owner_pages);
}
