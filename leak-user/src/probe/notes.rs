//! What a burst's blocks hold when it has ended, and no hit comes at which the kernel would note it.

use std::collections::HashMap;

use leak_common::keys::{CONTENT_WORDS, LiveBlock};

use crate::{
    target::memory::Memory,
    units::{Addr, Nanos},
};

/// The word before a block, and its first ones.
const WORDS: usize = 1 + CONTENT_WORDS;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Notes {
    read: Nanos,
    blocks: HashMap<Addr, [u8; 8 * WORDS]>,
}

impl Notes {
    /// Reads blocks, all at once; `time`: now. What can't be read is left out.
    pub fn of(memory: &impl Memory, blocks: &[Addr], time: Nanos) -> Self {
        let mut bytes = vec![[0; 8 * WORDS]; blocks.len()];
        let from = |block: &Addr| Addr(block.0.wrapping_sub(8));
        let mut pieces: Vec<(Addr, &mut [u8])> =
            blocks.iter().zip(&mut bytes).map(|(at, out)| (from(at), &mut out[..])).collect();
        let read = memory.read_scattered(&mut pieces);
        let all = blocks.iter().copied().zip(bytes).zip(read);
        let blocks = all.filter_map(|(block, read)| read.then_some(block)).collect();
        Self { read: time, blocks }
    }

    /// Writes into a block what was read of it, unless the kernel has noted it since: a hit came after all.
    pub fn complete(&self, at: Addr, block: &mut LiveBlock) {
        let Some(bytes) = self.blocks.get(&at).filter(|_| block.noted_ns == 0) else { return };
        let mut words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        block.header = words.next().unwrap_or_default();
        block.content.iter_mut().zip(words).for_each(|(into, word)| *into = word);
        block.noted_ns = self.read.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::testing::FakeMemory;
    use leak_common::keys::{SiteKey, domain};

    fn block(noted_ns: u64) -> LiveBlock {
        LiveBlock {
            site: SiteKey { stack: 0, native: 0, domain: domain::MALLOC, size_class: 0 },
            size: 72,
            born_ns: 1,
            burst: 1,
            noted_ns,
            header: 7,
            content: [7; CONTENT_WORDS],
        }
    }

    #[test]
    fn what_the_kernel_has_not_noted_is_as_it_was_read() {
        let mut memory = FakeMemory::default();
        memory.map(0x1000, 8 * WORDS);
        for word in 0..WORDS as u64 {
            memory.put(0x1000 + 8 * word, 100 + word);
        }
        let notes = Notes::of(&memory, &[Addr(0x1008), Addr(0x9000)], Nanos(5));
        let of = |at, noted_ns| {
            let mut block = block(noted_ns);
            notes.complete(Addr(at), &mut block);
            block
        };
        let read = of(0x1008, 0);
        assert_eq!((read.noted_ns, read.header), (5, 100));
        assert_eq!(read.content, std::array::from_fn(|word| 101 + word as u64));
        assert_eq!(of(0x1008, 3), block(3), "the kernel's note stays");
        assert_eq!(of(0x9000, 0), block(0), "unreadable");
        assert_eq!(of(0x5000, 0), block(0), "born since: there is none");
    }
}
