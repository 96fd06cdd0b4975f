//! RSS by what it is of: parts that add up to it.

use super::usage::Usage;
use crate::heap::pymalloc::Census;
use crate::snapshot::Split;

/// The parts of RSS. pymalloc's parts come from its own counts, so they can exceed what is resident where the target was
/// swapped out; then they are cut, in order.
#[must_use]
pub fn split<'a>(usage: &Usage, census: impl IntoIterator<Item = &'a Census>) -> Split {
    let mut left = usage.rss.0;
    let mut part = |bytes: u64| {
        let part = bytes.min(left);
        left -= part;
        part
    };
    let parts = |census: &Census| {
        (census.live_bytes.0, census.held_free.0, census.free_bytes.0 + census.overhead.0)
    };
    let (live, held, free) = census
        .into_iter()
        .map(parts)
        .fold((0, 0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2));
    Split {
        file: part(usage.file.0 + usage.shared.0),
        python_live: part(live),
        held_free: part(held),
        fragmentation: part(free),
        unattributed: left,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::pymalloc::CLASSES;
    use crate::units::Bytes;

    #[test]
    fn the_parts_add_up() {
        let usage =
            Usage { rss: Bytes(1000), anonymous: Bytes(900), file: Bytes(90), shared: Bytes(10) };
        let census = |live| Census {
            live: [0; CLASSES + 1],
            arenas: 1,
            used_pools: 1,
            free_pools: 1,
            untouched_pools: 0,
            live_bytes: Bytes(live),
            held_free: Bytes(50),
            free_bytes: Bytes(20),
            overhead: Bytes(5),
            unreadable: 0,
            implausible: 0,
        };
        let sum = |split: Split| {
            split.file
                + split.python_live
                + split.held_free
                + split.fragmentation
                + split.unattributed
        };
        let split_of = |all: &[Census]| split(&usage, all);
        let two = split_of(&[census(300), census(100)]);
        assert_eq!(
            (two.file, two.python_live, two.held_free, two.fragmentation),
            (100, 400, 100, 50)
        );
        assert_eq!(two.unattributed, 350);
        let swapped_out = split_of(&[census(5000)]);
        assert_eq!((swapped_out.python_live, swapped_out.unattributed), (900, 0));
        for split in [two, swapped_out, split_of(&[])] {
            assert_eq!(sum(split), 1000);
        }
    }
}
