//! How many objects of which type there are.
//!
//! pymalloc tells of every block whether it is alive, so all objects of up to 512 bytes are seen, those that the
//! collector never tracks (`str`, `int`) too. Larger ones lie in malloc's heap, and are found through whoever refers to
//! them (`outside`): no list of a running process would hold still for a walk.

mod large;
mod mapped;
mod outside;
mod owned;
mod size;

use foldhash::HashMap;

pub use self::mapped::Mapped;
use self::outside::{Chain, LINKS, Outside, Place, Stretch, is_place, linked};
use self::owned::{Body, Owner, table};
pub(super) use self::owned::{CHAIN_BLOCK, DEQUE_ITEMS, KEYS_HEAD, MOST_DIMENSIONS, SET_ENTRY};
pub(super) use self::size::TAGGED_INTS;
use super::identity::{HEADERS, candidate, is_instance};
use super::pymalloc::{Arenas, Blocks, PymallocError, Walked};
use super::types::{TypeHead, Types, plausible};
use crate::target::Pymalloc;
use crate::target::layout::Layout;
use crate::target::memory::Memory;
use crate::units::{Addr, Bytes};

/// Types that are told apart: no honest process has more.
const MAX_TYPES: usize = 1 << 17;

/// Arenas of all states together: 256 GiB of them.
const MAX_ARENAS: usize = 1 << 18;

/// Bytes of a numpy array that tell of its elements.
const ARRAY: usize = 64;

/// `ob_refcnt`, `ob_type`: no references to objects outside of the pools but to types.
const HEAD: usize = 16;

/// Some objects or blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Those that the collector tracks.
    pub tracked: u64,
    /// Bytes of their blocks.
    pub bytes: Bytes,
    /// Bytes of what they own beside: bodies of lists, tables of dicts and sets, buffers.
    pub owned: Bytes,
}

impl Tally {
    fn add(&mut self, bytes: u64, tracked: bool) {
        self.count += 1;
        self.tracked += u64::from(tracked);
        self.bytes.0 = self.bytes.0.saturating_add(bytes);
    }
}

/// All objects that were seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    /// By type.
    pub types: HashMap<Addr, Tally>,
    /// Dead ones that the interpreter keeps to hand out again.
    pub recycled: Tally,
    /// Blocks of pymalloc's that are no objects, and are not known to be owned by one.
    pub raw: Tally,
    /// Blocks of pymalloc's that objects own.
    pub owned: Tally,
    /// Bytes of objects outside of pymalloc's pools, and of what objects own there.
    pub large: Bytes,
    /// Pools that were not seen.
    pub walked: Walked,
    /// Links of the collector's that lead nowhere: their objects went meanwhile.
    pub lost_links: u64,
    /// Places outside of the pools that there was no room for, or no time.
    pub places_over: u64,
    /// Objects of types that there was no room for.
    pub more: Tally,
    /// States of pymalloc whose arenas there was no room for.
    pub states_over: u64,
}

/// What holds some memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// An object there: the memory is its own, or it owns it.
    Object(Addr),
    /// A block of pymalloc's there, of so many bytes, of which it isn't known whose it is.
    Block(Addr, u64),
}

/// Sees objects, and memory that may hold references, piece by piece.
pub trait See {
    /// An object, and its class.
    fn object(&mut self, _addr: Addr, _class: Addr) {}
    /// Some memory.
    fn piece(&mut self, _holder: Holder, _bytes: &[u8]) {}
}

/// Sees nothing: all is only counted.
impl See for () {}

/// What is known of a process's heap before its objects are.
#[derive(Debug, Clone, Copy)]
pub struct Heap<'a> {
    /// Where things are in this version.
    pub layout: &'static Layout,
    /// `PyType_Type`.
    pub type_type: Addr,
    /// The states of pymalloc, one for each interpreter that has its own.
    pub pools: &'a [Pymalloc],
    /// The heads of the collector's lists.
    pub lists: &'a [Addr],
    /// What else looks like an address is a number.
    pub mapped: &'a Mapped,
}

