//! Picks objects of a type by chance.

use std::collections::BinaryHeap;

use foldhash::{HashMap, HashMapExt as _};
use leak_common::hash;

use crate::heap::names::TypeNames;
use crate::heap::objects::{self, See};
use crate::target::memory::Memory;
use crate::units::Addr;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_meant_by_its_name_with_or_without_its_module() {
        assert!(
            is_named("app.Embedding", "app.Embedding") && is_named("app.Embedding", "Embedding")
        );
        assert!(is_named("app.make.<locals>.Note", "Note"));
        assert!(!is_named("app.MyEmbedding", "Embedding") && !is_named("app.Embedding", "app"));
    }
}
