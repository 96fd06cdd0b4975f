//! Keys and values of the maps that both sides read.

/// The allocator that owns a block.
pub mod domain {
    /// CPython's small-object allocator: blocks of up to 512 bytes.
    pub const PYMALLOC: u32 = 1;
    /// The C library's heap.
    pub const MALLOC: u32 = 2;
    /// Anonymous mappings.
    pub const MMAP: u32 = 3;
}

/// An allocation site as the kernel counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct SiteKey {
    /// The Python stack, 0 for none.
    pub stack: u64,
    /// The native stack, 0 for none.
    pub native: u64,
    /// [`domain`].
    pub domain: u32,
    /// `ceil(size / 16)` up to 32, above that 32 + log2 of the size: see [`size_class`].
    pub size_class: u32,
}

/// What was seen of one site; only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SiteCounts {
    /// Allocations recorded.
    pub allocs: u64,
    /// Their bytes, as asked for.
    pub bytes: u64,
}

/// A recorded block that has not been seen freed; the map's key is its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct LiveBlock {
    /// Its site.
    pub site: SiteKey,
    /// Bytes asked for.
    pub size: u64,
    /// When it was allocated, `CLOCK_MONOTONIC`.
    pub born_ns: u64,
    /// The burst that saw it.
    pub burst: u64,
    /// When `content` was noted, 0: not yet.
    pub noted_ns: u64,
    /// The word before the block: glibc's chunk size, for blocks of its heap.
    pub header: u64,
    /// The first bytes of the block when the gate closed, to tell it later from another block at the
    /// same address. May reach beyond the block's end.
    pub content: [u64; CONTENT_WORDS],
}

/// Words of [`LiveBlock::content`]: GC header, pre-header and the first fields of an object.
pub const CONTENT_WORDS: usize = 9;

/// An allocation under way in one thread: from the entry probe to the return probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Pending {
    /// The site.
    pub site: SiteKey,
    /// Bytes asked for.
    pub size: u64,
    /// Where `posix_memalign` will store the address; 0 where the address is returned.
    pub out_pointer: u64,
    /// The block that `realloc` will have released, if it returns one.
    pub released: u64,
    /// The burst that saw the entry.
    pub burst: u64,
    /// The stack pointer at entry: calls that begin below it are part of this one.
    pub stack_pointer: u64,
    /// How many return probes will tell of its end: one more for each function that it jumps to.
    pub returns: u64,
}

/// What a burst last knew of a pool; the map's key is the pool's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PoolSeen {
    /// The burst that looked.
    pub burst: u64,
    /// Live blocks after the last event that it saw.
    pub count: u64,
}

/// The size class of [`SiteKey`]: pymalloc's classes 1..=32, powers of two above.
#[inline(always)]
pub const fn size_class(size: u64) -> u32 {
    if size <= 512 {
        ((if size == 0 { 1 } else { size }) as u32).div_ceil(16)
    } else {
        32 + (63 - size.leading_zeros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_classes_are_pymallocs() {
        assert_eq!(size_class(0), 1);
        assert_eq!(size_class(16), 1);
        assert_eq!(size_class(17), 2);
        assert_eq!(size_class(512), 32);
        assert_eq!(size_class(513), 32 + 9);
        assert_eq!(size_class(1 << 20), 52);
    }
}
