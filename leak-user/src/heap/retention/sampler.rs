//! Picks objects of a type by chance.

use std::collections::BinaryHeap;

use foldhash::{HashMap, HashMapExt as _};
use leak_common::hash;

use crate::heap::names::TypeNames;
use crate::heap::objects::{self, See};
use crate::target::memory::Memory;
use crate::units::Addr;

/// Names that are as like are worth a suggestion (Jaro-Winkler: 1 is the same).
const ALIKE: f64 = 0.85;

/// Suggestions at most.
const MOST_ALIKE: usize = 3;

/// Picks objects of a type as they are seen: those with the smallest hashes, each with the same chance.
pub(super) struct Sampler<'a, M> {
    memory: &'a M,
    names: TypeNames,
    name: &'a str,
    /// Which classes are meant.
    classes: HashMap<Addr, bool>,
    samples: BinaryHeap<(u64, Addr)>,
    most: usize,
    /// How many there are.
    pub seen: u64,
}

impl<'a, M: Memory> Sampler<'a, M> {
    /// At most so many.
    pub(super) fn new(memory: &'a M, heap: objects::Heap<'_>, name: &'a str, most: usize) -> Self {
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

    /// The names of the types that are meant, and have objects.
    pub(super) fn names(&mut self) -> Vec<String> {
        let meant = self.classes.iter().filter(|(_, is_meant)| **is_meant);
        let mut names: Vec<String> = meant
            .filter_map(|(class, _)| Some(self.names.name(self.memory, *class)?.to_string()))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The names of types that have objects and are called much as the one that was asked for, the likest first.
    pub(super) fn alike(&mut self) -> Vec<String> {
        let known = self.classes.keys().filter_map(|class| self.names.name(self.memory, *class));
        let mut alike: Vec<(f64, String)> = known
            .map(|known| (likeness(&known, self.name), known.to_string()))
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .collect();
        alike.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| one.cmp(other)));
        alike.dedup();
        alike.into_iter().take(MOST_ALIKE).map(|(_, name)| name).collect()
    }

    /// Those that were picked.
    pub(super) fn picked(&self) -> Vec<Addr> {
        self.samples.iter().map(|(_, addr)| *addr).collect()
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

/// How like two names are, with their modules or without, whatever their case.
fn likeness(whole: &str, name: &str) -> f64 {
    let (whole, name) = (whole.to_lowercase(), name.to_lowercase());
    let last = |name: &str| name.rsplit('.').next().map_or_else(String::new, str::to_owned);
    let (of_whole, of_last) = ((&whole, &name), (&last(&whole), &last(&name)));
    [of_whole, of_last].map(|(a, b)| strsim::jaro_winkler(a, b)).into_iter().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_alike() {
        for name in ["embedding", "Embeding", "app.Embeddings", "ap.Embedding", "mod.Embedding"] {
            assert!(likeness("app.Embedding", name) >= ALIKE, "{name}");
        }
        assert!(likeness("builtins.dict", "Embedding") < ALIKE);
    }

    #[test]
    fn a_type_is_meant_by_its_name_with_or_without_its_module() {
        assert!(
            is_named("app.Embedding", "app.Embedding") && is_named("app.Embedding", "Embedding")
        );
        assert!(is_named("app.make.<locals>.Note", "Note"));
        assert!(!is_named("app.MyEmbedding", "Embedding") && !is_named("app.Embedding", "app"));
    }
}
