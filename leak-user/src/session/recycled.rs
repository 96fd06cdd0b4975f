//! Objects that change owners behind the allocator's back.
//!
//! CPython keeps dead objects of some types on free lists and hands them out again without an allocator
//! call. So what a line keeps may stay booked on the churning line that allocated it first.

use crate::snapshot::Site;

/// Types with free lists in CPython 3.11 to 3.13, of which a program can keep many.
const FREE_LISTED: [&str; 4] =
    ["builtins.float", "builtins.list", "builtins.dict", "builtins.tuple"];

/// Where so much of what stays is of such types, a site's evidence is weak.
const WEAK: f64 = 0.9;

/// Ranks sites that only keep such objects behind those that keep others.
pub(super) fn rank_last(leaks: &mut [Site]) {
    leaks.sort_by_key(|leak| {
        let recycled = leak.types.iter().filter(|t| FREE_LISTED.contains(&t.name.as_str()));
        recycled.map(|t| t.share).sum::<f64>() >= WEAK
    });
    for (rank, leak) in (1..).zip(leaks) {
        leak.rank = rank;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::TypeShare;

    fn site(live_bytes: u64, types: &[(&str, f64)]) -> Site {
        let share = |(name, share): &(&str, f64)| TypeShare { name: (*name).into(), share: *share };
        Site {
            rank: 0,
            confidence: 0.9,
            trend: "steep".to_owned(),
            domain: "pymalloc".to_owned(),
            growth_bytes_per_s: 0.0,
            growth_interval: (0.0, 0.0),
            live_bytes,
            live_count: 1,
            survival: 1.0,
            types: types.iter().map(share).collect(),
            stack: Vec::new(),
            retained_by: Vec::new(),
            reasons: Vec::new(),
        }
    }

    #[test]
    fn a_line_that_recycles_stands_behind_one_that_keeps() {
        let mut leaks = [
            site(400, &[("builtins.float", 1.0)]),
            site(300, &[("app.Embedding", 0.5), ("builtins.dict", 0.4)]),
            site(200, &[("builtins.list", 0.6), ("builtins.dict", 0.35)]),
            site(100, &[]),
        ];
        rank_last(&mut leaks);
        let order = leaks.map(|leak| (leak.rank, leak.live_bytes));
        assert_eq!(order, [(1, 300), (2, 100), (3, 400), (4, 200)]);
    }

    #[test]
    fn alone_it_stays_first() {
        let mut leaks = [site(1, &[("builtins.dict", 1.0)])];
        rank_last(&mut leaks);
        assert_eq!(leaks[0].rank, 1);
    }
}
