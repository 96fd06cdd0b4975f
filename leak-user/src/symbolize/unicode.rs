//! Python strings, read from outside.

use crate::target::layout::Layout;
use crate::target::memory::Memory;
use crate::units::Addr;

/// Bytes up to the state word, in the layout where it lies farthest in.
pub const MAX_HEAD: usize = 64;

/// The text of a `str`, cut after `max_chars` characters; None where there is none.
///
/// All kinds: compact ASCII, compact with 1, 2 or 4 bytes a character, and those whose data lies
/// elsewhere (subclasses). State bits (`Include/cpython/unicodeobject.h`): three of the kind, then compact, then
/// ASCII.
#[must_use]
pub fn read<M: Memory>(
    memory: &M,
    layout: &Layout,
    addr: Addr,
    max_chars: usize,
) -> Option<String> {
    let state_at = usize::try_from(layout.unicode.state).ok()?;
    let mut head = [0; MAX_HEAD];
    let head = head.get_mut(..state_at + 4)?;
    memory.read(addr, head).ok()?;
    let length = usize::try_from(layout.object.size).ok()?;
    let length = u64::from_le_bytes(*head.get(length..)?.first_chunk()?);
    let state = u32::from_le_bytes(*head.get(state_at..)?.first_chunk()?);
    let state = state >> layout.unicode.kind;
    let width = match state & 7 {
        width @ (1 | 2 | 4) => width as usize,
        _ => return None,
    };
    // No string of a live process is longer than its address space.
    if length > 1 << 47 {
        return None;
    }
    let (compact, ascii) = (state & (1 << 3) != 0, state & (1 << 4) != 0);
    let data = match (compact, ascii) {
        (true, true) => addr.offset(layout.unicode.ascii_data),
        (true, false) => addr.offset(layout.unicode.compact_data),
        (false, _) => memory.pointer(addr.offset(layout.unicode.compact_data)).ok()?,
    };
    let chars = usize::try_from(length).ok()?.min(max_chars);
    let mut bytes = vec![0; chars.checked_mul(width)?];
    memory.read(data, &mut bytes).ok()?;
    Some(decode(&bytes, width))
}

/// Characters of `width` bytes each; what is none (lone surrogates) becomes U+FFFD.
fn decode(bytes: &[u8], width: usize) -> String {
    bytes
        .chunks_exact(width)
        .map(|unit| {
            let code = unit.iter().rev().fold(0, |code, byte| code << 8 | u32::from(*byte));
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::testing::{FakeMemory, Python, interpreters};
    use crate::target::layout::layout;

    #[test]
    fn lengths_and_kinds_are_checked() {
        let layout = layout((3, 12)).unwrap();
        let mut memory = FakeMemory::default();
        memory.map(0x1000, 64);
        memory.put(0x1010, 5);
        memory.put_half(0x1020, 1 << 2 | 1 << 5 | 1 << 6);
        memory.write(0x1000 + 40, b"hello");
        let text = |memory: &FakeMemory, max| read(memory, layout, Addr(0x1000), max);
        assert_eq!(text(&memory, 100).as_deref(), Some("hello"));
        assert_eq!(text(&memory, 3).as_deref(), Some("hel"));
        memory.put(0x1010, u64::MAX);
        assert_eq!(text(&memory, 100), None);
        memory.put(0x1010, 1000);
        assert_eq!(text(&memory, 100), None, "the data runs out of what is mapped");
        memory.put_half(0x1020, 3 << 2);
        assert_eq!(text(&memory, 100), None, "no such kind");
    }

    #[test]
    fn agrees_with_live_interpreters() {
        let program = "
import sys
class S(str): pass
keep = ['plain', 'caf\\xe9', '\\u0416\\u0443\\u043a', 'a\\U0001f40d', '', S('sub'), S('\\u0416'), 'x\\ud800']
print(*map(id, keep))
sys.stdin.readline()
";
        for (exe, layout) in interpreters() {
            let mut python = Python::run(&exe, program);
            let found: Vec<String> = python
                .numbers()
                .into_iter()
                .map(|addr| read(&python.memory(), layout, Addr(addr), 100).unwrap())
                .collect();
            assert_eq!(found, ["plain", "café", "Жук", "a🐍", "", "sub", "Ж", "x\u{fffd}"]);
        }
    }
}
