//! A pool's header.

use crate::units::Addr;

/// Size classes: blocks of 16, 32, … 512 bytes.
pub const CLASSES: usize = 32;

/// Bytes of a block's alignment, and of the smallest block.
const ALIGNMENT: u64 = 16;

/// `struct pool_header`: blocks start behind it.
pub(super) const HEADER_BYTES: u64 = 48;

/// What a pool says of itself (`struct pool_header`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolHeader {
    /// Live blocks; 0 in a free pool, whose other fields are left over.
    pub count: u32,
    /// Head of the list of freed blocks.
    pub free_block: Addr,
    /// Which arena it belongs to.
    pub arena_index: u32,
    /// The size class less one.
    pub size_index: u32,
    /// Offset of the first block that was never carved off.
    pub next_offset: u32,
}

fn half(bytes: &[u8; HEADER_BYTES as usize], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

impl PoolHeader {
    /// Takes a header apart; offsets from `struct pool_header`, which has not changed since 3.5.
    #[must_use]
    pub fn parse(bytes: &[u8; HEADER_BYTES as usize]) -> Self {
        let free_block = u64::from(half(bytes, 8)) | u64::from(half(bytes, 12)) << 32;
        Self {
            count: half(bytes, 0),
            free_block: Addr(free_block),
            arena_index: half(bytes, 32),
            size_index: half(bytes, 36),
            next_offset: half(bytes, 40),
        }
    }

    /// Bytes of one of its blocks, if the size class is one.
    #[must_use]
    pub fn block_size(&self) -> Option<u64> {
        let index = u64::from(self.size_index);
        (index < CLASSES as u64).then_some((index + 1) * ALIGNMENT)
    }

    /// How many blocks were ever carved off; None where the fields contradict each other.
    #[must_use]
    pub fn carved(&self, pool_size: u64) -> Option<u64> {
        let size = self.block_size()?;
        let bytes = u64::from(self.next_offset).checked_sub(HEADER_BYTES)?;
        let carved = bytes / size;
        (bytes.is_multiple_of(size)
            && carved <= Self::capacity(size, pool_size)
            && u64::from(self.count) <= carved)
            .then_some(carved)
    }

    /// How many blocks of `size` bytes a pool holds.
    #[must_use]
    pub fn capacity(size: u64, pool_size: u64) -> u64 {
        pool_size.saturating_sub(HEADER_BYTES) / size.max(ALIGNMENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(count: u32, size_index: u32, next_offset: u32) -> PoolHeader {
        PoolHeader { count, free_block: Addr(0), arena_index: 0, size_index, next_offset }
    }

    #[test]
    fn parses_the_fields() {
        let mut bytes = [0; 48];
        bytes[0] = 3;
        bytes[8..16].copy_from_slice(&0x7f12_3456_7890_u64.to_le_bytes());
        bytes[32] = 7;
        bytes[36] = 1;
        bytes[40..44].copy_from_slice(&(48_u32 + 5 * 32).to_le_bytes());
        let header = PoolHeader::parse(&bytes);
        assert_eq!(header.free_block, Addr(0x7f12_3456_7890));
        assert_eq!((header.arena_index, header.block_size()), (7, Some(32)));
        assert_eq!(header.carved(16384), Some(5));
    }

    #[test]
    fn contradictions_are_seen() {
        assert_eq!(header(1, 32, 64).carved(16384), None, "no such class");
        assert_eq!(header(2, 0, 64).carved(16384), None, "more alive than carved");
        assert_eq!(header(1, 1, 64).carved(16384), None, "half a block carved");
        assert_eq!(header(1, 0, 16).carved(16384), None, "the header itself carved");
        assert_eq!(header(1, 0, 48 + 16 * 1022).carved(16384), None, "beyond the pool");
        assert_eq!(header(1021, 0, 48 + 16 * 1021).carved(16384), Some(1021));
    }
}
