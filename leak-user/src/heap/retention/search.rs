//! The search, backwards: who refers to what was found before.

use std::ops::ControlFlow;
use std::time::Instant;

use foldhash::{HashMap, HashMapExt as _, HashSet};

use super::graph::{Edge, Graph, Trust};
use super::roots::Root;
use super::{Case, Survivor};
use crate::heap::objects::{self, Holder, See};
use crate::heap::pymalloc::PymallocError;
use crate::heap::references::{By, References};
use crate::heap::types::TypeHead;
use crate::target::memory::Memory;
use crate::units::Addr;

/// Times that the heap is gone through.
const MAX_PASSES: u64 = 80;

/// References to what is looked for that one pass takes.
const MAX_HITS: usize = 1 << 21;

/// Only small blocks are led to elsewhere than to their start.
const MOST_OF_BLOCK: u64 = 512;

/// Bytes of a region read at once.
const PIECE: usize = 1 << 20;

/// The search.
pub(super) struct Search<'a, 'r, M> {
    case: &'r Case<'a, M>,
    references: &'r mut References<'a, M>,
    samples: Vec<u32>,
    /// What running functions refer to.
    running: HashMap<Addr, Vec<Root>>,
    /// Blocks of which it isn't known whose they are, and what was found in them.
    blocks: HashMap<Addr, Block>,
    /// Which refer to which: holder, held.
    known: HashSet<(u32, u32)>,
    /// Certain references to each that were found.
    counted: HashMap<u32, u64>,
    pub(super) graph: Graph,
}

/// A block of pymalloc's that some object has, or had.
#[derive(Debug, Default)]
struct Block {
    bytes: u64,
    /// What is referred to from within.
    held: Vec<u32>,
    /// Objects that lead to it.
    owners: Vec<Addr>,
    /// It was looked for.
    done: bool,
}

impl<'a, 'r, M: Memory> Search<'a, 'r, M> {
    pub(super) fn new(
        case: &'r Case<'a, M>,
        references: &'r mut References<'a, M>,
        samples: &[Addr],
    ) -> Self {
        let mut graph = Graph::default();
        let running = case.roots.held(references);
        let numbered: Vec<u32> =
            samples.iter().filter_map(|addr| graph.note(*addr)).map(|(node, _)| node).collect();
        let mut search = Self {
            case,
            references,
            samples: numbered,
            running,
            blocks: HashMap::new(),
            known: HashSet::default(),
            counted: HashMap::new(),
            graph,
        };
        for node in search.samples.clone() {
            search.hang_from_functions(node);
        }
        search
    }

    /// Searches until every sample hangs from something, or nothing new is found. Says how many passes it took.
    pub(super) fn run(&mut self) -> Result<u64, PymallocError> {
        let passes = self.passes()?;
        self.settle();
        Ok(passes)
    }

    /// Words of compiled code's memory that can't be references, since others account for all that an object counts:
    /// caches and what was left behind.
    fn settle(&mut self) {
        let Self { graph, references, counted, .. } = self;
        let roots = std::mem::take(&mut graph.roots);
        let is_one = |(root, node): &(Root, u32)| match root {
            Root::Itself | Root::Function { .. } => true,
            Root::Region { .. } => {
                let found = counted.get(node).copied().unwrap_or(0);
                references.count(graph.addr(*node)).is_none_or(|count| count > found)
            }
        };
        graph.roots = roots.into_iter().filter(is_one).collect();
    }

