//! Which fixed addresses a piece of code refers to: how static variables of a stripped file are
//! found.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess,
    OpKind, Register,
};

/// A fixed address that an instruction reads, writes, computes or calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// The address.
    pub address: u64,
    /// Bytes accessed there; 0: only the address is taken.
    pub size: u64,
}

/// The fixed addresses in `code`, in its order. Follows registers loaded with a constant, which is
/// how some compilers reach the fields of a static struct. Branches are not followed.
#[must_use]
pub fn references(code: &[u8], address: u64) -> Vec<Reference> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut info = InstructionInfoFactory::new();
    let mut constants: Vec<(Register, u64)> = Vec::new();
    let mut found = Vec::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            break;
        }
        let constant = constant(&instruction);
        if let Some((_, address)) = constant {
            found.push(Reference { address, size: 0 });
        } else if let Some(address) = memory_address(&instruction, &constants) {
            let size = instruction.memory_size().size() as u64;
            found.push(Reference { address, size });
        }
        for used in info.info(&instruction).used_registers() {
            if !matches!(used.access(), OpAccess::Read | OpAccess::CondRead) {
                let written = used.register().full_register();
                constants.retain(|(register, _)| *register != written);
            }
        }
        constants.extend(constant);
    }
    found
}

/// The distances from the fs base of the thread-local words that `code` loads, in its order (they are
/// negative, as two's complement).
#[must_use]
pub fn thread_locals(code: &[u8], address: u64) -> Vec<u64> {
    Decoder::with_ip(64, code, address, DecoderOptions::NONE)
        .iter()
        .take_while(|instruction| !instruction.is_invalid())
        .filter(|instruction| {
            matches!(instruction.code(), Code::Mov_r64_rm64 | Code::Mov_RAX_moffs64)
                && instruction.segment_prefix() == Register::FS
                && instruction.memory_base() == Register::None
                && instruction.memory_index() == Register::None
        })
        .map(|instruction| instruction.memory_displacement64())
        .collect()
}

/// A thread-local word that is found by a call of `__tls_get_addr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynamicLocal {
    /// Where the call's argument is: the module's number, and an offset in its block.
    pub index: u64,
    /// Added to what the call returns.
    pub offset: u64,
}

/// The first word that `code` loads by such a call: `lea INDEX(%rip),%rdi`, the call, `mov OFFSET(%rax),%rax`.
#[must_use]
pub fn dynamic_local(code: &[u8], address: u64) -> Option<DynamicLocal> {
    let mut instructions = Decoder::with_ip(64, code, address, DecoderOptions::NONE)
        .into_iter()
        .take_while(|instruction| !instruction.is_invalid());
    let argument = instructions.find(|instruction| {
        instruction.code() == Code::Lea_r64_m
            && instruction.op0_register() == Register::RDI
            && instruction.is_ip_rel_memory_operand()
    })?;
    let calls = [FlowControl::Call, FlowControl::IndirectCall];
    instructions.next().filter(|next| calls.contains(&next.flow_control()))?;
    let load = instructions.find(|instruction| {
        instruction.code() == Code::Mov_r64_rm64
            && instruction.memory_base() == Register::RAX
            && instruction.memory_index() == Register::None
    })?;
    let index = argument.ip_rel_memory_address();
    Some(DynamicLocal { index, offset: load.memory_displacement64() })
}

/// The functions that `code` calls directly, or jumps to outside itself.
#[must_use]
pub fn callees(code: &[u8], address: u64) -> Vec<u64> {
    let within = address..address.saturating_add(code.len() as u64);
    Decoder::with_ip(64, code, address, DecoderOptions::NONE)
        .iter()
        .take_while(|instruction| !instruction.is_invalid())
        .filter(|instruction| instruction.op0_kind() == OpKind::NearBranch64)
        .filter(|instruction| {
            instruction.flow_control() == FlowControl::Call
                || !within.contains(&instruction.near_branch_target())
        })
        .map(|instruction| instruction.near_branch_target())
        .collect()
}

/// Where `code` goes on outside itself on a condition: a part of the same function that the compiler has put
/// elsewhere, since it is seldom run.
#[must_use]
pub fn moved_parts(code: &[u8], address: u64) -> Vec<u64> {
    let within = address..address.saturating_add(code.len() as u64);
    Decoder::with_ip(64, code, address, DecoderOptions::NONE)
        .iter()
        .take_while(|instruction| !instruction.is_invalid())
        .filter(|instruction| instruction.flow_control() == FlowControl::ConditionalBranch)
        .map(|instruction| instruction.near_branch_target())
        .filter(|target| !within.contains(target))
        .collect()
}

