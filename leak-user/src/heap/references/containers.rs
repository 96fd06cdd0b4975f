//! References of containers: dicts, lists, tuples, sets, deques, and the values that instances have without a dict.

use std::ops::ControlFlow;

use super::kinds::Kind;
use super::offsets::Attributes;
use super::{By, References, See, give, word};
use crate::heap::names::index;
use crate::heap::objects::{CHAIN_BLOCK, DEQUE_ITEMS, KEYS_HEAD, MOST_DIMENSIONS, SET_ENTRY};
use crate::target::memory::Memory;
use crate::units::Addr;

/// Items read at first, and bytes read at once later.
const FIRST: u64 = 64;
const PIECE: usize = 64 << 10;

/// No container has more than fit into memory.
const MAX_ITEMS: u64 = 1 << 36;

/// Keys that the instances of a class share are few (`SHARED_KEYS_MAX_SIZE` is 30).
const MAX_SHARED: u64 = 256;

/// `lru_list_elem`, with which `lru_cache_object` begins: head, prev, next@24, hash, key, result.
const LINK_NEXT: u64 = 24;
const LINK_KEY: u64 = 40;
const LINK_BYTES: usize = 56;
/// The cache and the function of a `lru_cache_object`; from there on more that differs by version.
const LRU_CACHE: u64 = 72;
const LRU_FUNCTION: u64 = 88;
pub(super) const LRU_REST: u64 = 112;

/// Tells that links run in a circle, after going around it three times at most (Brent's algorithm).
#[derive(Debug, Default)]
struct Circle {
    mark: Addr,
    steps: u64,
}

impl Circle {
    /// Has it been here before?
    fn has(&mut self, addr: Addr) -> bool {
        let again = addr == self.mark;
        self.steps += 1;
        if self.steps.is_power_of_two() {
            self.mark = addr;
        }
        again
    }
}

/// A dict's entries.
struct Entries {
    at: Addr,
    count: u64,
    bytes: usize,
    /// Where in an entry the key is, which the value follows.
    key: u64,
}