/// Counts them.
///
/// # Errors
/// [`PymallocError`], where an array of arenas can't be read.
pub fn count<M: Memory>(memory: &M, heap: Heap<'_>) -> Result<Objects, PymallocError> {
    go_through(memory, heap, &mut ())
}

/// Counts them, and shows all that there is.
///
/// # Errors
/// [`PymallocError`], where an array of arenas can't be read.
pub fn go_through<M: Memory, S: See>(
    memory: &M,
    heap: Heap<'_>,
    see: &mut S,
) -> Result<Objects, PymallocError> {
    let Heap { layout, type_type, pools, lists, mapped } = heap;
    let mut counter = Counter {
        memory,
        see,
        mapped,
        types: Types::new(layout, type_type),
        arenas: Vec::new(),
        objects: Objects::default(),
        owners: HashMap::default(),
        tables: Vec::new(),
        outside: Outside::new(lists, mapped),
        recent: (0, 0),
        piece: Vec::new(),
    };
    let mut heaps: Vec<Blocks> = Vec::new();
    let mut arenas = 0;
    for state in pools {
        let mut heap = Blocks::new(*state);
        heap.refresh(memory)?;
        arenas += heap.arenas().as_slice().len();
        if arenas > MAX_ARENAS {
            counter.objects.states_over += 1;
            continue;
        }
        counter.arenas.push(heap.arenas().clone());
        heaps.push(heap);
    }
    for heap in &mut heaps {
        let Walked { torn, unreadable } = heap.each_arena(memory, |blocks| counter.blocks(blocks));
        counter.objects.walked.torn += torn;
        counter.objects.walked.unreadable += unreadable;
    }
    for list in lists {
        let mut links = [0; LINKS];
        if memory.read(*list, &mut links).is_ok() {
            counter.follow(&links);
        }
    }
    counter.go_outside();
    counter.objects.places_over = counter.outside.over;
    // When they were seen, it was not known that they are owned.
    let Objects { raw, owned, .. } = &mut counter.objects;
    raw.count = raw.count.saturating_sub(owned.count);
    raw.bytes.0 = raw.bytes.0.saturating_sub(owned.bytes.0);
    Ok(counter.objects)
}

struct Counter<'a, M, S> {
    memory: &'a M,
    see: &'a mut S,
    mapped: &'a Mapped,
    types: Types,
    arenas: Vec<Arenas>,
    objects: Objects,
    /// How the objects of a type keep what they own.
    owners: HashMap<Addr, Option<Owner>>,
    /// Dicts' tables that are still to be looked at, with the dicts and their types.
    tables: Vec<(Addr, Addr, Addr)>,
    /// Where larger objects may be.
    outside: Outside<'a>,
    /// From where to where the arena goes that an address was in last.
    recent: (u64, u64),
    /// Room for what objects own.
    piece: Vec<u8>,
}

