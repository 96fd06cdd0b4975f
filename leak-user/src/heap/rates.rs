//! What is allocated a second, by type: from what ends, how fast it goes, and what grows.

use std::collections::HashMap;

use crate::snapshot::heap::{Allocations, Growth, TypeRate};

/// What an observation beside the looks has found out; a mean over the time since its start.
#[derive(Debug, Clone, PartialEq)]
pub struct Turnover {
    /// Blocks that pymalloc hands out a second, or why that isn't known.
    pub blocks_per_s: Result<Known, String>,
    /// Objects that were seen to end, by type; types of one name may be there twice.
    pub ended: Vec<(String, u64)>,
    /// Blocks that were seen to end and were no objects.
    pub others: u64,
}

/// A number and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// The number, a second.
    pub per_s: f64,
    /// Its standard error.
    pub error: f64,
}

impl Turnover {
    /// What is allocated: what ends, and what has grown beside.
    #[must_use]
    pub fn allocations(&self, growth: &Growth) -> Allocations {
        let objects = self.ended.iter().fold(0_u64, |sum, (_, ended)| sum.saturating_add(*ended));
        let samples = objects.saturating_add(self.others);
        let (known, unknown) = match &self.blocks_per_s {
            Ok(_) if samples == 0 => (None, Some("no block was seen to end".to_owned())),
            Ok(known) => (Some(*known), None),
            Err(reason) => (None, Some(reason.clone())),
        };
        let per_s = known.map(|known| known.per_s);
        let a_second = |grown: i64| match growth.since_first_s {
            passed if passed > 0.0 => grown as f64 / passed,
            _ => 0.0,
        };
        // As many end as are handed out, but for those that stay.
        let ends = (per_s.unwrap_or(0.0) - a_second(growth.blocks_since_first)).max(0.0);
        let of_ended = |ended: u64| ends * ended as f64 / samples.max(1) as f64;
        let mut types: HashMap<&str, TypeRate> = HashMap::new();
        let grown =
            growth.types.iter().map(|one| (&one.name, 0, a_second(one.since_first).max(0.0)));
        let ended = self.ended.iter().map(|(name, ended)| (name, *ended, of_ended(*ended)));
        for (name, samples, per_s) in grown.chain(ended).filter(|_| per_s.is_some()) {
            let new = || TypeRate { name: name.clone(), per_s: 0.0, samples: 0 };
            let one = types.entry(name).or_insert_with(new);
            one.per_s += per_s;
            one.samples = one.samples.saturating_add(samples);
        }
        let mut types: Vec<TypeRate> = types.into_values().filter(|one| one.per_s > 0.0).collect();
        types.sort_by(|a, b| b.per_s.total_cmp(&a.per_s).then_with(|| a.name.cmp(&b.name)));
        let others_per_s = per_s.map(|_| of_ended(self.others));
        let error_per_s = known.map(|known| known.error);
        Allocations { per_s, error_per_s, unknown, samples, types, others_per_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::heap::TypeGrowth;

    fn growth() -> Growth {
        let leak = TypeGrowth {
            name: "app.Leak".to_owned(),
            count: 900,
            since_last: 10,
            since_first: 500,
            bytes_since_first: 24_000,
            bytes_per_s: 4800.0,
            trend: None,
        };
        Growth {
            look: 3,
            since_first_s: 5.0,
            since_last_s: 2.5,
            blocks_since_first: 1000,
            types: vec![leak],
        }
    }

    #[test]
    fn what_stays_is_allocated_too() {
        let ended = [("app.Token", 60), ("app.Leak", 10), ("app.Token", 15)];
        let turnover = Turnover {
            blocks_per_s: Ok(Known { per_s: 1200.0, error: 90.0 }),
            ended: ended.map(|(name, ended)| (name.to_owned(), ended)).to_vec(),
            others: 15,
        };
        let found = turnover.allocations(&growth());
        let [token, leak] = &found.types[..] else { panic!("{found:?}") };
        assert_eq!((&*token.name, token.per_s, token.samples), ("app.Token", 750.0, 75));
        assert_eq!((&*leak.name, leak.per_s, leak.samples), ("app.Leak", 200.0, 10));
        assert_eq!((found.others_per_s, found.samples), (Some(150.0), 100));
        assert_eq!((found.per_s, found.error_per_s), (Some(1200.0), Some(90.0)));
    }

    #[test]
    fn what_is_not_known_is_said() {
        let turnover =
            Turnover { blocks_per_s: Err("too little".to_owned()), ended: Vec::new(), others: 3 };
        let found = turnover.allocations(&growth());
        assert_eq!((found.per_s, found.unknown.as_deref()), (None, Some("too little")));
        assert_eq!((found.types.len(), found.others_per_s), (0, None));
        let blocks_per_s = Ok(Known { per_s: 5.0, error: 0.1 });
        let none = Turnover { blocks_per_s, ended: Vec::new(), others: 0 };
        assert!(none.allocations(&growth()).unknown.is_some());
    }
}
