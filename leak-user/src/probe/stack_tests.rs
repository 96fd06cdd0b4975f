//! Whether older kernels' verifiers would take the programs' stacks: this machine's may count more kindly.

use std::{cmp::max, collections::HashSet};

use aya_obj::{Object, generated::bpf_insn};

use super::{object, threads, tree};

/// `MAX_BPF_STACK`: what a program and the functions that it is in may use.
const LIMIT: u64 = 512;

/// Each function's part is rounded up to so much, by `check_max_stack_depth` in the kernel's kernel/bpf/verifier.c
/// before Linux 6.8 (to 16 where it is compiled, since).
const ROUNDED: u64 = 32;

/// The register that holds the frame's end.
const FRAME: u8 = 10;

/// Classes and operations of instructions, by the kernel's include/uapi/linux/bpf.h.
const CLASS: u8 = 7;
const STORES_AND_LOADS: std::ops::RangeInclusive<u8> = 1..=3;
const WIDE: u8 = 0x18;
const ADD: u8 = 0x07;
const MOVE: u8 = 0xbf;
const CALL: u8 = 0x85;
/// `src_reg` of a call of a function of the program's own, and of a wide load of its address.
const PSEUDO_CALL: u8 = 1;
const PSEUDO_FUNC: u8 = 4;

/// One function: the least offset from its frame's end, and those that it calls.
struct Function {
    depth: u64,
    calls: Vec<usize>,
}

/// The function that begins at an instruction, and ends before the next in `starts`.
fn function(code: &[bpf_insn], start: usize, starts: &HashSet<usize>) -> Function {
    let (mut depth, mut calls, mut at) = (0, Vec::new(), start);
    // The compiler addresses the frame by a copy of its register, from which it subtracts.
    let mut is_copy = [false; 16];
    while at < code.len() && (at == start || !starts.contains(&at)) {
        let one = &code[at];
        let (source, target) = (one.src_reg(), one.dst_reg());
        if let Some(callee) = callee(one, at) {
            calls.push(callee);
        }
        let loads_or_stores = STORES_AND_LOADS.contains(&(one.code & CLASS)) && one.code != WIDE;
        if loads_or_stores && (source == FRAME || target == FRAME) {
            depth = max(depth, u64::from(one.off.min(0).unsigned_abs()));
        }
        if one.code == ADD && is_copy[usize::from(target)] {
            depth = max(depth, u64::from(one.imm.min(0).unsigned_abs()));
        }
        is_copy[usize::from(target)] = one.code == MOVE && source == FRAME;
        at += if one.code == WIDE { 2 } else { 1 };
    }
    Function { depth, calls }
}

fn callee(one: &bpf_insn, at: usize) -> Option<usize> {
    let calls = (one.code == CALL && one.src_reg() == PSEUDO_CALL)
        || (one.code == WIDE && one.src_reg() == PSEUDO_FUNC);
    calls.then(|| (at as i64 + 1 + i64::from(one.imm)) as usize)
}

/// What the function at an instruction uses with all that it calls, and by which functions.
fn deepest(code: &[bpf_insn], start: usize, starts: &HashSet<usize>) -> (u64, Vec<u64>) {
    let own = function(code, start, starts);
    let below = own.calls.iter().map(|&callee| deepest(code, callee, starts));
    let (below, mut path) = below.max_by_key(|(depth, _)| *depth).unwrap_or_default();
    path.insert(0, own.depth);
    (own.depth.max(1).next_multiple_of(ROUNDED) + below, path)
}

#[test]
fn no_program_needs_more_stack_than_linux_5_17_gives() {
    let mut too_deep = Vec::new();
    for object in [object::OBJECT, threads::OBJECT, tree::OBJECT] {
        let mut object = Object::parse(object).unwrap();
        let sections: HashSet<usize> =
            object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_calls(&sections).unwrap();
        for (name, program) in &object.programs {
            let code = &object.functions[&program.function_key()].instructions;
            let callees = code.iter().enumerate().filter_map(|(at, one)| callee(one, at));
            let starts: HashSet<usize> = callees.collect();
            let (depth, path) = deepest(code, 0, &starts);
            if depth > LIMIT {
                too_deep.push(format!("{name}: {depth} bytes, by {path:?}"));
            }
        }
    }
    too_deep.sort_unstable();
    assert!(too_deep.is_empty(), "{too_deep:#?}");
}
