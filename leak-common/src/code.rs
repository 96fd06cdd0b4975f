//! Which addresses are code: a table of the 64 KiB pieces of the address space that hold any, found by the
//! low bits of a piece's number. Two pieces that share a slot leave one of them out: then fewer words of a
//! stack are told to be return addresses, which costs some precision and nothing else.

/// log2 of a piece's bytes.
const PIECE_BITS: u32 = 16;

/// Slots of the table.
pub const SLOTS: usize = 1 << 14;

/// The table: the number of the piece in each slot, 0 for none.
pub type Table = [u32; SLOTS];

/// The number of an address's piece. Addresses have 47 bits.
#[inline(always)]
pub const fn piece(address: u64) -> u32 {
    (address >> PIECE_BITS) as u32
}

/// Where a piece is in the table.
#[inline(always)]
pub const fn slot(piece: u32) -> usize {
    piece as usize & (SLOTS - 1)
}

/// Puts a range of code into the table.
pub fn mark(table: &mut Table, start: u64, end: u64) {
    let mut piece = piece(start);
    // A range that fills the table says no more by going on.
    let mut left = SLOTS;
    while (piece as u64) << PIECE_BITS < end && left > 0 {
        table[slot(piece)] = piece;
        piece = piece.wrapping_add(1);
        left -= 1;
    }
}

/// Does the table tell an address to be code?
#[inline(always)]
pub fn is_code(table: &Table, address: u64) -> bool {
    let piece = piece(address);
    piece != 0 && table[slot(piece)] == piece && address >> 47 == 0
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;

    #[test]
    fn what_was_marked_is_code() {
        let mut table: Box<Table> = Box::new([0; SLOTS]);
        mark(&mut table, 0x40_1000, 0x42_0000);
        mark(&mut table, 0x7f00_0001_2000, 0x7f00_0001_3000);
        for (address, code) in [
            (0x40_1000, true),
            (0x41_ffff, true),
            (0x42_0000, false),
            (0x7f00_0001_0000, true),
            (0x7f00_0002_0000, false),
            (0, false),
            (0x40_1000 | 1 << 48, false),
            (0x40_1000 | 1 << (PIECE_BITS as u64 + 14), false),
            (u64::MAX, false),
        ] {
            assert_eq!(is_code(&table, address), code, "{address:#x}");
        }
    }

    #[test]
    fn a_range_without_end_is_survived() {
        let mut table: Box<Table> = Box::new([0; SLOTS]);
        mark(&mut table, 0, u64::MAX);
        mark(&mut table, u64::MAX - 1, u64::MAX);
        mark(&mut table, 9, 3);
        assert!(is_code(&table, 0x1_0000));
    }
}