    fn passes(&mut self) -> Result<u64, PymallocError> {
        let mut due: Vec<u32> = self.samples.clone();
        for pass in 1..=MAX_PASSES {
            let held = self.graph.held(Trust::Certain);
            let is_held = |node: &u32| held.get(*node as usize) == Some(&true);
            let mut unheld = self.samples.iter().copied().filter(|node| !is_held(node)).peekable();
            // Where all hang from something, who else has them does not matter.
            if unheld.peek().is_none() {
                return Ok(pass - 1);
            }
            let leads = self.graph.leading_to(unheld);
            due.retain(|node| leads.get(*node as usize) == Some(&true));
            let blocks: Vec<Addr> = self
                .blocks
                .iter()
                .filter(|(_, block)| !block.done)
                .map(|(addr, _)| *addr)
                .collect();
            let is_late = self.case.until.is_some_and(|until| Instant::now() >= until);
            if is_late || (due.is_empty() && blocks.is_empty()) {
                return Ok(pass - 1);
            }
            due = self.pass(&due, &blocks)?;
        }
        Ok(MAX_PASSES)
    }

    /// Goes through the heap once; returns what was found newly.
    fn pass(&mut self, nodes: &[u32], blocks: &[Addr]) -> Result<Vec<u32>, PymallocError> {
        let mut look = Look::default();
        for node in nodes {
            look.add(self.graph.addr(*node).0, Target::Object(*node));
        }
        for addr in blocks {
            let Some(block) = self.blocks.get_mut(addr) else { continue };
            block.done = true;
            look.add_block(*addr, block.bytes);
        }
        objects::go_through(self.case.memory, self.case.heap, &mut look)?;
        self.look_at_regions(&mut look);
        self.graph.over += look.over;
        let mut new = Vec::new();
        // The object, and what it may refer to.
        let mut holders: HashMap<Addr, Vec<u32>> = HashMap::new();
        for (holder, target) in look.hits {
            match (holder, target) {
                (Holder::Object(object), Target::Object(node)) => {
                    holders.entry(object).or_default().push(node);
                }
                (Holder::Object(object), Target::Block(addr)) => {
                    let Some(block) = self.blocks.get_mut(&addr) else { continue };
                    block.owners.push(object);
                    holders.entry(object).or_default().extend(&block.held);
                }
                (Holder::Block(addr, bytes), Target::Object(node)) => {
                    let block = self.blocks.entry(addr).or_default();
                    block.bytes = bytes;
                    block.held.push(node);
                    // It has been looked for.
                    for owner in &block.owners {
                        holders.entry(*owner).or_default().push(node);
                    }
                }
                // One that leads to another is part of something that isn't known.
                (Holder::Block(..), Target::Block(_)) => {}
            }
        }
        for (holder, maybe_held) in holders {
            new.extend(self.holder(holder, &maybe_held));
        }
        Ok(new)
    }

    /// An object that may refer to some that were found: which does it?
    fn holder(&mut self, object: Addr, maybe: &[u32]) -> Option<u32> {
        let wanted: HashMap<Addr, u32> =
            maybe.iter().map(|node| (self.graph.addr(*node), *node)).collect();
        // How it refers to each, and how often.
        let mut ways: HashMap<u32, (By, u64)> = HashMap::new();
        self.references.each(object, &mut |by, to| {
            if let Some(node) = wanted.get(&to) {
                let (way, times) = ways.entry(*node).or_insert((by, 0));
                if way.is_maybe() {
                    *way = by;
                }
                *times += u64::from(!by.is_maybe());
            }
            ControlFlow::Continue(())
        });
        if ways.is_empty() {
            return None;
        }
        let (holder, is_new) = self.graph.note(object)?;
        for (held, (by, times)) in ways {
            // A holder is looked into again where another way to it is found.
            if self.known.insert((holder, held)) {
                self.graph.refer(Edge { holder, by, held });
                *self.counted.entry(held).or_default() += times;
            }
        }
        if !is_new {
            return None;
        }
        if self.lives_for_itself(object) {
            self.graph.roots.push((Root::Itself, holder));
            return None;
        }
        self.hang_from_functions(holder);
        Some(holder)
    }

    fn hang_from_functions(&mut self, node: u32) {
        let roots = self.running.get(&self.graph.addr(node));
        self.graph.roots.extend(roots.into_iter().flatten().map(|root| (*root, node)));
    }

