//! One Python frame in eight bytes.
//!
//! A code object is 8-byte aligned and lies in the lower 47 bits of the address space, so 44 bits name
//! it; the other 20 hold the index of the running code unit (2 bytes each), enough for two MiB of
//! bytecode. A larger index is stored as [`UNIT_UNKNOWN`] and the line is then
//! the function's first.

const UNIT_BITS: u32 = 20;

/// The code unit is not known (bytecode longer than the packing can hold, or not yet started).
pub const UNIT_UNKNOWN: u64 = (1 << UNIT_BITS) - 1;

/// Packs a code object's address and a byte offset into its bytecode.
#[inline(always)]
pub const fn pack(code: u64, byte_offset: u64) -> u64 {
    let unit = byte_offset >> 1;
    let unit = if unit < UNIT_UNKNOWN { unit } else { UNIT_UNKNOWN };
    ((code >> 3) << UNIT_BITS) | unit
}

/// The code object's address.
#[inline(always)]
pub const fn code(frame: u64) -> u64 {
    (frame >> UNIT_BITS) << 3
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
    }

    #[test]
    fn an_offset_too_large_is_unknown() {
        assert_eq!(byte_offset(pack(0x5555_0000_0010, 1 << 30)), None);
        assert_eq!(code(pack(0x5555_0000_0010, 1 << 30)), 0x5555_0000_0010);
        // A frame that has not started yet has an instruction pointer before its code.
        assert_eq!(byte_offset(pack(0x5555_0000_0010, -2_i64 as u64)), None);
    }
}
