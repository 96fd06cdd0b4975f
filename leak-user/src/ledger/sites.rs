//! Allocation sites: a domain, a Python stack by lines, and before it the calls of extensions and libraries.
//!
//! The kernel numbers stacks by instruction; here, stacks whose frames are on the same lines are one
//! site, whatever their ids.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use leak_common::keys::SiteCounts;

use crate::{
    symbolize::stacks::{Frame, PyFrame, Stacks, line_of, own_line},
    verdict::evidence::{Domain, LineId, Lines, SiteClass, SiteId},
};

/// Sites at most. Where that is not enough, those are forgotten that were not seen for long and have nothing that
/// lives; what comes when there are none such belongs to the one site of its domain without a stack, and its
/// stack counts as missing.
const MAX_SITES: usize = 1 << 15;

/// A site that so many bursts did not see was not seen for long.
const IDLE_BURSTS: u32 = 60;

/// Stack ids whose site is remembered at most, for each site that there is room for.
const STACKS_OF_SITE: usize = 2;

/// Stacks known to be missing at most.
const MAX_MISSING: usize = 1 << 18;

/// One site.
#[derive(Debug)]
pub struct Site {
    /// Owner of its blocks.
    pub domain: Domain,
    /// What tells it from others, innermost frame first; empty where there was no stack or it never
    /// arrived.
    pub frames: Arc<[Frame]>,
    /// One whole stack that led to it.
    pub stack: Arc<[Frame]>,
    /// The lines that it is on.
    pub lines: Lines,
    /// The name of one thread that allocated here, where that runs no Python.
    pub thread: Option<Arc<str>>,
    /// What was seen, by size class: one or a few.
    pub classes: Vec<SiteClass>,
    /// Bursts that saw it allocate.
    pub bursts: u32,
    /// The latest burst that saw it, or the one before it was.
    seen: u32,
}

impl Site {
    fn count(&mut self, size_class: u32, counts: &SiteCounts) {
        let at = self.classes.iter().position(|class| class.size_class == size_class);
        let at = at.unwrap_or_else(|| {
            self.classes.push(SiteClass { size_class, allocations: 0.0, bytes: 0.0 });
            self.classes.len() - 1
        });
        let class = &mut self.classes[at];
        class.allocations += counts.allocs as f64;
        class.bytes += counts.bytes as f64;
    }
}

type Key = (Domain, Arc<[Frame]>);

/// The lines that a stack is on.
fn lines(frames: &[Frame]) -> Lines {
    let id = |frame: &PyFrame| {
        let mut hasher = DefaultHasher::new();
        (&frame.file, frame.line).hash(&mut hasher);
        LineId(hasher.finish())
    };
    Lines { allocates: line_of(frames).map(id), own: own_line(frames).map(id) }
}

/// All sites.
#[derive(Debug)]
pub struct Sites {
    max_sites: usize,
    sites: BTreeMap<SiteId, Site>,
    next: u32,
    /// Bursts so far.
    bursts: u32,
    by_key: HashMap<Key, SiteId>,
    by_stack: HashMap<(Domain, u64, u64), SiteId>,
    /// Stacks that sites refer to and that never arrived.
    missing: HashSet<u64>,
    forgotten: u64,
}

impl Default for Sites {
    fn default() -> Self {
        Self::with_room(MAX_SITES)
    }
}

impl Sites {
    /// None yet, and room for so many.
    #[must_use]
    pub fn with_room(max_sites: usize) -> Self {
        Self {
            max_sites,
            sites: BTreeMap::new(),
            next: 0,
            bursts: 0,
            by_key: HashMap::new(),
            by_stack: HashMap::new(),
            missing: HashSet::new(),
            forgotten: 0,
        }
    }

