//! Places outside of pymalloc's pools where objects may be: those of more than 512 bytes are malloc's.
//!
//! Nobody lists them. But something refers to each: an object, what an object owns, or a link of the collector's.

use foldhash::HashSet;

use super::mapped::Mapped;
use super::owned::CHAIN_BLOCK;
use crate::heap::collector::LINK_FLAGS;
use crate::heap::types::plausible;
use crate::units::{Addr, Bytes};

/// Places that are remembered: some 100 MiB of them.
const MOST: usize = 1 << 22;

/// Places read at once.
const ROUND: usize = 4096;

/// `PyGC_Head`: next, previous.
pub const LINKS: usize = 16;

/// A place where an object may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The object's address.
    pub addr: Addr,
    /// The collector has it in its lists.
    pub linked: bool,
}

/// Memory whose words may lead to objects: a large object's own, or what one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Where it begins.
    pub addr: Addr,
    /// How long it is.
    pub bytes: Bytes,
    /// The object.
    pub owner: Addr,
}

/// Linked blocks that an object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// The first.
    pub addr: Addr,
    /// How many.
    pub blocks: u64,
    /// The object.
    pub owner: Addr,
}

/// The places that were heard of, each once.
#[derive(Debug)]
pub struct Outside<'a> {
    mapped: &'a Mapped,
    seen: HashSet<Addr>,
    due: Vec<Place>,
    /// Stretches and blocks of chains, each once too: the word that leads to one may have been taken for a place before.
    gone_through: HashSet<Addr>,
    stretches: Vec<Stretch>,
    chains: Vec<Chain>,
    /// How much may still be gone through: no more than there is.
    left: u64,
    /// Places that there was no room for, and stretches that were too much.
    pub over: u64,
}

impl<'a> Outside<'a> {
    /// `lists` are the heads of the collector's lists, which are no objects; `mapped` is the memory that there is.
    pub fn new(lists: &[Addr], mapped: &'a Mapped) -> Self {
        let heads = lists.iter().map(|list| list.offset(LINKS as u64));
        Self {
            mapped,
            seen: heads.collect(),
            due: Vec::new(),
            gone_through: HashSet::default(),
            stretches: Vec::new(),
            chains: Vec::new(),
            left: mapped.bytes(),
            over: 0,
        }
    }

    /// Takes note of a place outside of the pools.
    pub fn note(&mut self, place: Place) {
        if self.seen.contains(&place.addr) {
            return;
        }
        if self.seen.len() < MOST {
            self.seen.insert(place.addr);
            self.due.push(place);
        } else {
            self.over += 1;
        }
    }

    /// Takes note of memory whose words may lead to objects.
    pub fn note_stretch(&mut self, stretch: Stretch) {
        // What reaches beyond its mapping has a size that was just being written, or stale: it would use up what is left for
        // the others.
        if (1..stretch.bytes.0).contains(&self.mapped.bytes_from(stretch.addr)) {
            self.over += 1;
            return;
        }
        // What two claim to own is gone through once.
        if self.is_new_block(stretch.addr) && self.spend(stretch.bytes) {
            self.stretches.push(stretch);
        }
    }

    /// Takes note of linked blocks.
    pub fn note_chain(&mut self, chain: Chain) {
        if self.spend(Bytes(chain.blocks.saturating_mul(CHAIN_BLOCK))) {
            self.chains.push(chain);
        }
    }

    /// Hasn't it been gone through? Now it will be.
    pub fn is_new_block(&mut self, addr: Addr) -> bool {
        if self.gone_through.len() >= MOST {
            self.over += 1;
            return false;
        }
        self.gone_through.insert(addr)
    }