fn constant(instruction: &Instruction) -> Option<(Register, u64)> {
    let register = instruction.op0_register().full_register();
    match instruction.code() {
        Code::Lea_r64_m if instruction.is_ip_rel_memory_operand() => {
            Some((register, instruction.ip_rel_memory_address()))
        }
        Code::Mov_r32_imm32 => Some((register, instruction.immediate32().into())),
        Code::Mov_r64_imm64 => Some((register, instruction.immediate64())),
        _ => None,
    }
}

fn memory_address(instruction: &Instruction, constants: &[(Register, u64)]) -> Option<u64> {
    if instruction.is_ip_rel_memory_operand() {
        return Some(instruction.ip_rel_memory_address());
    }
    let has_memory = (0..instruction.op_count()).any(|i| instruction.op_kind(i) == OpKind::Memory);
    let no_segment = instruction.segment_prefix() == Register::None;
    if !has_memory || !no_segment || instruction.memory_index() != Register::None {
        return None;
    }
    let displacement = instruction.memory_displacement64();
    if instruction.memory_base() == Register::None {
        return Some(displacement);
    }
    let (_, base) =
        constants.iter().find(|(register, _)| *register == instruction.memory_base())?;
    Some(base.wrapping_add(displacement))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(code: &[u8], at: u64) -> Vec<(u64, u64)> {
        references(code, at).iter().map(|r| (r.address, r.size)).collect()
    }

    #[test]
    fn relative_and_absolute_operands() {
        // mov 0x2ad071(%rip),%rdi; jmp *0x2ad073(%rip)
        let code = [0x48, 0x8b, 0x3d, 0x71, 0xd0, 0x2a, 0, 0xff, 0x25, 0x73, 0xd0, 0x2a, 0];
        assert_eq!(addresses(&code, 0x1af1e8), [(0x45_c260, 8), (0x45_c268, 8)]);
        // mov 0x959f48,%rax (absolute)
        let code = [0x48, 0x8b, 0x04, 0x25, 0x48, 0x9f, 0x95, 0];
        assert_eq!(addresses(&code, 0x40_0000), [(0x95_9f48, 8)]);
    }

    #[test]
    fn fields_behind_a_register_until_it_is_overwritten() {
        // lea 0x1000(%rip),%rax; mov 0x8(%rax),%rcx; mov (%rax),%rdi; mov %rcx,%rax; mov 8(%rax),%rdx
        let code = [
            0x48, 0x8d, 0x05, 0, 0x10, 0, 0, 0x48, 0x8b, 0x48, 8, 0x48, 0x8b, 0x38, 0x48, 0x89,
            0xc8, 0x48, 0x8b, 0x50, 8,
        ];
        assert_eq!(addresses(&code, 0), [(0x1007, 0), (0x100f, 8), (0x1007, 8)]);
    }

    #[test]
    fn words_of_a_thread() {
        // endbr64; mov %fs:0xffffffffffffffd8,%rax; ret
        let code =
            [0xf3, 0x0f, 0x1e, 0xfa, 0x64, 0x48, 0x8b, 0x04, 0x25, 0xd8, 0xff, 0xff, 0xff, 0xc3];
        assert_eq!(thread_locals(&code, 0x40_0000), [-0x28_i64 as u64]);
        // mov 0x959f48,%rax
        assert!(thread_locals(&[0x48, 0x8b, 0x04, 0x25, 0x48, 0x9f, 0x95, 0], 0).is_empty());
    }

    #[test]
    fn a_thread_local_word_of_a_library() {
        // endbr64; push %rbp; mov %rsp,%rbp; lea 0x4a5231(%rip),%rdi; call +0; pop %rbp; mov 0x28(%rax),%rax; ret
        let code = [
            0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0x48, 0x8d, 0x3d, 0x31, 0x52, 0x4a, 0,
            0xe8, 0, 0, 0, 0, 0x5d, 0x48, 0x8b, 0x80, 0x28, 0, 0, 0, 0xc3,
        ];
        let expected = DynamicLocal { index: 0x86_f7b0, offset: 0x28 };
        assert_eq!(dynamic_local(&code, 0x3c_a570), Some(expected));
        assert_eq!(dynamic_local(&code[..20], 0x3c_a570), None, "no load");
        assert_eq!(dynamic_local(&code[15..], 0x3c_a570), None, "no argument");
    }

    #[test]
    fn calls_outside() {
        // call +0x100; je +0 (within); jmp -0x20
        let code = [0xe8, 0, 1, 0, 0, 0x74, 0, 0xe9, 0xdb, 0xff, 0xff, 0xff];
        assert_eq!(callees(&code, 0x1000), [0x1105, 0xfe7]);
    }

    proptest::proptest! {
        #[test]
        fn survives_anything(code: Vec<u8>, at: u64) {
            proptest::prop_assert!(references(&code, at).len() <= code.len());
            proptest::prop_assert!(callees(&code, at).len() <= code.len());
            proptest::prop_assert!(thread_locals(&code, at).len() <= code.len());
            let _ = dynamic_local(&code, at);
        }
    }
}