impl<M: Memory, S: See> Counter<'_, M, S> {
    /// Live blocks of pools.
    fn blocks(&mut self, blocks: &[(Addr, &[u8])]) {
        let layout = self.types.object();
        let (mut new, mut last) = (Vec::new(), Addr(0));
        for (_, bytes) in blocks {
            for header in HEADERS {
                let Some((class, _)) = candidate(layout, bytes, header) else { continue };
                // Neighbours are often of one type.
                if class != last && self.is_new(class) {
                    new.push(class);
                }
                last = class;
            }
        }
        self.types.learn(self.memory, &new);
        for (addr, bytes) in blocks {
            self.block(*addr, bytes);
        }
        self.measure_tables();
        // Not at the end alone: what is due is then never much.
        self.go_outside();
    }

    fn block(&mut self, block: Addr, bytes: &[u8]) {
        let size = bytes.len() as u64;
        let Some((class, header, references)) = self.object(bytes) else {
            self.scan(Holder::Block(block, size), bytes);
            return self.objects.raw.add(size, false);
        };
        if references == 0 {
            return self.objects.recycled.add(size, false);
        }
        let links = header
            .checked_sub(LINKS as u64)
            .and_then(|at| bytes.get(usize::try_from(at).ok()?..)?.first_chunk::<LINKS>().copied());
        let tracked = links.is_some_and(|links| self.follow(&links));
        self.tally(class).add(size, tracked);
        let addr = block.offset(header);
        self.see.object(addr, class);
        let object = usize::try_from(header).ok().and_then(|header| bytes.get(header..));
        let object = object.unwrap_or_default();
        self.look_for_body(addr, class, object);
        if self.types.get(self.memory, class).is_some_and(|head| !head.is_plain()) {
            // With its managed words, if it has any.
            let before = bytes.get(..LINKS).filter(|_| header > LINKS as u64);
            self.see.piece(Holder::Object(addr), before.unwrap_or_default());
            self.scan(Holder::Object(addr), object.get(HEAD..).unwrap_or_default());
        }
    }

    /// Takes note of what words may refer to outside of the pools.
    fn scan(&mut self, holder: Holder, bytes: &[u8]) {
        self.see.piece(holder, bytes);
        let (words, _) = bytes.as_chunks::<8>();
        for word in words {
            let addr = Addr(u64::from_le_bytes(*word));
            if is_place(addr) && !self.is_pooled(addr) && self.mapped.holds(addr) {
                self.outside.note(Place { addr, linked: false });
            }
        }
    }

    /// Takes note of what an object owns beside its block.
    fn look_for_body(&mut self, addr: Addr, class: Addr, object: &[u8]) {
        let owner = match self.owners.get(&class) {
            Some(owner) => *owner,
            None => {
                let head = self.types.get(self.memory, class);
                let version = self.types.layout().version;
                let owner = head.and_then(|head| Owner::of(self.memory, &head, version));
                if self.owners.len() < MAX_TYPES {
                    self.owners.insert(class, owner);
                }
                owner
            }
        };
        match owner.and_then(|owner| owner.body(object)) {
            Some(Body::At(body, bytes)) => {
                if self.own(class, body, bytes) {
                    self.outside.note_stretch(Stretch { addr: body, bytes, owner: addr });
                }
            }
            // Nothing in it refers to objects.
            Some(Body::Buffer(body, bytes)) => {
                self.own(class, body, bytes);
            }
            Some(Body::Chain(body, blocks)) => {
                if self.own(class, body, Bytes(blocks.saturating_mul(CHAIN_BLOCK))) {
                    self.outside.note_chain(Chain { addr: body, blocks, owner: addr });
                }
            }
            Some(Body::Keys(keys)) if plausible(keys) => self.tables.push((keys, addr, class)),
            Some(Body::Data(data, dimensions, count)) if object.len() >= ARRAY => {
                let descr = object.get(56..).and_then(|at| at.first_chunk());
                let descr = Addr(descr.map_or(0, |descr| u64::from_le_bytes(*descr)));
                self.look_for_elements(addr, data, dimensions, count, descr);
            }
            Some(Body::Keys(_) | Body::Data(..)) | None => {}
        }
    }

    /// Takes note of an array's elements, where they are objects: numbers lead nowhere.
    fn look_for_elements(
        &mut self,
        owner: Addr,
        data: Addr,
        dimensions: Addr,
        count: u64,
        descr: Addr,
    ) {
        let kind = self.memory.word(descr.offset(24)).map_or(0, |kind| kind as u8);
        let mut shape = vec![0; usize::try_from(count).unwrap_or(0) * 8];
        if kind != b'O' || self.memory.read(dimensions, &mut shape).is_err() {
            return;
        }
        let (shape, _) = shape.as_chunks::<8>();
        let bytes = shape
            .iter()
            .try_fold(8_u64, |bytes, length| bytes.checked_mul(u64::from_le_bytes(*length)));
        let bytes = bytes.filter(|bytes| (8..=self.mapped.bytes()).contains(bytes));
        if let Some(bytes) = bytes.filter(|_| !self.is_pooled(data)) {
            self.outside.note_stretch(Stretch { addr: data, bytes: Bytes(bytes), owner });
        }
    }

    /// What is counted of a type.
    fn tally(&mut self, class: Addr) -> &mut Tally {
        let types = &mut self.objects.types;
        if types.len() >= MAX_TYPES && !types.contains_key(&class) {
            return &mut self.objects.more;
        }
        types.entry(class).or_default()
    }

    /// Counts what an object owns. Is it outside of the pools?
    fn own(&mut self, class: Addr, addr: Addr, bytes: Bytes) -> bool {
        if bytes.0 > self.mapped.bytes() {
            return false;
        }
        let tally = self.tally(class);
        tally.owned.0 = tally.owned.0.saturating_add(bytes.0);
        let outside = !self.is_pooled(addr);
        if outside {
            self.objects.large.0 = self.objects.large.0.saturating_add(bytes.0);
        } else {
            self.objects.owned.add(bytes.0.next_multiple_of(16), false);
        }
        outside
    }

    /// Asks the dicts' tables how large they are.
    fn measure_tables(&mut self) {
        let tables = std::mem::take(&mut self.tables);
        let mut heads = vec![[0; KEYS_HEAD]; tables.len()];
        let mut pieces: Vec<(Addr, &mut [u8])> = tables
            .iter()
            .zip(&mut heads)
            .map(|((addr, ..), head)| (*addr, head.as_mut_slice()))
            .collect();
        let read = self.memory.read_scattered(&mut pieces);
        let keys = &self.types.layout().keys;
        for (((addr, owner, class), head), read) in tables.iter().zip(&heads).zip(read) {
            if let Some(bytes) = read.then(|| table(keys, head)).flatten()
                && self.own(*class, *addr, bytes)
            {
                self.outside.note_stretch(Stretch { addr: *addr, bytes, owner: *owner });
            }
        }
    }

    /// The object in a block: its type, the bytes before it, how many refer to it.
    fn object(&mut self, bytes: &[u8]) -> Option<(Addr, u64, u64)> {
        let layout = self.types.object();
        HEADERS.iter().find_map(|header| {
            let (class, references) = candidate(layout, bytes, *header)?;
            let head = self.class(class)?;
            is_instance(&mut self.types, self.memory, &head, *header, references)
                .then_some((class, *header, references))
        })
    }

    /// A type at an address. Types are larger than blocks of pools.
    fn class(&mut self, addr: Addr) -> Option<TypeHead> {
        if self.is_pooled(addr) { None } else { self.types.get(self.memory, addr) }
    }

    /// Could it be a type, and has nobody looked yet?
    fn is_new(&mut self, addr: Addr) -> bool {
        let possible = plausible(addr) && !self.is_pooled(addr) && self.mapped.holds(addr);
        possible && !self.types.is_known(addr)
    }

    fn is_pooled(&mut self, addr: Addr) -> bool {
        let (from, to) = self.recent;
        if (from..to).contains(&addr.0) {
            return true;
        }
        let found = self.arenas.iter().find_map(|arenas| arenas.span(addr));
        self.recent = found.unwrap_or(self.recent);
        found.is_some()
    }

    /// Takes note of where an object's links lead, if that is outside of the pools. Is it tracked?
    fn follow(&mut self, links: &[u8; LINKS]) -> bool {
        let Some(neighbours) = linked(links) else { return false };
        for addr in neighbours {
            if is_place(addr) && !self.is_pooled(addr) && self.mapped.holds(addr) {
                self.outside.note(Place { addr, linked: true });
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