    /// Is it a module, or a class that wasn't made within a function?
    fn lives_for_itself(&mut self, object: Addr) -> bool {
        let Some((_, head)) = self.references.class(object) else { return false };
        if head.is_metatype() {
            let class: Option<TypeHead> = self.references.type_at(object);
            return class.is_some() && !self.references.is_local_class(object);
        }
        self.references.is_module(object)
    }

    fn look_at_regions(&mut self, look: &mut Look) {
        let mut piece = vec![0; PIECE];
        for (number, region) in (0..).zip(&self.case.roots.regions) {
            let mut at = 0;
            while at < region.bytes {
                let length = usize::try_from(region.bytes - at).unwrap_or(PIECE).min(PIECE);
                let Some(part) = piece.get_mut(..length) else { break };
                if self.case.memory.read(region.start.offset(at), part).is_err() {
                    break;
                }
                let (words, _) = part.as_chunks::<8>();
                for (word, n) in words.iter().zip(0..) {
                    if let Some(Target::Object(node)) = look.find(u64::from_le_bytes(*word)) {
                        let root = Root::Region { region: number, at: at + 8 * n };
                        self.graph.roots.push((root, node));
                    }
                }
                at += length as u64;
            }
        }
        self.graph.roots.sort_unstable_by_key(|(root, node)| (root.is_maybe(), *node));
        self.graph.roots.dedup();
    }
}

/// Which objects lead to blocks that are none: the first that is found for each.
pub(super) fn owners<M: Memory>(
    case: &Case<'_, M>,
    blocks: &[Survivor],
) -> Result<HashMap<Addr, Addr>, PymallocError> {
    let mut look = Look::default();
    for block in blocks {
        look.add_block(block.addr, block.size.0);
    }
    objects::go_through(case.memory, case.heap, &mut look)?;
    let mut owners = HashMap::new();
    for (holder, target) in look.hits {
        if let (Holder::Object(object), Target::Block(block)) = (holder, target) {
            owners.entry(block).or_insert(object);
        }
    }
    Ok(owners)
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Target {
    Object(u32),
    Block(Addr),
}

/// Bits of the filter that most words don't pass.
const FILTER_BITS: u64 = 1 << 20;

/// Looks for references to some addresses.
#[derive(Debug)]
struct Look {
    /// A word whose bit is not set isn't looked for.
    filter: Vec<u64>,
    wanted: HashMap<u64, Target>,
    hits: HashSet<(Holder, Target)>,
    over: u64,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            filter: vec![0; usize::try_from(FILTER_BITS / 64).unwrap_or(0)],
            wanted: HashMap::new(),
            hits: HashSet::default(),
            over: 0,
        }
    }
}

impl Look {
    fn add(&mut self, word: u64, target: Target) {
        let (at, bit) = place(word);
        if let Some(bits) = self.filter.get_mut(at) {
            *bits |= bit;
        }
        self.wanted.insert(word, target);
    }

    /// What leads to values may lead to somewhere in the middle of a block.
    fn add_block(&mut self, addr: Addr, bytes: u64) {
        for at in (addr.0..addr.0.saturating_add(bytes.min(MOST_OF_BLOCK))).step_by(8) {
            self.add(at, Target::Block(addr));
        }
    }

    fn find(&self, word: u64) -> Option<Target> {
        // What a slot of a frame holds may be tagged (3.14); the pointer to an instance's values is one less (3.12).
        let word = match word & 7 {
            0 => word,
            1 => word & !7,
            7 => word.wrapping_add(1),
            _ => return None,
        };
        let (at, bit) = place(word);
        let passes = self.filter.get(at).is_some_and(|bits| bits & bit != 0);
        passes.then(|| self.wanted.get(&word).copied()).flatten()
    }
}

fn place(word: u64) -> (usize, u64) {
    let bit = (word >> 3 ^ word >> 23) % FILTER_BITS;
    ((bit / 64) as usize, 1 << (bit % 64))
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