    /// The site of a Python stack and a native stack (which has that Python stack in it); 0: none.
    pub fn intern(&mut self, domain: Domain, stack: u64, native: u64, stacks: &Stacks) -> SiteId {
        if let Some(id) = self.by_stack.get(&(domain, stack, native)) {
            return *id;
        }
        let wanted = if native == 0 { stack } else { native };
        let arrived = stacks.get(wanted);
        if arrived.is_some() {
            self.missing.remove(&wanted);
        } else if wanted != 0 {
            self.miss(wanted);
        }
        // A stack that is still missing may arrive later.
        let lasting = arrived.is_some() || wanted == 0;
        let nothing: Arc<[Frame]> = Arc::from([]);
        let (mut frames, mut whole, thread) = match arrived.or_else(|| stacks.get(stack)) {
            Some(known) => {
                (Arc::clone(&known.site), Arc::clone(&known.whole), known.thread.clone())
            }
            None => (Arc::clone(&nothing), Arc::clone(&nothing), None),
        };
        if self.is_full() && !self.by_key.contains_key(&(domain, frames.clone())) {
            self.miss(wanted);
            (frames, whole) = (Arc::clone(&nothing), nothing);
        }
        let id = self.of_key((domain, frames), whole, thread);
        if lasting {
            if self.by_stack.len() >= STACKS_OF_SITE * self.max_sites {
                self.by_stack.clear();
            }
            self.by_stack.insert((domain, stack, native), id);
        }
        id
    }

    fn of_key(&mut self, key: Key, stack: Arc<[Frame]>, thread: Option<Arc<str>>) -> SiteId {
        let next = SiteId(self.next);
        let (domain, frames) = key.clone();
        let id = *self.by_key.entry(key).or_insert(next);
        if id == next {
            self.next += 1;
            let (lines, classes, bursts, seen) = (lines(&frames), Vec::new(), 0, self.bursts);
            let site = Site { domain, frames, stack, lines, thread, classes, bursts, seen };
            self.sites.insert(id, site);
        }
        id
    }

    fn miss(&mut self, stack: u64) {
        if self.missing.len() < MAX_MISSING {
            self.missing.insert(stack);
        }
    }

    /// A burst is about to be counted.
    pub fn begin_burst(&mut self) {
        self.bursts += 1;
    }

    /// Adds what was counted.
    pub fn count(&mut self, id: SiteId, size_class: u32, counts: &SiteCounts) {
        if let Some(site) = self.sites.get_mut(&id) {
            site.count(size_class, counts);
            site.seen = self.bursts;
        }
    }

    /// It has just been seen.
    pub fn saw(&mut self, id: SiteId) {
        if let Some(site) = self.sites.get_mut(&id) {
            site.seen = self.bursts;
        }
    }

    /// This burst saw it allocate.
    pub fn allocated(&mut self, id: SiteId) {
        if let Some(site) = self.sites.get_mut(&id) {
            site.bursts += 1;
        }
    }

    /// Forgets all counts, before they are booked anew from the beginning.
    pub fn reset_counts(&mut self) {
        for site in self.sites.values_mut() {
            site.classes.clear();
        }
    }

    /// The ids of stacks mean others from now on.
    pub fn forget_stacks(&mut self) {
        self.by_stack.clear();
    }

