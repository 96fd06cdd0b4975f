//! Allocation sites: a domain, a Python stack by lines, and for the C heap the native caller.
//!
//! The kernel numbers stacks by instruction; here, stacks whose frames are on the same lines are one
//! site, whatever their ids.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use leak_common::keys::SiteCounts;

use crate::{
    symbolize::stacks::{PyFrame, Stacks},
    verdict::evidence::{Domain, SiteClass, SiteId},
};

/// Sites at most. What comes after belongs to the one site of its domain without a stack, and its
/// stack counts as missing.
const MAX_SITES: usize = 1 << 17;

/// Stack ids whose site is remembered, and stacks known to be missing, at most.
const MAX_STACKS: usize = 1 << 18;

/// One site.
#[derive(Debug)]
pub struct Site {
    /// Owner of its blocks.
    pub domain: Domain,
    /// The Python stack, innermost frame first; empty where there was none or it never arrived.
    pub frames: Arc<[PyFrame]>,
    /// Where the native caller goes on; 0 where not known.
    pub native_leaf: u64,
    /// What was seen, by size class.
    pub classes: BTreeMap<u32, SiteClass>,
    /// Bursts that saw it allocate.
    pub bursts: u32,
}

impl Site {
    /// Adds what was counted.
    pub fn count(&mut self, size_class: u32, counts: &SiteCounts) {
        let class = self.classes.entry(size_class).or_insert(SiteClass {
            size_class,
            allocations: 0.0,
            bytes: 0.0,
            freed_in_burst: 0.0,
        });
        class.allocations += counts.allocs as f64;
        class.bytes += counts.bytes as f64;
        class.freed_in_burst += counts.frees as f64;
    }
}

type Key = (Domain, Arc<[PyFrame]>, u64);

/// All sites.
#[derive(Debug, Default)]
pub struct Sites {
    sites: Vec<Site>,
    by_key: HashMap<Key, SiteId>,
    by_stack: HashMap<(Domain, u64, u64), SiteId>,
    /// Stacks that sites refer to and that never arrived.
    missing: HashSet<u64>,
}

impl Sites {
    /// The site of a stack id.
    pub fn intern(
        &mut self,
        domain: Domain,
        stack: u64,
        native_leaf: u64,
        stacks: &Stacks,
    ) -> SiteId {
        if let Some(id) = self.by_stack.get(&(domain, stack, native_leaf)) {
            return *id;
        }
        let arrived = stacks.get(stack).cloned();
        if arrived.is_some() {
            self.missing.remove(&stack);
        } else if stack != 0 {
            self.miss(stack);
        }
        // A stack that is still missing may arrive later.
        let lasting = arrived.is_some() || stack == 0;
        let frames = arrived.unwrap_or_else(|| Arc::from([]));
        // Where there are Python frames, the native caller is a detail of one line.
        let leaf = if frames.is_empty() { native_leaf } else { 0 };
        let mut key = (domain, frames, leaf);
        if self.sites.len() >= MAX_SITES && !self.by_key.contains_key(&key) {
            self.miss(stack);
            key = (domain, Arc::from([]), 0);
        }
        let id = self.of_key(key);
        if lasting {
            if self.by_stack.len() >= MAX_STACKS {
                self.by_stack.clear();
            }
            self.by_stack.insert((domain, stack, native_leaf), id);
        }
        id
    }

    fn of_key(&mut self, key: Key) -> SiteId {
        let next = SiteId(self.sites.len() as u32);
        let (domain, frames, native_leaf) = key.clone();
        let id = *self.by_key.entry(key).or_insert(next);
        if id == next {
            let (classes, bursts) = (BTreeMap::new(), 0);
            self.sites.push(Site { domain, frames, native_leaf, classes, bursts });
        }
        id
    }

    fn miss(&mut self, stack: u64) {
        if self.missing.len() < MAX_STACKS {
            self.missing.insert(stack);
        }
    }

    /// Forgets all counts, before they are booked anew from the beginning.
    pub fn reset_counts(&mut self) {
        for site in &mut self.sites {
            site.classes.clear();
        }
    }

    /// A site.
    ///
    /// # Panics
    /// If the id is not of this table.
    pub fn get_mut(&mut self, id: SiteId) -> &mut Site {
        &mut self.sites[id.0 as usize]
    }

    /// A site.
    #[must_use]
    pub fn get(&self, id: SiteId) -> Option<&Site> {
        self.sites.get(id.0 as usize)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (SiteId, &Site)> {
        (0..).map(SiteId).zip(&self.sites)
    }

    /// How many stacks never arrived.
    #[must_use]
    pub fn missing_stacks(&self) -> u64 {
        self.missing.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_bounded_and_the_rest_counted() {
        let (mut sites, stacks) = (Sites::default(), Stacks::default());
        for leaf in 1..=MAX_SITES as u64 + 9 {
            sites.intern(Domain::Malloc, 0, leaf, &stacks);
        }
        // Those and the one for the rest.
        assert_eq!(sites.sites.len(), MAX_SITES + 1);
        assert_eq!(sites.intern(Domain::Malloc, 0, u64::MAX, &stacks), SiteId(MAX_SITES as u32));
        assert_eq!(sites.missing_stacks(), 1, "native callers that are alike");
        assert_eq!(sites.intern(Domain::Malloc, 0, 7, &stacks), SiteId(6), "known ones stay");
    }

    #[test]
    fn a_stack_that_never_arrives_is_counted_once() {
        let (mut sites, stacks) = (Sites::default(), Stacks::default());
        sites.intern(Domain::Pymalloc, 5, 0, &stacks);
        sites.intern(Domain::Mmap, 5, 0, &stacks);
        assert_eq!(sites.missing_stacks(), 1);
    }
}
