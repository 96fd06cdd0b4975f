//! How much of the target's work the bursts have seen that recorded a size class, in allocations of any class.
//!
//! Bursts on functions count those themselves. One on the words of a rare class counts that class alone: what else
//! passed by meanwhile is told by how rare the class is in the bursts on functions, all of them together. The first ones
//! alone may have seen requests' begins, where a class that is used at their ends seems much rarer than it is.

use leak_common::keys::{SiteCounts, SiteKey};

/// One more than pymalloc has size classes, which count from 1.
pub const CLASSES: usize = 33;

/// By size class.
#[derive(Debug, Clone)]
pub struct SeenWork {
    classes: [Class; CLASSES],
}

impl Default for SeenWork {
    fn default() -> Self {
        Self { classes: [Class::default(); CLASSES] }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Class {
    /// Allocations of any class, in bursts that recorded this one.
    any: f64,
    /// Allocations of this class in bursts on functions, …
    by_functions: f64,
    /// … and in those on its words.
    by_words: f64,
}

impl SeenWork {
    /// Books a burst on functions that recorded these classes (bit 0: class 1), and so many allocations of any.
    pub fn functions(&mut self, classes: u64, any: f64, counts: &[(SiteKey, SiteCounts)]) {
        self.passed(classes, any);
        self.add(counts, |class| &mut class.by_functions);
    }

    /// Books a burst on the words of rare classes.
    pub fn words(&mut self, counts: &[(SiteKey, SiteCounts)]) {
        self.add(counts, |class| &mut class.by_words);
    }

    /// Books a burst that recorded these classes, where it is known how many allocations of any class passed by.
    pub fn passed(&mut self, classes: u64, any: f64) {
        for (bit, class) in (0_u32..).zip(self.classes.iter_mut().skip(1)) {
            if classes >> bit & 1 == 1 {
                class.any += any;
            }
        }
    }

    fn add(&mut self, counts: &[(SiteKey, SiteCounts)], to: impl Fn(&mut Class) -> &mut f64) {
        for (key, counts) in counts {
            if let Some(class) = self.classes.get_mut(key.size_class as usize) {
                *to(class) += counts.allocs as f64;
            }
        }
    }

    /// Everything is traced: all classes alike.
    pub fn all(&mut self) {
        self.classes = [Class { any: 1.0, ..Class::default() }; CLASSES];
    }

    /// What bursts on functions and on words have seen of a class; 0: nothing.
    #[must_use]
    pub fn of(&self, class: u32) -> f64 {
        let Class { any, by_functions, by_words } =
            self.classes.get(class as usize).copied().unwrap_or_default();
        any * (1.0 + by_words / (by_functions + 1.0))
    }
}

/// What a burst on pymalloc counts that sees so many allocations of each class.
#[cfg(test)]
pub(crate) fn counts(allocs: &[(u32, u64)]) -> Vec<(SiteKey, SiteCounts)> {
    let domain = leak_common::keys::domain::PYMALLOC;
    let of = |(size_class, allocs): &(u32, u64)| {
        let key = SiteKey { stack: 1, native: 0, domain, size_class: *size_class };
        (key, SiteCounts { allocs: *allocs, bytes: 0 })
    };
    allocs.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_on_words_has_seen_as_much_as_its_class_is_rare() {
        let mut seen = SeenWork::default();
        seen.functions(u64::MAX, 1000.0, &counts(&[(2, 990), (6, 9)]));
        seen.functions(0b10, 500.0, &counts(&[(2, 495)]));
        assert_eq!([1, 2, 6, 33].map(|class| seen.of(class)), [1000.0, 1500.0, 1000.0, 0.0]);
        seen.words(&counts(&[(6, 40)]));
        assert_eq!([1, 2, 6].map(|class| seen.of(class)), [1000.0, 1500.0, 5000.0]);
    }

    /// It is used at the ends of requests, of which the first bursts saw the begins.
    #[test]
    fn a_class_that_only_seemed_rare_is_known_better_later() {
        let mut seen = SeenWork::default();
        seen.functions(u64::MAX, 1000.0, &counts(&[(2, 1000)]));
        seen.words(&counts(&[(6, 99)]));
        assert_eq!(seen.of(6), 100_000.0);
        seen.functions(u64::MAX, 1000.0, &counts(&[(2, 702), (6, 298)]));
        assert!((seen.of(6) - 2662.0).abs() < 1.0, "{}", seen.of(6));
    }

    #[test]
    fn where_everything_is_traced_all_classes_are_alike() {
        let mut seen = SeenWork::default();
        seen.passed(1, 7.0);
        seen.all();
        assert_eq!([1, 2, 32].map(|class| seen.of(class)), [1.0; 3]);
    }
}