    fn spend(&mut self, bytes: Bytes) -> bool {
        let left = self.left.checked_sub(bytes.0);
        self.over += u64::from(left.is_none());
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// The next places to look at.
    pub fn places(&mut self) -> Vec<Place> {
        self.due.split_off(self.due.len().saturating_sub(ROUND))
    }

    /// The next blocks to go along.
    pub fn chain(&mut self) -> Option<Chain> {
        self.chains.pop()
    }

    /// The next stretches to go through: as many as are not longer than so much together, or one that is longer.
    pub fn stretches(&mut self, most: Bytes) -> Vec<Stretch> {
        let mut together: u64 = 0;
        let fits = |stretch: &&Stretch| {
            together = together.saturating_add(stretch.bytes.0);
            together <= most.0
        };
        let count = self.stretches.iter().rev().take_while(fits).count().max(1);
        self.stretches.split_off(self.stretches.len().saturating_sub(count))
    }
}

/// The objects that a `PyGC_Head` links to, next and previous; None where it is in no list.
pub fn linked(links: &[u8; LINKS]) -> Option<[Addr; 2]> {
    let (words, _) = links.as_chunks::<8>();
    let [next, previous] = words else { return None };
    let object = |word: &[u8; 8]| {
        let link = u64::from_le_bytes(*word) & !LINK_FLAGS;
        Addr(if link == 0 { 0 } else { link.wrapping_add(LINKS as u64) })
    };
    // While a collection goes on, the previous one may be a count.
    let next = object(next);
    (!next.is_null()).then(|| [next, object(previous)])
}

/// Can it be an object of malloc's? Its blocks lie at multiples of 16, and what goes before an object is one too.
pub fn is_place(addr: Addr) -> bool {
    plausible(addr) && addr.0.is_multiple_of(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_comes_once() {
        let list = Addr(0x5000);
        let mapped = Mapped::of(vec![(0x5000, 0x5000 + (1 << 20))]);
        let mut outside = Outside::new(&[list], &mapped);
        for addr in [0x9000, 0x9000, 0x8000, 0x5010] {
            outside.note(Place { addr: Addr(addr), linked: true });
        }
        outside.note(Place { addr: Addr(0x7000), linked: false });
        let stretch = |addr, bytes| Stretch { addr: Addr(addr), bytes, owner: Addr(0x9000) };
        outside.note_stretch(stretch(0x7000, Bytes(64)));
        outside.note_stretch(stretch(0x7000, Bytes(64)));
        let places: Vec<u64> = outside.places().iter().map(|place| place.addr.0).collect();
        assert_eq!(places, [0x9000, 0x8000, 0x7000]);
        assert_eq!(outside.places(), []);
        // One that reaches beyond the end takes nothing from the others.
        outside.note_stretch(stretch(0x6000, Bytes((1 << 20) - 64)));
        assert_eq!(outside.stretches(Bytes(0)), [stretch(0x7000, Bytes(64))]);
        assert_eq!(outside.stretches(Bytes(64)), []);
        assert_eq!(outside.over, 1);
    }

    #[test]
    fn stretches_come_together_up_to_so_much() {
        let mapped = Mapped::of(vec![(0x5000, 0x5000 + (1 << 20))]);
        let mut outside = Outside::new(&[], &mapped);
        let lengths = [64, 300, 16, 16];
        for (at, bytes) in lengths.into_iter().enumerate() {
            let addr = Addr(0x6000 + at as u64 * 512);
            outside.note_stretch(Stretch { addr, bytes: Bytes(bytes), owner: addr });
        }
        let mut next = || -> Vec<u64> {
            outside.stretches(Bytes(100)).iter().map(|stretch| stretch.bytes.0).collect()
        };
        assert_eq!(next(), [16, 16]);
        assert_eq!(next(), [300], "a longer one comes alone");
        assert_eq!(next(), [64]);
        assert!(next().is_empty());
    }

    #[test]
    fn links_lead_to_objects() {
        let links = |next: u64, previous: u64| {
            let words = [next.to_le_bytes(), previous.to_le_bytes()];
            linked(words.as_flattened().first_chunk().unwrap())
        };
        assert_eq!(links(0x9000, 0x8003), Some([Addr(0x9010), Addr(0x8010)]));
        assert_eq!(links(0, 0x8000), None);
        assert_eq!(links(0x9001, 0), Some([Addr(0x9010), Addr(0)]));
    }
}
