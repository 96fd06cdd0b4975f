//! Which instruction of a function is probed.
//!
//! A probe on an instruction that the kernel must single-step costs the target about ten times as
//! much as one on an instruction that it emulates. So: the first emulated instruction of the
//! straight-line prologue at which all that the program needs is still where it was on entry; where
//! there is none, the entry.
//!
//! Emulated on x86-64 by every kernel that leaktrace runs on (`arch/x86/kernel/uprobes.c`): `push` of a
//! register, `nop` of one byte, and near `jmp`, `call` and conditional jumps. Some kernels emulate longer
//! nops as well; they don't count, since others step over them, and Linux 6.18 puts a call in the place of one of
//! five bytes, which writes below the stack pointer, where code that is past its entry may keep data.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, Register,
};

/// The registers of the first five integer arguments.
const ARGUMENTS: [Register; 5] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8];

/// Longest prologue looked at.
const MAX_INSTRUCTIONS: usize = 24;

/// What a program needs at its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Which arguments, from 0, at most 4: they must still be in their registers.
    pub arguments: &'static [usize],
    /// The return address must be on top of the stack.
    pub return_address: bool,
}

impl Needs {
    fn includes(self, register: Register) -> bool {
        let is_it = |number: &usize| ARGUMENTS.get(*number) == Some(&register);
        self.arguments.iter().any(is_it) || (self.return_address && register == Register::RSP)
    }
}

/// Where to probe a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Bytes from the function's start.
    pub offset: u64,
    /// The kernel emulates the instruction there.
    pub emulated: bool,
}

/// Chooses the point from the function's first bytes.
#[must_use]
pub fn choose(code: &[u8], needs: Needs) -> Point {
    let entry = Point { offset: 0, emulated: false };
    let mut info = InstructionInfoFactory::new();
    for instruction in
        Decoder::with_ip(64, code, 0, DecoderOptions::NONE).iter().take(MAX_INSTRUCTIONS)
    {
        if instruction.is_invalid() {
            return entry;
        }
        if emulated(&instruction, code) {
            return Point { offset: instruction.ip(), emulated: true };
        }
        let spoils =
            info.info(&instruction).used_registers().iter().any(|used| {
                writes(used.access()) && needs.includes(used.register().full_register())
            });
        if spoils || instruction.flow_control() != FlowControl::Next {
            return entry;
        }
    }
    entry
}

/// What an instruction is called: `push`.
#[must_use]
pub fn name(code: &[u8], offset: u64) -> String {
    let code = usize::try_from(offset).ok().and_then(|offset| code.get(offset..));
    let mut decoder = Decoder::new(64, code.unwrap_or(&[]), DecoderOptions::NONE);
    format!("{:?}", decoder.decode().mnemonic()).to_lowercase()
}

fn writes(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
}

/// Does the kernel emulate it? Prefixed forms don't count: some of them it steps over or refuses.
fn emulated(instruction: &Instruction, code: &[u8]) -> bool {
    let start = instruction.ip() as usize;
    let first = code.get(start).copied().unwrap_or(0);
    match instruction.code() {
        // One byte, or two with REX.B for r8 to r15.
        Code::Push_r64 => matches!(first, 0x50..=0x57 | 0x41),
        Code::Nopd | Code::Nopw | Code::Nopq => first == 0x90 && instruction.len() == 1,
        Code::Jmp_rel8_64 | Code::Jmp_rel32_64 | Code::Call_rel32_64 => {
            matches!(first, 0xeb | 0xe9 | 0xe8)
        }
        _ => {
            instruction.mnemonic() != Mnemonic::Jrcxz
                && instruction.flow_control() == FlowControl::ConditionalBranch
                && matches!(first, 0x70..=0x7f | 0x0f)
        }
    }
}

