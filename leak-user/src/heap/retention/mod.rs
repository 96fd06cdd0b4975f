//! Who keeps an object alive: the shortest chains of references from a root to it.
//!
//! The search goes backwards. The heap is gone through again and again; each time it is noted which objects refer to
//! those that were found before, until each sample hangs from something that lives for itself: a module, a class, a
//! running function's variable, a variable of compiled code. What looks like a reference is believed only where the
//! object's own type says that it is one ([`super::references`]). Memory is taken for what was found, not for the heap.

mod chains;
mod graph;
mod keepers;
mod look;
mod names;
mod roots;
mod sampler;
mod search;

use std::cmp::Reverse;
use std::time::Instant;

use foldhash::{HashMap, HashMapExt as _};

use self::chains::{Chain, Cycles, chains};
use self::graph::Graph;
pub use self::keepers::{Kept, Survivor, kept_by};
use self::names::{Names, Word};
pub use self::roots::Roots;
use self::sampler::Sampler;
use self::search::Search;
use super::objects;
use super::pymalloc::PymallocError;
use super::references::References;
use crate::snapshot::why::{Group, Holder, Why};
use crate::target::memory::Memory;
use crate::units::Addr;

/// Ways of hanging that are told, of most samples first.
const MAX_GROUPS: usize = 16;

/// Samples that nothing holds, of which a cycle is searched for.
const MAX_CYCLES: u64 = 16;

/// A share of the samples from which on what they hang from is named.
const MOST: f64 = 0.5;

/// Which objects to explain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Those of a type, as `module.qualname`, or its last part.
    Type(String),
    /// One.
    Object(Addr),
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum WhyError {
    /// There are none.
    #[error("no object of type {asked} was found")]
    NoSuchType {
        /// What was asked for.
        asked: String,
        /// Types that have objects and are called alike.
        alike: Vec<String>,
    },
    /// There is none.
    #[error("there is no object at {0}")]
    NoSuchObject(Addr),
    /// The heap can't be gone through.
    #[error(transparent)]
    Pymalloc(#[from] PymallocError),
}

/// A heap to search.
pub struct Case<'a, M> {
    /// The process's memory.
    pub memory: &'a M,
    /// What there is to know of it.
    pub heap: objects::Heap<'a>,
    /// What lives for itself.
    pub roots: &'a Roots,
    /// `PyCode_Type`.
    pub code_type: Addr,
    /// The search ends then, with what it has.
    pub until: Option<Instant>,
    /// The process stands still: what isn't found at once isn't there.
    pub frozen: bool,
}

impl<'a, M: Memory> Case<'a, M> {
    fn references(&self) -> References<'a, M> {
        References::new(self.memory, self.heap.layout, self.heap.type_type, self.code_type)
    }

    fn names(&self) -> Names<'a, M> {
        Names::new(self.memory, self.heap.layout, self.heap.type_type)
    }
}

/// Finds out who keeps so many samples of them alive.
///
/// # Errors
/// [`WhyError`].
pub fn why<M: Memory>(
    case: &Case<'_, M>,
    wanted: &Wanted,
    samples: usize,
) -> Result<Why, WhyError> {
    let mut references = case.references();
    let (found, count, meant) = match wanted {
        Wanted::Object(addr) if references.is_object(*addr) => (vec![*addr], 1, Vec::new()),
        Wanted::Object(addr) => return Err(WhyError::NoSuchObject(*addr)),
        Wanted::Type(name) => {
            let mut sampler = Sampler::new(case.memory, case.heap, name, samples);
            objects::go_through(case.memory, case.heap, &mut sampler)?;
            if sampler.seen == 0 {
                let alike = sampler.alike();
                return Err(WhyError::NoSuchType { asked: name.clone(), alike });
            }
            (sampler.picked(), sampler.seen, sampler.names())
        }
    };
    let mut search = Search::new(case, &mut references, &found);
    let ended = search.run()?;
    let graph = search.graph;
    let (names, roots) = (case.names(), case.roots);
    let mut teller = Teller { names, references: &mut references, graph: &graph, roots };
    let chains = chains(&graph, &found);
    let ways = ways(&found, &chains, ended.complete, &mut teller);
    let holder = holder(&found, &chains, &mut teller);
    let name = match (wanted, meant.as_slice()) {
        (_, [one]) => one.clone(),
        // Of several modules.
        (Wanted::Type(asked), meant) => format!("{asked} ({})", meant.join(", ")),
        (Wanted::Object(addr), _) => {
            teller.names.class_of(teller.references, *addr).unwrap_or_else(|| addr.to_string())
        }
    };
    Ok(Why {
        name,
        count,
        samples: found.len() as u64,
        passes: ended.passes,
        complete: ended.complete,
        groups: ways.groups,
        others: ways.others,
        holder,
        unheld: ways.unheld,
        in_cycles: ways.in_cycles,
        cycles: ways.cycles,
        over: graph.over,
    })
}

