//! The search, backwards: who refers to what was found before.

mod again;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Instant;

use foldhash::{HashMap, HashMapExt as _, HashSet};

use self::again::Due;
use super::Case;
use super::graph::{Edge, Graph, Trust};
use super::look::{Look, Target};
use super::roots::Root;
use crate::heap::objects::{self, Holder};
use crate::heap::pymalloc::PymallocError;
use crate::heap::references::{By, References};
use crate::target::memory::Memory;
use crate::units::Addr;

/// Times that the heap is gone through.
const MAX_PASSES: u64 = 80;

/// Blocks that are no objects and lead to what is looked for.
const MAX_BLOCKS: usize = 1 << 18;

/// What hangs from compiled code's memory, at most.
const MAX_ROOTS: usize = 1 << 20;

/// Bytes of a region read at once.
const PIECE: usize = 1 << 20;

/// Objects that are looked into between two looks at the clock.
const OFTEN: usize = 1 << 10;

/// Objects that refer to what is looked for are read, each no more than there is memory, all no more than so often.
const READ_TIMES: u64 = 4;

/// How a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// Times that the heap was gone through.
    pub passes: u64,
    /// All that leads to samples that hang from nothing was found.
    pub complete: bool,
}

/// The search.
pub(super) struct Search<'a, 'r, M> {
    case: &'r Case<'a, M>,
    references: &'r mut References<'a, M>,
    samples: Vec<u32>,
    /// What running functions refer to.
    running: HashMap<Addr, Vec<Root>>,
    /// Objects that were not looked for yet …
    pending: BTreeSet<u32>,
    /// … and how often the others were.
    looks: HashMap<u32, u8>,
    /// Blocks of which it isn't known whose they are, and what was found in them.
    blocks: BTreeMap<Addr, Block>,
    /// Which refer to which: holder, held.
    known: HashSet<(u32, u32)>,
    counts: HashMap<u32, Counted>,
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
    /// How often it was looked for.
    looks: u8,
}

/// References to an object that were found.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    certain: u64,
    maybe: u64,
}

impl<'a, 'r, M: Memory> Search<'a, 'r, M> {
    pub(super) fn new(
        case: &'r Case<'a, M>,
        references: &'r mut References<'a, M>,
        samples: &[Addr],
    ) -> Self {
        let mut graph = Graph::default();
        let running = case.roots.held(references);
        let samples: Vec<u32> =
            samples.iter().filter_map(|addr| graph.note(*addr)).map(|(node, _)| node).collect();
        let pending = samples.iter().copied().collect();
        let mut search = Self {
            case,
            references,
            samples,
            running,
            pending,
            looks: HashMap::new(),
            blocks: BTreeMap::new(),
            known: HashSet::default(),
            counts: HashMap::new(),
            graph,
        };
        for node in search.samples.clone() {
            search.hang_from_functions(node);
        }
        search
    }

    /// Searches until every sample hangs from something certain, or nothing new is found.
    pub(super) fn run(&mut self) -> Result<Ended, PymallocError> {
        let ended = self.passes()?;
        self.settle();
        // What the last pass has used up is not missing where chains are put into words.
        self.allow_reads();
        Ok(ended)
    }

    fn passes(&mut self) -> Result<Ended, PymallocError> {
        let mut passes = 0;
        while passes < MAX_PASSES {
            let leads = self.leads();
            let mut due = self.not_looked_for(&leads);
            if due.is_empty() {
                if self.forget_what_has_gone() {
                    continue;
                }
                due = self.missed(&leads);
            }
            if due.is_empty() {
                return Ok(Ended { passes, complete: self.graph.over == 0 });
            }
            if self.is_late() {
                break;
            }
            self.pass(&due)?;
            passes += 1;
        }
        Ok(Ended { passes, complete: false })
    }