impl<M: Memory> References<'_, M> {
    pub(super) fn special(
        &mut self,
        kind: Kind,
        object: Addr,
        own: &[u8],
        see: See<'_>,
    ) -> ControlFlow<()> {
        let own_word = |at: u64| word(own, at);
        match kind {
            Kind::Dict => match (own_word(32), own_word(40)) {
                (Some(keys), Some(0)) => self.dict(Addr(keys), see),
                (Some(keys), Some(values)) => {
                    self.values(Addr(values), Some(Addr(keys)), false, see)
                }
                _ => ControlFlow::Continue(()),
            },
            Kind::List => match (own_word(16), own_word(24)) {
                (Some(count), Some(items)) => self.sequence(Addr(items), count, see),
                _ => ControlFlow::Continue(()),
            },
            Kind::Tuple => {
                let count = own_word(16).unwrap_or(0);
                self.sequence(object.offset(self.offsets.tuple_items), count, see)
            }
            Kind::Set => match (own_word(32), own_word(40)) {
                (Some(mask), Some(table)) => self.set(Addr(table), mask, see),
                _ => ControlFlow::Continue(()),
            },
            Kind::Deque => self.deque(own, see),
            Kind::Generator => self.generator(object, own, see),
            Kind::Frame => self.frame_object(object, own, see),
            Kind::Type => self.type_object(object, see),
            Kind::Module => self.module(object, see),
            Kind::Array => self.array(own, see),
            Kind::LruCache => {
                give(own_word(LRU_CACHE), By::Field("its cache"), see)?;
                give(own_word(LRU_FUNCTION), By::Field("__wrapped__"), see)?;
                self.lru_links(object, own_word(LINK_NEXT), see)
            }
            Kind::Fields(_) | Kind::Words | Kind::Members => ControlFlow::Continue(()),
        }
    }

    /// Words, as many as there are: which, and what it is. Ends at what can't be read.
    pub(super) fn words(
        &self,
        at: Addr,
        count: u64,
        see: &mut dyn FnMut(u64, Addr) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.chunks(at, count, 8, &mut |n, bytes| match word(bytes, 0) {
            Some(to) => give(Some(to), By::Index(n), &mut |_, to| see(n, to)),
            None => ControlFlow::Continue(()),
        })
    }

    /// Pieces of so many bytes, one behind the other: which, and what lies in it.
    fn chunks(
        &self,
        at: Addr,
        count: u64,
        bytes: usize,
        see: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if at.is_null() || count > MAX_ITEMS {
            return ControlFlow::Continue(());
        }
        let most = (PIECE / bytes) as u64;
        let (mut done, mut next) = (0, FIRST);
        let mut piece = Vec::new();
        while done < count {
            // Most are small, and few liars' are as large as they say.
            let now = (count - done).min(next);
            next = (2 * next).min(most);
            piece.resize(now as usize * bytes, 0);
            let from = at.offset(done * bytes as u64);
            if !self.spend(piece.len()) || self.memory.read(from, &mut piece).is_err() {
                break;
            }
            for (n, chunk) in (done..).zip(piece.chunks_exact(bytes)) {
                see(n, chunk)?;
            }
            done += now;
        }
        ControlFlow::Continue(())
    }

    fn sequence(&self, at: Addr, count: u64, see: See<'_>) -> ControlFlow<()> {
        self.words(at, count, &mut |n, to| see(By::Index(n), to))
    }

    fn set(&self, table: Addr, mask: u64, see: See<'_>) -> ControlFlow<()> {
        // Where one was taken out, there is a placeholder with -1 for a hash.
        self.chunks(table, mask.saturating_add(1), SET_ENTRY as usize, &mut |_, entry| {
            let is_dummy = word(entry, 8) == Some(u64::MAX);
            give(word(entry, 0).filter(|_| !is_dummy), By::Element, see)
        })
    }

    /// `leftblock`@24, `leftindex`@40; a block: link, items, link to the next.
    fn deque(&self, own: &[u8], see: See<'_>) -> ControlFlow<()> {
        let field = |at| word(own, at).unwrap_or(0);
        let (count, mut block, mut index) = (field(16), Addr(field(24)), field(40));
        let (mut n, mut circle) = (0, Circle::default());
        while n < count.min(MAX_ITEMS) && index < DEQUE_ITEMS && !block.is_null() {
            let mut bytes = [0; CHAIN_BLOCK as usize];
            let may = !circle.has(block) && self.spend(bytes.len());
            if !may || self.memory.read(block, &mut bytes).is_err() {
                break;
            }
            while index < DEQUE_ITEMS && n < count {
                give(word(&bytes, 8 + 8 * index), By::Index(n), see)?;
                (n, index) = (n + 1, index + 1);
            }
            block = Addr(word(&bytes, CHAIN_BLOCK - 8).unwrap_or(0));
            index = 0;
        }
        ControlFlow::Continue(())
    }

    /// `PyArrayObject_fields`: data@16, nd@24 (an i32), dimensions@32, strides@40, base@48, descr@56. Of `PyArray_Descr`:
    /// kind@24, a character. Elements are objects where that is `O`, and lie one behind the other unless the strides say
    /// something else: such an array has a base that they are found in.
    fn array(&self, own: &[u8], see: See<'_>) -> ControlFlow<()> {
        let field = |at| word(own, at);
        give(field(48), By::Field("base"), see)?;
        give(field(56), By::Field("dtype"), see)?;
        let (Some(data), Some(dimensions), Some(descr)) = (field(16), field(32), field(56)) else {
            return ControlFlow::Continue(());
        };
        let kind = self.memory.word(Addr(descr).offset(24)).map_or(0, |kind| kind as u8);
        let count = field(24).map_or(0, |nd| u64::from(nd as u32));
        if kind != b'O' || count > MOST_DIMENSIONS {
            return ControlFlow::Continue(());
        }
        let mut shape = vec![0; count as usize * 8];
        if self.memory.read(Addr(dimensions), &mut shape).is_err() {
            return ControlFlow::Continue(());
        }
        let (shape, _) = shape.as_chunks::<8>();
        let elements = shape
            .iter()
            .try_fold(1_u64, |elements, length| elements.checked_mul(u64::from_le_bytes(*length)));
        self.sequence(Addr(data), elements.unwrap_or(0), see)
    }

    /// A dict's keys and values, by its `ma_keys`.
    fn dict(&self, keys: Addr, see: See<'_>) -> ControlFlow<()> {
        let Some(Entries { at, count, bytes, key }) = self.entries(keys) else {
            return ControlFlow::Continue(());
        };
        self.chunks(at, count, bytes, &mut |_, entry| {
            let (name, value) = (word(entry, key), word(entry, key + 8));
            // Where one was taken out, its key may still be there.
            if let (Some(name), Some(1..)) = (name, value) {
                give(value, By::Item(Addr(name)), see)?;
                give(Some(name), By::Key, see)?;
            }
            ControlFlow::Continue(())
        })
    }

    /// Values without keys of their own: the names are in keys that others share. `of_instance`: the values lie in an
    /// instance that may not use them any more.
    pub(super) fn values(
        &self,
        values: Addr,
        keys: Option<Addr>,
        of_instance: bool,
        see: See<'_>,
    ) -> ControlFlow<()> {
        let Some(Entries { at, count, bytes, key }) = keys.and_then(|keys| self.entries(keys))
        else {
            return ControlFlow::Continue(());
        };
        let (mut first, mut most) = (values, MAX_SHARED);
        if self.offsets.attributes == Attributes::Inline {
            // capacity, size, embedded, valid, a byte each; 8 bytes in all.
            let mut head = [0; 8];
            if self.memory.read(values, &mut head).is_err() {
                return ControlFlow::Continue(());
            }
            let [capacity, _, _, valid, ..] = head;
            first = values.offset(8);
            most = if of_instance && valid != 1 { 0 } else { capacity.into() };
        }
        let count = count.min(most);
        let mut named = vec![0; count as usize * 8];
        if self.memory.read(first, &mut named).is_err() {
            return ControlFlow::Continue(());
        }
        self.chunks(at, count, bytes, &mut |n, entry| {
            let name = Addr(word(entry, key).unwrap_or(0));
            give(word(&named, 8 * n), By::Attribute(name), see)
        })
    }

    /// The results that a bounded `lru_cache` holds: in a ring of links, of which the object itself is one.
    fn lru_links(&self, object: Addr, first: Option<u64>, see: See<'_>) -> ControlFlow<()> {
        let (mut link, mut circle) = (Addr(first.unwrap_or(0)), Circle::default());
        while link != object && !link.is_null() && !circle.has(link) {
            let mut bytes = [0; LINK_BYTES];
            if !self.spend(bytes.len()) || self.memory.read(link, &mut bytes).is_err() {
                break;
            }
            give(Some(link.0), By::Field("a link of its cache"), see)?;
            give(word(&bytes, LINK_KEY), By::Field("a cached key"), see)?;
            give(word(&bytes, LINK_KEY + 8), By::Field("a cached result"), see)?;
            link = Addr(word(&bytes, LINK_NEXT).unwrap_or(0));
        }
        ControlFlow::Continue(())
    }

    fn entries(&self, keys: Addr) -> Option<Entries> {
        let mut head = [0; KEYS_HEAD];
        self.memory.read(keys, &mut head).ok()?;
        let layout = &self.layout.keys;
        let (index_bytes, with_hash) = index(layout.size, &head)?;
        let (bytes, key) = if with_hash { (24, 8) } else { (16, 0) };
        let count = word(&head, layout.count).filter(|count| *count <= MAX_ITEMS)?;
        Some(Entries { at: keys.offset(layout.indices + index_bytes), count, bytes, key })
    }
}
