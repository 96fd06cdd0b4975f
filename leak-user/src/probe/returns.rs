//! Where a function returns, for kernels on which a return probe could kill the target.
//!
//! A probe on each `ret` that the function can come to sees its result as well. It costs ten times as
//! much, since the kernel must single-step the instruction; so it is the way only where the other is
//! dangerous.

use std::collections::HashSet;

use iced_x86::{Decoder, DecoderOptions, FlowControl};

/// Instructions followed.
const MAX_INSTRUCTIONS: usize = 1 << 14;
/// Longest instruction.
const LONGEST: usize = 15;

/// The places of the `ret` instructions that the code at `start` can come to without a call, in order. A
/// jump to another function is followed there: that one returns for both. None where it can't be told:
/// a jump to a place that is known at run time only, code that can't be read, or no end.
///
/// `read` gives bytes from a place on, as many as there are up to [`LONGEST`].
pub fn find(start: u64, read: impl Fn(u64) -> Option<Vec<u8>>) -> Option<Vec<u64>> {
    let mut returns = Vec::new();
    let mut seen = HashSet::new();
    let mut blocks = vec![start];
    while let Some(block) = blocks.pop() {
        let mut at = block;
        while seen.insert(at) {
            if seen.len() > MAX_INSTRUCTIONS {
                return None;
            }
            let bytes = read(at)?;
            let bytes = bytes.get(..LONGEST).unwrap_or(&bytes);
            let instruction = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE).decode();
            if instruction.is_invalid() {
                return None;
            }
            match instruction.flow_control() {
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {}
                FlowControl::ConditionalBranch => blocks.push(instruction.near_branch_target()),
                FlowControl::UnconditionalBranch => {
                    blocks.push(instruction.near_branch_target());
                    break;
                }
                FlowControl::Return => {
                    returns.push(at);
                    break;
                }
                // `ud2`, `hlt`: does not return.
                FlowControl::Exception | FlowControl::Interrupt => break,
                FlowControl::IndirectBranch | FlowControl::XbeginXabortXend => return None,
            }
            at = instruction.next_ip();
        }
    }
    returns.sort_unstable();
    (!returns.is_empty()).then_some(returns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returns(code: &[u8]) -> Option<Vec<u64>> {
        find(0, |at| code.get(at as usize..).map(<[u8]>::to_vec))
    }

    #[test]
    fn all_ends_are_found() {
        // 0: je 4; 2: ret; 3: nop; 4: jmp 7; 6: nop; 7: call 7; 12: ret
        let code = [0x74, 2, 0xc3, 0x90, 0xeb, 1, 0x90, 0xe8, 0xfb, 0xff, 0xff, 0xff, 0xc3];
        assert_eq!(returns(&code), Some(vec![2, 12]));
        // 0: jmp -2: never returns.
        assert_eq!(returns(&[0xeb, 0xfe]), None);
        // 0: ud2
        assert_eq!(returns(&[0x0f, 0x0b]), None);
        // 0: je 3; 2: ret; 3: jmp *%rax: somewhere else.
        assert_eq!(returns(&[0x74, 1, 0xc3, 0xff, 0xe0]), None);
        // Out of what can be read.
        assert_eq!(returns(&[0xeb, 0x70]), None);
        assert_eq!(returns(&[]), None);
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_survived(code: Vec<u8>) {
            for at in returns(&code).unwrap_or_default() {
                proptest::prop_assert!(at < code.len() as u64);
            }
        }
    }
}
