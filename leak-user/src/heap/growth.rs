//! Which types grow, from one look at a heap to the next.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::ledger::series::Recorder;
use crate::snapshot::heap::{Growth, Heap, TypeCount, TypeGrowth};
use crate::verdict::trend;

/// Types that are followed.
const MAX_TYPES: usize = 1 << 14;

/// Points of a type's course that are kept: a service may have thousands of types.
const MAX_POINTS: usize = 128;

/// What has been seen of the types, look by look.
#[derive(Debug, Default)]
pub struct History {
    looks: u64,
    last_s: f64,
    first_blocks: u64,
    types: HashMap<String, Course>,
}

/// One type's.
#[derive(Debug)]
struct Course {
    first: Seen,
    last: Seen,
    bytes: Recorder,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    count: u64,
    bytes: u64,
}

impl History {
    /// How many looks there were.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.looks
    }

    /// Takes in a look, so many seconds after the first, and says what has grown.
    pub fn add(&mut self, at_s: f64, heap: &Heap) -> Growth {
        let mut now: HashMap<&str, Seen> = HashMap::new();
        // Types of different modules or closures may have the same name.
        for one in &heap.types {
            let TypeCount { name, count, .. } = one;
            let seen = now.entry(name).or_default();
            seen.count = seen.count.saturating_add(*count);
            seen.bytes = seen.bytes.saturating_add(one.size());
        }
        for name in now.keys().filter(|name| !self.types.contains_key(**name)).collect::<Vec<_>>() {
            if self.types.len() >= MAX_TYPES {
                break;
            }
            // What wasn't there at the first look has grown from nothing.
            let first = if self.looks == 0 { now[name] } else { Seen::default() };
            let bytes = Recorder::with_at_most(MAX_POINTS);
            self.types.insert((*name).to_owned(), Course { first, last: first, bytes });
        }
        // What came and is gone again is forgotten.
        self.types.retain(|name, course| course.first.count > 0 || now.contains_key(name.as_str()));
        let memory = now.values().fold(0_u64, |sum, seen| sum.saturating_add(seen.bytes));
        let steep_from = trend::steep_from(memory as f64);
        let mut types: Vec<TypeGrowth> = self
            .types
            .iter_mut()
            .filter_map(|(name, course)| {
                let seen = now.get(name.as_str()).copied().unwrap_or_default();
                course.step(name, at_s, seen, steep_from)
            })
            .collect();
        types.sort_by(|a, b| {
            let order = |one: &TypeGrowth| Reverse((one.bytes_since_first, one.since_first));
            (order(a), &a.name).cmp(&(order(b), &b.name))
        });
        let blocks = heap.pymalloc.live_blocks;
        if self.looks == 0 {
            self.first_blocks = blocks;
        }
        let blocks_since_first = difference(blocks, self.first_blocks);
        self.looks += 1;
        let since_last_s = at_s - std::mem::replace(&mut self.last_s, at_s);
        Growth { look: self.looks, since_first_s: at_s, since_last_s, blocks_since_first, types }
    }
}

impl Course {
    /// Takes in what is there now; None where neither objects nor bytes are more than at first.
    fn step(&mut self, name: &str, at_s: f64, now: Seen, steep_from: f64) -> Option<TypeGrowth> {
        self.bytes.add(at_s, now.bytes as f64);
        let last = std::mem::replace(&mut self.last, now);
        let since_first = difference(now.count, self.first.count);
        let bytes_since_first = difference(now.bytes, self.first.bytes);
        if since_first <= 0 && bytes_since_first <= 0 {
            return None;
        }
        let course = trend::course(&self.bytes.series().points, steep_from);
        let mean = if at_s > 0.0 { bytes_since_first as f64 / at_s } else { 0.0 };
        Some(TypeGrowth {
            name: name.to_owned(),
            count: now.count,
            since_last: difference(now.count, last.count),
            since_first,
            bytes_since_first,
            bytes_per_s: course.as_ref().map_or(mean, |course| course.slope.per_s.value),
            trend: course.map(|course| course.trend.name().to_owned()),
        })
    }
}

fn difference(now: u64, before: u64) -> i64 {
    let signed = |value| i64::try_from(value).unwrap_or(i64::MAX);
    signed(now).saturating_sub(signed(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::heap::tests::heap;

    fn looks(looks: u32, types: impl Fn(u32) -> Vec<(&'static str, u64)>) -> Growth {
        let mut history = History::default();
        let mut growth = None;
        for n in 0..looks {
            let of = |(name, count): (&str, u64)| TypeCount {
                name: name.to_owned(),
                count,
                tracked: 0,
                bytes: 48 * count,
                owned: 0,
            };
            let heap = Heap { types: types(n).into_iter().map(of).collect(), ..heap() };
            growth = Some(history.add(5.0 * f64::from(n), &heap));
        }
        growth.unwrap()
    }

    #[test]
    fn what_grows_is_told_from_what_stays() {
        let growth = looks(20, |n| {
            let n = u64::from(n);
            let late = if n < 5 { 0 } else { 500 };
            vec![
                ("app.Leak", 1000 + 100 * n),
                ("app.Kept", 70),
                ("app.Less", 90 - n),
                ("app.Late", late),
            ]
        });
        assert_eq!((growth.look, growth.since_first_s, growth.since_last_s), (20, 95.0, 5.0));
        let [leak, late] = &growth.types[..] else { panic!("{growth:?}") };
        assert_eq!(
            (&*leak.name, leak.count, leak.since_last, leak.since_first),
            ("app.Leak", 2900, 100, 1900)
        );
        assert_eq!(leak.bytes_since_first, 1900 * 48);
        assert!((leak.bytes_per_s - 960.0).abs() < 1.0, "{leak:?}");
        assert_eq!(leak.trend.as_deref(), Some("steep"));
        assert_eq!((&*late.name, late.since_last, late.since_first), ("app.Late", 0, 500));
        assert_ne!(late.trend.as_deref(), Some("steep"));
    }

    #[test]
    fn two_looks_have_no_trend_yet() {
        let growth =
            looks(2, |n| vec![("a", 10 + u64::from(n)), ("a", 10), ("gone", 9 * u64::from(1 - n))]);
        let [only] = &growth.types[..] else { panic!("{growth:?}") };
        assert_eq!((only.count, only.since_first, only.trend.as_deref()), (21, 1, None));
        assert_eq!(only.bytes_per_s, 48.0 / 5.0);
    }

    #[test]
    fn what_grows_in_bytes_alone_is_told() {
        let mut history = History::default();
        let mut look = |at_s, owned| {
            let name = "builtins.bytearray".to_owned();
            let types = vec![TypeCount { name, count: 1, tracked: 0, bytes: 64, owned }];
            history.add(at_s, &Heap { types, ..heap() })
        };
        look(0.0, 100);
        let growth = look(5.0, u64::MAX);
        let [only] = &growth.types[..] else { panic!("{growth:?}") };
        assert_eq!((only.since_first, only.bytes_since_first), (0, i64::MAX - 164));
    }

    #[test]
    fn the_first_look_shows_no_growth() {
        assert_eq!(looks(1, |_| vec![("a", 10)]).types, []);
    }
}
