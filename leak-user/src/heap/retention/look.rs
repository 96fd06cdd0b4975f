//! One look at all memory: who holds words that lead to what is looked for.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashMapExt as _, HashSet};

use super::{Case, Survivor};
use crate::heap::objects::{self, Holder, See};
use crate::heap::pymalloc::PymallocError;
use crate::target::memory::Memory;
use crate::units::Addr;

/// References to what is looked for that one look takes.
const MAX_HITS: usize = 1 << 21;

/// Only small blocks are led to elsewhere than to their start.
const MOST_OF_BLOCK: u64 = 512;

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Target {
    /// An object, by its number.
    Object(u32),
    /// A block that is no object.
    Block(Addr),
}

/// Bits of the filter that most words don't pass: for each that is looked for, within bounds.
const BITS_EACH: usize = 64;
const FILTER_BITS: std::ops::RangeInclusive<usize> = 1 << 20..=1 << 26;

/// Looks for references to some addresses.
#[derive(Debug)]
pub(super) struct Look {
    /// A word whose bit is not set isn't looked for.
    filter: Vec<u64>,
    objects: HashMap<u64, u32>,
    /// Blocks by where they begin, and up to where they are led to.
    blocks: BTreeMap<u64, u64>,
    /// Who holds what.
    pub hits: HashSet<(Holder, Target)>,
    /// What there was no room for.
    pub over: u64,
}

impl Look {
    /// For so many objects and blocks.
    pub(super) fn new(many: usize) -> Self {
        let bits = many.saturating_mul(BITS_EACH).clamp(*FILTER_BITS.start(), *FILTER_BITS.end());
        Self {
            filter: vec![0; bits.next_power_of_two() / 64],
            objects: HashMap::new(),
            blocks: BTreeMap::new(),
            hits: HashSet::default(),
            over: 0,
        }
    }

    /// Looks for an object, too.
    pub(super) fn add(&mut self, addr: Addr, node: u32) {
        self.let_pass(addr.0);
        self.objects.insert(addr.0, node);
    }

    /// Looks for what leads to a block. What leads to values may lead to somewhere in the middle.
    pub(super) fn add_block(&mut self, addr: Addr, bytes: u64) {
        let end = addr.0.saturating_add(bytes.clamp(8, MOST_OF_BLOCK));
        for at in (addr.0..end).step_by(8) {
            self.let_pass(at);
        }
        self.blocks.insert(addr.0, end);
    }

    fn let_pass(&mut self, word: u64) {
        let (at, bit) = self.place(word);
        if let Some(bits) = self.filter.get_mut(at) {
            *bits |= bit;
        }
    }

    /// What a word leads to, if that is looked for.
    pub(super) fn find(&self, word: u64) -> Option<Target> {
        // What a slot of a frame holds may be tagged (3.14); the pointer to an instance's values is one less (3.12).
        let word = match word & 7 {
            0 => word,
            1 => word & !7,
            7 => word.wrapping_add(1),
            _ => return None,
        };
        let (at, bit) = self.place(word);
        if self.filter.get(at).is_none_or(|bits| bits & bit == 0) {
            return None;
        }
        if let Some(node) = self.objects.get(&word) {
            return Some(Target::Object(*node));
        }
        let (start, end) = self.blocks.range(..=word).next_back()?;
        (word < *end).then_some(Target::Block(Addr(*start)))
    }

    fn place(&self, word: u64) -> (usize, u64) {
        let bits = self.filter.len() as u64 * 64;
        let bit = (word >> 3 ^ word >> 23) % bits;
        ((bit / 64) as usize, 1 << (bit % 64))
    }
}

impl See for Look {
    fn piece(&mut self, holder: Holder, bytes: &[u8]) {
        let (words, _) = bytes.as_chunks::<8>();
        for word in words {
            if let Some(target) = self.find(u64::from_le_bytes(*word)) {
                if self.hits.len() < MAX_HITS {
                    self.hits.insert((holder, target));
                } else {
                    self.over += 1;
                }
            }
        }
    }
}

/// Which objects lead to blocks that are none: of those that may, the lowest for each.
pub(super) fn owners<M: Memory>(
    case: &Case<'_, M>,
    blocks: &[Survivor],
) -> Result<HashMap<Addr, Addr>, PymallocError> {
    let mut look = Look::new(blocks.len());
    for block in blocks {
        look.add_block(block.addr, block.size.0);
    }
    objects::go_through(case.memory, case.heap, &mut look)?;
    let mut owners: HashMap<Addr, Addr> = HashMap::new();
    for (holder, target) in look.hits {
        if let (Holder::Object(object), Target::Block(block)) = (holder, target) {
            let owner = owners.entry(block).or_insert(object);
            *owner = object.min(*owner);
        }
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_to_objects_and_into_small_blocks() {
        let mut look = Look::new(3);
        look.add(Addr(0x7f00_1000), 3);
        look.add_block(Addr(0x7f00_2000), 64);
        look.add_block(Addr(0x7f00_8000), 1 << 20);
        let block = |addr| Some(Target::Block(Addr(addr)));
        for (word, target) in [
            (0x7f00_1000, Some(Target::Object(3))),
            // A borrowed reference in a frame of 3.14.
            (0x7f00_1001, Some(Target::Object(3))),
            (0x7f00_1003, None),
            (0x7f00_1008, None),
            (0x7f00_2038, block(0x7f00_2000)),
            (0x7f00_2040, None),
            // An instance's values of 3.12.
            (0x7f00_2007, block(0x7f00_2000)),
            (0x7f00_8000, block(0x7f00_8000)),
            (0x7f00_9000, None),
            (u64::MAX, None),
        ] {
            assert_eq!(look.find(word), target, "{word:x}");
        }
        let words: Vec<u8> = [7, 0x7f00_1000, 0x7f00_2010, 0x7f00_1000_u64]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        look.piece(Holder::Object(Addr(0x10)), &words);
        assert_eq!((look.hits.len(), look.over), (2, 0));
    }
}
