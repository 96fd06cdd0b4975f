//! One Python frame in eight bytes.
//!
//! A code object is 8-byte aligned and lies in the lower 47 bits of the address space, so 44 bits name
//! it. One bit says whether C code lies between the frame and the one that it called. The other 19 hold
//! the index of the running code unit (2 bytes each), enough for one MiB of bytecode; a larger index is
//! stored as [`UNIT_UNKNOWN`] and the line is then the function's first.

const UNIT_BITS: u32 = 19;

/// Set where the frame's callee was entered from C: the two belong to different calls of the interpreter's
/// loop.
const CALLS_C: u64 = 1 << UNIT_BITS;

const CODE_SHIFT: u32 = UNIT_BITS + 1;

/// The code unit is not known (bytecode longer than the packing can hold, or not yet started).
pub const UNIT_UNKNOWN: u64 = (1 << UNIT_BITS) - 1;

/// Packs a code object's address and a byte offset into its bytecode.
#[inline(always)]
pub const fn pack(code: u64, byte_offset: u64) -> u64 {
    let unit = byte_offset >> 1;
    let unit = if unit < UNIT_UNKNOWN { unit } else { UNIT_UNKNOWN };
    ((code >> 3) << CODE_SHIFT) | unit
}

/// The same frame, whose callee was entered from C.
#[inline(always)]
pub const fn calling_c(frame: u64) -> u64 {
    frame | CALLS_C
}

/// The frame, whatever it called.
pub const fn alone(frame: u64) -> u64 {
    frame & !CALLS_C
}

/// Was the frame's callee entered from C?
pub const fn calls_c(frame: u64) -> bool {
    frame & CALLS_C != 0
}

/// The code object's address.
#[inline(always)]
pub const fn code(frame: u64) -> u64 {
    (frame >> CODE_SHIFT) << 3
}

/// The byte offset into the bytecode, if it is known.
pub const fn byte_offset(frame: u64) -> Option<u64> {
    let unit = frame & UNIT_UNKNOWN;
    if unit == UNIT_UNKNOWN { None } else { Some(unit << 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_and_unpacks() {
        let frame = pack(0x7fff_ffff_fff8, 1234);
        assert_eq!(code(frame), 0x7fff_ffff_fff8);
        assert_eq!(byte_offset(frame), Some(1234));
        assert!(!calls_c(frame));
        let frame = calling_c(frame);
        assert!(calls_c(frame) && !calls_c(alone(frame)));
        assert_eq!((code(frame), byte_offset(frame)), (0x7fff_ffff_fff8, Some(1234)));
    }

    #[test]
    fn an_offset_too_large_is_unknown() {
        assert_eq!(byte_offset(pack(0x5555_0000_0010, 1 << 30)), None);
        assert_eq!(code(pack(0x5555_0000_0010, 1 << 30)), 0x5555_0000_0010);
        // A frame that has not started yet has an instruction pointer before its code.
        assert_eq!(byte_offset(pack(0x5555_0000_0010, -2_i64 as u64)), None);
    }
}