/// Tells chains in words.
struct Teller<'t, 'a, M> {
    names: Names<'a, M>,
    references: &'t mut References<'a, M>,
    graph: &'t Graph,
    roots: &'t Roots,
}

impl<M: Memory> Teller<'_, '_, M> {
    fn words(&mut self, chain: &Chain) -> Vec<Word> {
        self.names.words(self.references, self.graph, self.roots, chain)
    }
}

fn patterns(words: &[Word]) -> Vec<String> {
    words.iter().map(|word| word.pattern.clone()).collect()
}

/// In which ways samples hang.
struct Ways {
    /// That of most first.
    groups: Vec<Group>,
    /// Those that hang in still other ways.
    others: u64,
    /// Those that hang from nothing that was found.
    unheld: u64,
    /// Those of them that nothing but cycles can hold.
    in_cycles: u64,
    /// Such cycles, each once.
    cycles: Vec<Vec<String>>,
}

fn ways<M: Memory>(
    samples: &[Addr],
    chains: &HashMap<u32, Chain>,
    complete: bool,
    teller: &mut Teller<'_, '_, M>,
) -> Ways {
    let mut groups: HashMap<Vec<String>, Group> = HashMap::new();
    let (mut unheld, mut in_cycles): (u64, u64) = (0, 0);
    let mut cycles: Vec<Vec<Word>> = Vec::new();
    let mut search = Cycles::new(teller.graph);
    let by_unknown = teller.graph.held_by_unknown();
    let text = |words: Vec<Word>| words.into_iter().map(|word| word.text).collect();
    for sample in samples {
        let node = teller.graph.node(*sample);
        let Some(chain) = node.and_then(|node| chains.get(&node)) else {
            unheld += 1;
            let is_known = node.is_some_and(|node| by_unknown.get(node as usize) == Some(&false));
            if !(complete && is_known) {
                continue;
            }
            in_cycles += 1;
            if in_cycles <= MAX_CYCLES
                && let Some(words) = search.of(*sample).map(|one| teller.words(&one))
                && !cycles.iter().any(|known| patterns(known) == patterns(&words))
            {
                cycles.push(words);
            }
            continue;
        };
        let words = teller.words(chain);
        let (maybe, object) = (chain.is_maybe(), sample.0);
        groups
            .entry(patterns(&words))
            .or_insert_with(|| Group { samples: 0, maybe, object, path: text(words) })
            .samples += 1;
    }
    let mut groups: Vec<(Vec<String>, Group)> = groups.into_iter().collect();
    groups.sort_by(|(a, one), (b, other)| (other.samples, a).cmp(&(one.samples, b)));
    let mut groups: Vec<Group> = groups.into_iter().map(|(_, group)| group).collect();
    let others = groups.drain(groups.len().min(MAX_GROUPS)..).map(|group| group.samples).sum();
    let cycles = cycles.into_iter().map(text).collect();
    Ways { groups, others, unheld, in_cycles, cycles }
}

/// An object that is on the chains of most samples.
struct Common {
    /// How many.
    samples: u64,
    /// The chain that leads to it.
    chain: Chain,
}

/// What most samples hang from: of all that is on the chains of most, what is nearest to the samples.
fn common(samples: &[Addr], chains: &HashMap<u32, Chain>, graph: &Graph) -> Option<Common> {
    // By object: how many, how far from the root, and one of them.
    let mut on: HashMap<u32, (u64, usize, u32)> = HashMap::new();
    for node in samples.iter().filter_map(|sample| graph.node(*sample)) {
        for (depth, link) in chains.get(&node).into_iter().flat_map(|chain| (0..).zip(&chain.links))
        {
            on.entry(link.holder).or_insert((0, depth, node)).0 += 1;
        }
    }
    let enough = ((MOST * samples.len() as f64).ceil() as u64).max(2);
    let (_, (samples, depth, sample)) = on
        .into_iter()
        .filter(|(_, (count, ..))| *count >= enough)
        .max_by_key(|(node, (count, depth, _))| (*depth, *count, Reverse(*node)))?;
    let chain = chains.get(&sample)?;
    let end = chain.links.get(depth)?.holder;
    let links = chain.links.get(..depth)?.to_vec();
    Some(Common { samples, chain: Chain { root: chain.root, links, end } })
}

fn holder<M: Memory>(
    samples: &[Addr],
    chains: &HashMap<u32, Chain>,
    teller: &mut Teller<'_, '_, M>,
) -> Option<Holder> {
    let Common { samples, chain } = common(samples, chains, teller.graph)?;
    let words = teller.words(&chain);
    Some(Holder { samples, path: words.into_iter().map(|word| word.text).collect() })
}
