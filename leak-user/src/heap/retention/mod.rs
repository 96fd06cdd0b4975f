//! Who keeps an object alive: the shortest chains of references from a root to it.
//!
//! The search goes backwards. The heap is gone through again and again; each time it is noted which objects refer to
//! those that were found before, until each sample hangs from something that lives for itself: a module, a class, a
//! running function's variable, a variable of compiled code. What looks like a reference is believed only where the
//! object's own type says that it is one ([`super::references`]). Memory is taken for what was found, not for the heap.

mod chains;
mod graph;
mod names;
mod roots;
mod search;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use foldhash::{HashMap, HashMapExt as _};
use leak_common::hash;

use self::chains::{Chain, chains, cycle};
use self::graph::Graph;
use self::names::{Names, Word};
pub use self::roots::Roots;
use self::search::Search;
use super::names::TypeNames;
use super::objects::{self, See};
use super::pymalloc::PymallocError;
use super::references::References;
use crate::snapshot::why::{Group, Holder, Why};
use crate::target::memory::Memory;
use crate::units::Addr;

/// Ways of hanging that are told apart.
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
    #[error("no object of type {0} was found")]
    NoSuchType(String),
    /// There is none.
    #[error("there is no object at {0}")]
    NoSuchObject(Addr),
    /// The heap can't be gone through.
    #[error(transparent)]
    Pymalloc(#[from] PymallocError),
}

/// Finds out who keeps so many samples of them alive. `code_type` is `PyCode_Type`.
///
/// # Errors
/// [`WhyError`].
pub fn why<M: Memory>(
    memory: &M,
    heap: objects::Heap<'_>,
    roots: &Roots,
    wanted: &Wanted,
    samples: usize,
    code_type: Addr,
) -> Result<Why, WhyError> {
    let mut references = References::new(memory, heap.layout, heap.type_type, code_type);
    let (found, count) = match wanted {
        Wanted::Object(addr) if references.is_object(*addr) => (vec![*addr], 1),
        Wanted::Object(addr) => return Err(WhyError::NoSuchObject(*addr)),
        Wanted::Type(name) => {
            let mut sampler = Sampler::new(memory, heap, name, samples);
            objects::go_through(memory, heap, &mut sampler)?;
            if sampler.samples.is_empty() {
                return Err(WhyError::NoSuchType(name.clone()));
            }
            (sampler.samples.iter().map(|(_, addr)| *addr).collect(), sampler.seen)
        }
    };
    let mut search = Search::new(memory, heap, roots, &mut references, &found);
    let passes = search.run()?;
    let graph = search.graph;
    let mut teller = Teller {
        names: Names::new(memory, heap.layout, heap.type_type),
        references: &mut references,
        graph: &graph,
        roots,
    };
    let chains = chains(&graph);
    let mut groups: Vec<(Vec<String>, Group)> = Vec::new();
    let (mut unheld, mut cycles) = (0, Vec::new());
    for sample in &found {
        let Some(chain) = graph.node(*sample).and_then(|node| chains.get(&node)) else {
            unheld += 1;
            if unheld <= MAX_CYCLES {
                cycles.extend(cycle(&graph, *sample).map(|cycle| teller.words(&cycle)));
            }
            continue;
        };
        let words = teller.words(chain);
        let key = patterns(&words);
        if let Some((_, group)) = groups.iter_mut().find(|(known, _)| *known == key) {
            group.samples += 1;
        } else if groups.len() < MAX_GROUPS {
            let path = words.into_iter().map(|word| word.text).collect();
            let group = Group { samples: 1, maybe: chain.is_maybe(), object: sample.0, path };
            groups.push((key, group));
        }
    }
    let mut groups: Vec<Group> = groups.into_iter().map(|(_, group)| group).collect();
    groups.sort_by_key(|group| Reverse(group.samples));
    let holder = holder(&found, &graph, &chains, &mut teller);
    let first = found.first().copied().unwrap_or(Addr(0));
    let asked = match wanted {
        Wanted::Type(name) => name.clone(),
        Wanted::Object(addr) => addr.to_string(),
    };
    let name = teller.names.class_of(teller.references, first).unwrap_or(asked);
    Ok(Why {
        name,
        count,
        samples: found.len() as u64,
        passes,
        groups,
        holder,
        unheld,
        cycles: unique(cycles),
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

/// Each once, whatever their objects.
fn unique(cycles: Vec<Vec<Word>>) -> Vec<Vec<String>> {
    let mut known: Vec<Vec<Word>> = Vec::new();
    for cycle in cycles {
        if !known.iter().any(|one| patterns(one) == patterns(&cycle)) {
            known.push(cycle);
        }
    }
    known.into_iter().map(|cycle| cycle.into_iter().map(|word| word.text).collect()).collect()
}

/// What most samples hang from: of all that is on the chains of most, what is nearest to the samples.
fn holder<M: Memory>(
    samples: &[Addr],
    graph: &Graph,
    chains: &HashMap<u32, Chain>,
    teller: &mut Teller<'_, '_, M>,
) -> Option<Holder> {
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
    let words = teller.words(&Chain { root: chain.root, links, end });
    Some(Holder { samples, path: words.into_iter().map(|word| word.text).collect() })
}

/// Picks objects of a type as they are seen: those with the smallest hashes, each with the same chance.
struct Sampler<'a, M> {
    memory: &'a M,
    names: TypeNames,
    name: &'a str,
    /// Which classes are meant.
    classes: HashMap<Addr, bool>,
    samples: BinaryHeap<(u64, Addr)>,
    most: usize,
    seen: u64,
}

impl<'a, M: Memory> Sampler<'a, M> {
    fn new(memory: &'a M, heap: objects::Heap<'_>, name: &'a str, most: usize) -> Self {
        Self {
            memory,
            names: TypeNames::new(heap.layout, heap.type_type),
            name,
            classes: HashMap::new(),
            samples: BinaryHeap::new(),
            most,
            seen: 0,
        }
    }
}

impl<M: Memory> See for Sampler<'_, M> {
    fn object(&mut self, addr: Addr, class: Addr) {
        let is_meant = *self.classes.entry(class).or_insert_with(|| {
            let known = self.names.name(self.memory, class);
            known.is_some_and(|known| is_named(&known, self.name))
        });
        if is_meant {
            self.seen += 1;
            self.samples.push((hash::finish(hash::start(addr.0)), addr));
            if self.samples.len() > self.most {
                self.samples.pop();
            }
        }
    }
}

/// `app.Embedding` is meant by itself and by `Embedding`.
fn is_named(whole: &str, name: &str) -> bool {
    whole == name || whole.strip_suffix(name).is_some_and(|before| before.ends_with('.'))
}