    /// Is there no room for another one?
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.sites.len() >= self.max_sites
    }

    /// Forgets, and names, the sites that were not seen for long, but for those of which something lives.
    pub fn forget_idle(&mut self, alive: &HashSet<SiteId>) -> HashSet<SiteId> {
        let bursts = self.bursts;
        let idle = |id: &SiteId, site: &Site| {
            bursts.saturating_sub(site.seen) >= IDLE_BURSTS && !alive.contains(id)
        };
        let forgotten: HashSet<SiteId> =
            self.sites.extract_if(.., |id, site| idle(id, site)).map(|(id, _)| id).collect();
        self.by_key.retain(|_, id| !forgotten.contains(id));
        // Also of those that there was no room for.
        self.by_stack.clear();
        self.forgotten += forgotten.len() as u64;
        forgotten
    }

    /// How many sites were forgotten.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// A site.
    #[must_use]
    pub fn get(&self, id: SiteId) -> Option<&Site> {
        self.sites.get(&id)
    }

    /// All of them, those that were seen first first.
    pub fn iter(&self) -> impl Iterator<Item = (SiteId, &Site)> {
        self.sites.iter().map(|(id, site)| (*id, site))
    }

    /// How many stacks never arrived.
    #[must_use]
    pub fn missing_stacks(&self) -> u64 {
        self.missing.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use leak_common::frame::pack;

    use super::*;
    use crate::heap::testing::FakeMemory;
    use crate::symbolize::{code::CodeCache, merge::Owners, unwind::NativeStack};
    use crate::target::layout::layout;
    use crate::units::Addr;

    /// Native stacks of one call each, with these ids.
    fn natives(ids: impl Iterator<Item = u64>) -> Stacks {
        let mut stacks = Stacks::default();
        for id in ids {
            let native = NativeStack { calls: vec![Addr(1), Addr(id)], whole: true };
            stacks.insert_native(id, 0, &native, &Owners::default(), false, "worker");
        }
        stacks
    }

    #[test]
    fn sites_are_bounded_and_the_rest_counted() {
        let mut sites = Sites::default();
        let stacks = natives(1..=MAX_SITES as u64 + 9);
        for id in 1..=MAX_SITES as u64 + 9 {
            sites.intern(Domain::Malloc, 0, id, &stacks);
        }
        // Those and the one for the rest.
        assert_eq!(sites.sites.len(), MAX_SITES + 1);
        assert_eq!(sites.intern(Domain::Malloc, 0, 7, &stacks), SiteId(6), "known ones stay");
        assert_eq!(sites.missing_stacks(), 9);
    }

    #[test]
    fn those_that_are_idle_and_have_nothing_alive_make_room() {
        let (mut sites, stacks) = (Sites::default(), natives(1..=4));
        let ids: Vec<SiteId> =
            (1..=4).map(|id| sites.intern(Domain::Malloc, 0, id, &stacks)).collect();
        for _ in 0..IDLE_BURSTS {
            sites.begin_burst();
            sites.count(ids[0], 3, &SiteCounts { allocs: 1, bytes: 48 });
        }
        let young = sites.intern(Domain::Mmap, 0, 1, &stacks);
        let forgotten = sites.forget_idle(&HashSet::from([ids[1]]));
        assert_eq!(forgotten, HashSet::from([ids[2], ids[3]]));
        assert_eq!(sites.iter().map(|(id, _)| id).collect::<Vec<_>>(), [ids[0], ids[1], young]);
        assert_eq!(sites.forgotten(), 2);
        // One that comes again is another.
        let again = sites.intern(Domain::Malloc, 0, 3, &stacks);
        assert!(!ids.contains(&again) && again != young);
        assert_eq!(sites.intern(Domain::Malloc, 0, 1, &stacks), ids[0]);
    }

    #[test]
    fn one_whose_native_stack_is_missing_has_its_line() {
        let mut stacks = Stacks::default();
        let mut codes = CodeCache::new(layout((3, 12)).unwrap(), Addr(0x1000));
        stacks.insert(5, &[pack(0x5000, 2)], &mut codes, &FakeMemory::default());
        let mut sites = Sites::default();
        let without = sites.intern(Domain::Malloc, 5, 9, &stacks);
        assert_eq!(sites.get(without).unwrap().frames.len(), 1);
        assert_eq!(sites.missing_stacks(), 1);
        // It arrives.
        let native = NativeStack { calls: vec![Addr(1), Addr(2)], whole: true };
        stacks.insert_native(9, 5, &native, &Owners::default(), false, "worker");
        let with = sites.intern(Domain::Malloc, 5, 9, &stacks);
        assert_eq!(sites.get(with).unwrap().frames.len(), 2);
        assert_eq!(sites.missing_stacks(), 0);
    }

    #[test]
    fn a_stack_that_never_arrives_is_counted_once() {
        let (mut sites, stacks) = (Sites::default(), Stacks::default());
        sites.intern(Domain::Pymalloc, 5, 0, &stacks);
        sites.intern(Domain::Mmap, 5, 0, &stacks);
        assert_eq!(sites.missing_stacks(), 1);
    }
}