    /// Of each object: does it lead to a sample that hangs from nothing certain? Where one hangs from something, who
    /// else has it does not matter.
    fn leads(&self) -> Vec<bool> {
        let held = self.graph.held(Trust::Certain);
        let is_held = |node: &u32| held.get(*node as usize) == Some(&true);
        self.graph.leading_to(self.samples.iter().copied().filter(|node| !is_held(node)))
    }

    /// What leads to such samples and was not looked for yet.
    fn not_looked_for(&self, leads: &[bool]) -> Due {
        let leads = |node: &u32| leads.get(*node as usize) == Some(&true);
        let is_new = |block: &Block| block.looks == 0 && block.held.iter().any(leads);
        let blocks = self.blocks.iter().filter(|(_, block)| is_new(block));
        Due {
            nodes: self.pending.iter().copied().filter(leads).collect(),
            blocks: blocks.map(|(addr, _)| *addr).collect(),
        }
    }

    fn allow_reads(&mut self) {
        self.references.allow(self.case.heap.mapped.bytes().saturating_mul(READ_TIMES));
    }

    fn is_late(&self) -> bool {
        self.case.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Goes through the heap once.
    fn pass(&mut self, Due { nodes, blocks }: &Due) -> Result<(), PymallocError> {
        let mut look = Look::new(nodes.len() + blocks.len());
        for node in nodes {
            self.pending.remove(node);
            *self.looks.entry(*node).or_default() += 1;
            look.add(self.graph.addr(*node), *node);
        }
        for addr in blocks {
            let Some(block) = self.blocks.get_mut(addr) else { continue };
            block.looks += 1;
            look.add_block(*addr, block.bytes);
        }
        objects::go_through(self.case.memory, self.case.heap, &mut look)?;
        self.look_at_regions(&look);
        self.graph.over += look.over;
        self.allow_reads();
        for (at, (holder, maybe_held)) in self.holders(look).into_iter().enumerate() {
            if at % OFTEN == OFTEN - 1 && self.is_late() {
                self.graph.over += 1;
                break;
            }
            self.look_into(holder, &maybe_held);
        }
        Ok(())
    }

    /// The objects that may refer to what was looked for, in order of address, each with what it may refer to.
    fn holders(&mut self, look: Look) -> BTreeMap<Addr, BTreeSet<u32>> {
        let mut holders: BTreeMap<Addr, BTreeSet<u32>> = BTreeMap::new();
        for (holder, target) in look.hits {
            match (holder, target) {
                (Holder::Object(object), Target::Object(node)) => {
                    holders.entry(object).or_default().insert(node);
                }
                (Holder::Object(object), Target::Block(addr)) => {
                    let Some(block) = self.blocks.get_mut(&addr) else { continue };
                    block.owners.push(object);
                    holders.entry(object).or_default().extend(&block.held);
                }
                (Holder::Block(addr, bytes), Target::Object(node)) => {
                    if self.blocks.len() >= MAX_BLOCKS && !self.blocks.contains_key(&addr) {
                        self.graph.over += 1;
                        continue;
                    }
                    let block = self.blocks.entry(addr).or_default();
                    block.bytes = bytes;
                    block.held.push(node);
                    // Those that lead to it are known where it was looked for.
                    for owner in &block.owners {
                        holders.entry(*owner).or_default().insert(node);
                    }
                }
                // One that leads to another is part of something that isn't known.
                (Holder::Block(..), Target::Block(_)) => {}
            }
        }
        holders
    }

    /// An object that may refer to some that were found: which does it?
    fn look_into(&mut self, object: Addr, maybe_held: &BTreeSet<u32>) {
        let wanted: HashMap<Addr, u32> =
            maybe_held.iter().map(|node| (self.graph.addr(*node), *node)).collect();
        // How it refers to each, and how often.
        let mut ways: BTreeMap<u32, (By, Counted)> = BTreeMap::new();
        self.references.each(object, &mut |by, to| {
            if let Some(node) = wanted.get(&to) {
                let (way, times) = ways.entry(*node).or_insert((by, Counted::default()));
                if way.is_maybe() {
                    *way = by;
                }
                times.certain += u64::from(!by.is_maybe());
                times.maybe += u64::from(by.is_maybe());
            }
            ControlFlow::Continue(())
        });
        if ways.is_empty() {
            return;
        }
        let Some((holder, is_new)) = self.graph.note(object) else { return };
        for (held, (by, times)) in ways {
            // A holder is looked into again where another way to it is found.
            if self.known.insert((holder, held)) {
                self.graph.refer(Edge { holder, by, held });
                let counted = self.counts.entry(held).or_default();
                counted.certain += times.certain;
                counted.maybe += times.maybe;
            }
        }
        if !is_new {
            return;
        }
        if self.lives_for_itself(object) {
            self.graph.roots.push((Root::Itself, holder));
            return;
        }
        self.hang_from_functions(holder);
        self.pending.insert(holder);
    }

    fn hang_from_functions(&mut self, node: u32) {
        let roots = self.running.get(&self.graph.addr(node));
        self.graph.roots.extend(roots.into_iter().flatten().map(|root| (*root, node)));
    }

    /// Is it a module, or a class that wasn't made within a function?
    fn lives_for_itself(&mut self, object: Addr) -> bool {
        let Some((_, head)) = self.references.class(object) else { return false };
        if head.is_metatype() {
            let is_class = self.references.type_at(object).is_some();
            return is_class && !self.references.is_local_class(object);
        }
        self.references.is_module(object)
    }

    /// Notes what memory of compiled code leads to, of each region once.
    fn look_at_regions(&mut self, look: &Look) {
        let mut piece = vec![0; PIECE];
        for (number, region) in (0..).zip(&self.case.roots.regions) {
            let mut seen: HashSet<u32> = HashSet::default();
            let mut at = 0;
            while at < region.bytes {
                let length = usize::try_from(region.bytes - at).unwrap_or(PIECE).min(PIECE);
                let Some(part) = piece.get_mut(..length) else { break };
                if self.case.memory.read(region.start.offset(at), part).is_err() {
                    break;
                }
                let (words, _) = part.as_chunks::<8>();
                for (word, n) in words.iter().zip(0..) {
                    if let Some(Target::Object(node)) = look.find(u64::from_le_bytes(*word))
                        && seen.insert(node)
                        && self.graph.roots.len() < MAX_ROOTS
                    {
                        let root = Root::Region { region: number, at: at + 8 * n };
                        self.graph.roots.push((root, node));
                    }
                }
                at += length as u64;
            }
        }
    }

    /// Objects count who refers to them. Where what was found accounts for all, words of compiled code's memory are
    /// caches, or were left behind; where it doesn't, something holds them that isn't known.
    fn settle(&mut self) {
        let Self { graph, references, counts, .. } = self;
        let counted = |node: u32| counts.get(&node).copied().unwrap_or_default();
        let roots = std::mem::take(&mut graph.roots);
        let is_one = |(root, node): &(Root, u32)| match root {
            Root::Itself | Root::Function { .. } => true,
            Root::Region { .. } => {
                let says = references.count(graph.addr(*node));
                says.is_none_or(|says| says > counted(*node).certain)
            }
        };
        let roots: Vec<(Root, u32)> = roots.into_iter().filter(is_one).collect();
        graph.roots = roots;
        let held = graph.held(Trust::All);
        let unheld = self.samples.iter().copied().filter(|node| !held[*node as usize]);
        let leads = graph.leading_to(unheld);
        for node in (0..).zip(leads).filter(|(_, leads)| *leads).map(|(node, _)| node) {
            let Counted { certain, maybe } = counted(node);
            let says = references.count(graph.addr(node));
            if says.is_none_or(|says| says > certain + maybe) {
                graph.unexplained.push(node);
            }
        }
    }
}