/// Does the function's own code call `callee`? With `tails`, a jump there counts as well. Follows its
/// branches, at most `MAX_BODY` instructions; `code` holds bytes from its start on, addresses count from
/// `address`.
#[must_use]
pub fn calls(code: &[u8], address: u64, callee: u64, tails: bool) -> bool {
    const MAX_BODY: usize = 4096;
    let end = address.saturating_add(code.len() as u64);
    let mut seen = std::collections::HashSet::new();
    let mut blocks = vec![address];
    while let Some(start) = blocks.pop() {
        let mut at = start;
        while (address..end).contains(&at) && seen.len() < MAX_BODY && seen.insert(at) {
            let bytes = &code[(at - address) as usize..];
            let instruction = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE).decode();
            if instruction.is_invalid() {
                break;
            }
            let target = instruction.near_branch_target();
            match instruction.flow_control() {
                FlowControl::Call if target == callee => return true,
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
                    if tails && target == callee =>
                {
                    return true;
                }
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {}
                FlowControl::ConditionalBranch => blocks.push(target),
                FlowControl::UnconditionalBranch => {
                    blocks.push(target);
                    break;
                }
                _ => break,
            }
            at = instruction.next_ip();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a program may need.
    const ALL: Needs = Needs { arguments: &[0, 1, 2], return_address: true };
    const ENTRY: Point = Point { offset: 0, emulated: false };

    fn emulated_at(offset: u64) -> Point {
        Point { offset, emulated: true }
    }

    #[test]
    fn skips_to_the_push() {
        // lea -0x1(%rsi),%rax; push %rbx; mov %rsi,%rbx: _PyObject_Malloc of 3.11.7
        let code = [0x48, 0x8d, 0x46, 0xff, 0x53, 0x48, 0x89, 0xf3];
        assert_eq!(choose(&code, ALL), emulated_at(4));
    }

    #[test]
    fn instructions_have_names() {
        let code = [0x48, 0x8d, 0x46, 0xff, 0x53];
        assert_eq!([0, 4].map(|offset| name(&code, offset)), ["lea", "push"]);
        assert_eq!([5, u64::MAX].map(|offset| name(&code, offset)), ["invalid", "invalid"]);
    }

    #[test]
    fn takes_a_conditional_jump() {
        // test %rsi,%rsi; je …: _PyObject_Free
        let code = [0x48, 0x85, 0xf6, 0x74, 0x7b, 0x48, 0x89, 0xf1];
        assert_eq!(choose(&code, ALL), emulated_at(3));
        // test %rsi,%rsi; je (near)
        let code = [0x48, 0x85, 0xf6, 0x0f, 0x84, 0xaf, 0, 0, 0];
        assert_eq!(choose(&code, ALL), emulated_at(3));
    }

    #[test]
    fn a_high_register_is_pushed_with_a_prefix() {
        assert_eq!(choose(&[0x41, 0x54, 0x55], ALL), emulated_at(0));
    }

    #[test]
    fn longer_nops_are_passed_over() {
        // endbr64; xchg %ax,%ax; nopl 0x0(%rax,%rax,1); push %rbx
        let code = [0xf3, 0x0f, 0x1e, 0xfa, 0x66, 0x90, 0x0f, 0x1f, 0x44, 0, 0, 0x53];
        assert_eq!(choose(&code, ALL), emulated_at(11));
    }

    #[test]
    fn stops_where_an_argument_or_the_stack_pointer_changes() {
        // mov %rdx,%rsi; push %rbx
        assert_eq!(choose(&[0x48, 0x89, 0xd6, 0x53], ALL), ENTRY);
        // sub $8,%rsp; push %rbx
        assert_eq!(choose(&[0x48, 0x83, 0xec, 8, 0x53], ALL), ENTRY);
        // mov $1,%esi; push %rbx
        assert_eq!(choose(&[0xbe, 1, 0, 0, 0, 0x53], ALL), ENTRY);
        assert_eq!(choose(&[], ALL), ENTRY);
    }

    #[test]
    fn passes_where_an_argument_changes_that_is_not_needed() {
        // mov %rdi,%rax; mul %rsi; jo …: calloc of glibc 2.43; the product's upper half is in %rdx.
        let code = [0x48, 0x89, 0xf8, 0x48, 0xf7, 0xe6, 0x0f, 0x80, 0x9c, 1, 0, 0];
        let calloc = Needs { arguments: &[0, 1], return_address: true };
        assert_eq!(choose(&code, calloc), emulated_at(6));
        assert_eq!(choose(&code, ALL), ENTRY);
        // mov %rsi,%rdi; jmp …: _PyObject_MiFree of 3.13 without a GIL
        let code = [0x48, 0x89, 0xf7, 0xe9, 0xc8, 0xfc, 0xff, 0xff];
        assert_eq!(choose(&code, Needs { arguments: &[1], ..ALL }), emulated_at(3));
        assert_eq!(choose(&code, Needs { arguments: &[0, 1], ..ALL }), ENTRY);
    }

    #[test]
    fn passes_where_the_stack_pointer_changes_if_no_return_is_awaited() {
        // lea -0x1(%rsi),%rax; sub $0x18,%rsp; cmp $0x1ff,%rax; ja …: _PyObject_Malloc of Debian's 3.11
        let code = [
            0x48, 0x8d, 0x46, 0xff, 0x48, 0x83, 0xec, 0x18, 0x48, 0x3d, 0xff, 1, 0, 0, 0x0f, 0x87,
            0xca, 0, 0, 0,
        ];
        let size = Needs { arguments: &[1], return_address: false };
        assert_eq!(choose(&code, size), emulated_at(14));
        assert_eq!(choose(&code, Needs { return_address: true, ..size }), ENTRY);
        // endbr64; sub $0x18,%rsp; mov %rsi,%rcx; mov %fs:-0x18,%rax; mov 0x10(%rax),%rax;
        // mov 0x2a98(%rax),%r8; lea -0x1(%rsi),%rax; cmp $0x1ff,%rax; ja …: of Debian's 3.14
        let code = [
            0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x83, 0xec, 0x18, 0x48, 0x89, 0xf1, 0x64, 0x48, 0x8b,
            0x04, 0x25, 0xe8, 0xff, 0xff, 0xff, 0x48, 0x8b, 0x40, 0x10, 0x4c, 0x8b, 0x80, 0x98,
            0x2a, 0, 0, 0x48, 0x8d, 0x46, 0xff, 0x48, 0x3d, 0xff, 1, 0, 0, 0x77, 0x6f,
        ];
        assert_eq!(choose(&code, size), emulated_at(41));
    }

    #[test]
    fn stops_where_a_needed_argument_is_moved_away() {
        // endbr64; sub $0x28,%rsp; mov %rbx,0x18(%rsp); mov %rsi,%rbx; mov %rdx,%rsi; test %rbx,%rbx; je …:
        // _PyObject_Realloc of Debian's 3.14
        let code = [
            0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x83, 0xec, 0x28, 0x48, 0x89, 0x5c, 0x24, 0x18, 0x48,
            0x89, 0xf3, 0x48, 0x89, 0xd6, 0x48, 0x85, 0xdb, 0x0f, 0x84, 0xf8, 0, 0, 0,
        ];
        assert_eq!(choose(&code, Needs { arguments: &[1, 2], return_address: false }), ENTRY);
    }

    #[test]
    fn finds_calls_behind_branches() {
        // 0: je +5 -> 7; 2: call 0x100; 7: ret
        let code = [0x74, 5, 0xe8, 0xf9, 0, 0, 0, 0xc3];
        assert!(calls(&code, 0, 0x100, false));
        assert!(!calls(&code, 0, 0x104, true));
        // 0: jmp 0x100: a tail call
        assert!(calls(&[0xe9, 0xfb, 0, 0, 0], 0, 0x100, true));
        assert!(!calls(&[0xe9, 0xfb, 0, 0, 0], 0, 0x100, false));
        // At the end of all addresses there is nothing to follow.
        assert!(!calls(&[0x90, 0xc3], u64::MAX, 0x100, true));
        // 0: ret; 1: call: not reached
        let code = [0xc3, 0xe8, 0xfa, 0, 0, 0];
        assert!(!calls(&code, 0, 0x100, true));
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_survived(code: Vec<u8>) {
            let point = choose(&code, ALL);
            proptest::prop_assert!(point.offset == 0 || point.offset < code.len() as u64);
            let _ = calls(&code, 0x1000, 0x1003, true);
        }
    }
}
