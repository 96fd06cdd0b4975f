//! Objects outside of pymalloc's pools: looks at the places that were heard of, and goes on from there.

use super::outside::{Chain, LINKS, Place, Stretch};
use super::owned::CHAIN_BLOCK;
use super::size::{self, size};
use super::{Counter, HEAD, Holder, See};
use crate::heap::identity::{candidate, is_instance};
use crate::target::memory::Memory;
use crate::units::{Addr, Bytes};

/// What is read of an object.
const LOOK: usize = LINKS + size::LOOK;

/// Values behind an instance, at most: head, values (`SHARED_KEYS_MAX_SIZE`), their order.
const INLINE_VALUES: u64 = 8 + 30 * 8 + 32;

/// What objects own is gone through so much at a time: much of one, or of many that own little.
const PIECE: usize = 1 << 20;

impl<M: Memory, S: See> Counter<'_, M, S> {
    /// All objects outside of the pools.
    pub(super) fn go_outside(&mut self) {
        loop {
            let places = self.outside.places();
            if !places.is_empty() {
                self.look_at(&places);
                continue;
            }
            match *self.outside.stretches(Bytes(PIECE as u64)) {
                [] => match self.outside.chain() {
                    Some(chain) => self.go_along(chain),
                    None => return,
                },
                [stretch] => self.go_through(stretch),
                ref several => self.go_through_several(several),
            }
        }
    }

    /// Goes through so many that they are read at once.
    fn go_through_several(&mut self, stretches: &[Stretch]) {
        let mut piece = std::mem::take(&mut self.piece);
        let lengths = stretches.iter().map(|stretch| stretch.bytes.0 as usize);
        piece.resize(lengths.clone().sum(), 0);
        let mut rest = piece.as_mut_slice();
        let mut pieces = Vec::with_capacity(stretches.len());
        for (stretch, length) in stretches.iter().zip(lengths) {
            let (first, others) = rest.split_at_mut(length);
            pieces.push((stretch.addr, first));
            rest = others;
        }
        let read = self.memory.read_scattered(&mut pieces);
        for ((stretch, (_, bytes)), read) in stretches.iter().zip(&pieces).zip(read) {
            // Otherwise it was given back meanwhile, or never was so large.
            if read {
                self.scan(Holder::Object(stretch.owner), bytes);
            }
        }
        self.piece = piece;
    }

    fn go_through(&mut self, Stretch { addr, bytes, owner }: Stretch) {
        let mut piece = std::mem::take(&mut self.piece);
        let mut at = 0;
        while at < bytes.0 {
            piece.resize(usize::try_from(bytes.0 - at).unwrap_or(PIECE).min(PIECE), 0);
            // It was given back meanwhile, or never was so large.
            if self.memory.read(addr.offset(at), &mut piece).is_err() {
                break;
            }
            self.scan(Holder::Object(owner), &piece);
            at += piece.len() as u64;
        }
        self.piece = piece;
    }

    /// Goes through so many blocks that are linked.
    fn go_along(&mut self, Chain { mut addr, blocks, owner }: Chain) {
        for _ in 0..blocks {
            let mut block = [0; CHAIN_BLOCK as usize];
            if !self.outside.is_new_block(addr) || self.memory.read(addr, &mut block).is_err() {
                return;
            }
            let Some((items, next)) = block.split_last_chunk::<8>() else { return };
            self.scan(Holder::Object(owner), items);
            addr = Addr(u64::from_le_bytes(*next));
        }
    }

    fn look_at(&mut self, places: &[Place]) {
        let mut looks = vec![[0; LOOK]; places.len()];
        let mut pieces: Vec<(Addr, &mut [u8])> = places
            .iter()
            .zip(&mut looks)
            .map(|(place, look)| (Addr(place.addr.0 - LINKS as u64), look.as_mut_slice()))
            .collect();
        let read = self.memory.read_scattered(&mut pieces);
        let layout = self.types.object();
        let class = |look: &[u8; LOOK]| Some(candidate(layout, look, LINKS as u64)?.0);
        let classes: Vec<Addr> = looks.iter().filter_map(class).collect();
        let new: Vec<Addr> = classes.into_iter().filter(|class| self.is_new(*class)).collect();
        self.types.learn(self.memory, &new);
        for ((place, look), read) in places.iter().zip(&looks).zip(read) {
            let is_object = read && self.large(*place, look).is_some();
            self.objects.lost_links += u64::from(place.linked && !is_object);
        }
        self.measure_tables();
    }

    /// An object outside of the pools; None where there is none.
    fn large(&mut self, place: Place, look: &[u8; LOOK]) -> Option<()> {
        let layout = self.types.object();
        let (class, references) = candidate(layout, look, LINKS as u64)?;
        let head = self.class(class)?;
        let object = look.get(LINKS..)?.first_chunk()?;
        let bytes = size(self.types.layout(), &head, object)?;
        if references == 0
            || bytes > self.mapped.bytes()
            || !is_instance(&mut self.types, self.memory, &head, head.header, references)
        {
            return None;
        }
        // Types of the interpreter's own are variables of its, with nothing before them (`type_is_gc`).
        let is_static = head.is_metatype()
            && !self.types.get(self.memory, place.addr).is_some_and(|one| one.is_heap_type());
        let has_links = head.header >= LINKS as u64 && !is_static;
        let tracked = has_links && self.follow(look.first_chunk()?);
        if place.linked && !tracked {
            return None;
        }
        self.tally(class).add(bytes, tracked);
        self.objects.large.0 = self.objects.large.0.saturating_add(bytes);
        let owner = place.addr;
        self.see.object(owner, class);
        self.look_for_body(owner, class, object);
        if !head.is_plain() {
            let mut note = |addr, bytes| {
                self.outside.note_stretch(Stretch { addr, bytes: Bytes(bytes), owner });
            };
            note(owner.offset(HEAD as u64), bytes.saturating_sub(head.header + HEAD as u64));
            let managed = head.header.saturating_sub(LINKS as u64);
            if managed > 0 {
                note(Addr(owner.0 - head.header), managed);
            }
            if head.has_inline_values() {
                note(owner.offset(head.basicsize), INLINE_VALUES);
            }
        }
        Some(())
    }
}
