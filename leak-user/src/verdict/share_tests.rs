use super::super::evidence::{ClassSeries, Fate, Lines, SiteId};
use super::*;
use crate::units::Bytes;

fn series(value: impl Fn(f64) -> f64) -> Series {
    Series { points: (0..40).map(|i| f64::from(i) / 2.0).map(|t| (t, value(t))).collect() }
}

fn site(id: u32, domain: Domain, births: u32, size: u64) -> SiteEvidence {
    let size_class = leak_common::keys::size_class(size);
    let followed = (0..births).map(|i| Fate {
        born_s: 3.0 + 14.0 * f64::from(i) / f64::from(births),
        size: Bytes(size),
        size_class,
        weight: 1.0,
        alive_until_s: 20.0,
        end: End::Alive,
    });
    SiteEvidence {
        id: SiteId(id),
        domain,
        lines: Lines::default(),
        classes: vec![],
        bursts: 10,
        followed: followed.collect(),
        recycled: 0.0,
        ended: 0,
    }
}

fn divide(evidence: &Evidence) -> (Vec<Pot>, Vec<Vec<Share>>) {
    let pots = pots(evidence, 1e5);
    let tails: Vec<_> = evidence.sites.iter().map(|s| survival::tail(s, 2.0, 20.0)).collect();
    let shares = shares(&evidence.sites, &tails, &pots);
    (pots, shares)
}

#[test]
fn parts_add_up_to_the_growth() {
    let evidence = Evidence {
        duration_s: 20.0,
        pymalloc_classes: vec![
            ClassSeries { size_class: 4, live: series(|t| 1000.0 + 300.0 * t), seen_work: 1.0 },
            ClassSeries { size_class: 6, live: series(|_| 500.0), seen_work: 1.0 },
        ],
        sites: vec![
            site(1, Domain::Pymalloc, 20, 64),
            site(2, Domain::Pymalloc, 10, 60),
            site(3, Domain::Pymalloc, 10, 96),
        ],
        ..Evidence::default()
    };
    let (_, shares) = divide(&evidence);
    let growth: Vec<f64> =
        shares.iter().map(|own| sum(own.iter().map(|share| share.growth)).value).collect();
    assert!((growth[0] + growth[1] - 300.0 * 64.0).abs() < 1e-6, "{growth:?}");
    assert!((growth[0] - 2.0 * growth[1]).abs() < 1e-6, "{growth:?}");
    assert_eq!(growth[2], 0.0);
    assert!(
        shares[0].iter().all(|s| s.growth.low < s.growth.value && s.growth.value < s.growth.high)
    );
}

#[test]
fn the_dying_have_a_small_part() {
    let mut dying = site(2, Domain::Pymalloc, 20, 64);
    for fate in dying.followed.iter_mut().take(12) {
        fate.end = End::Died;
        fate.alive_until_s = fate.born_s + 4.0;
    }
    let evidence = Evidence {
        duration_s: 20.0,
        pymalloc_classes: vec![ClassSeries {
            size_class: 4,
            live: series(|t| 300.0 * t),
            seen_work: 1.0,
        }],
        sites: vec![site(1, Domain::Pymalloc, 20, 64), dying],
        ..Evidence::default()
    };
    let (_, shares) = divide(&evidence);
    assert!(shares[0][0].fraction.value > 0.8, "{shares:?}");
}

#[test]
fn arenas_in_steps_are_no_heap_growth() {
    // Small blocks grow by 30 kB a second; an arena of 1 MiB is there before and lasts.
    let evidence = Evidence {
        duration_s: 20.0,
        pymalloc_classes: vec![ClassSeries {
            size_class: 4,
            live: series(|t| 480.0 * t),
            seen_work: 1.0,
        }],
        anonymous: series(|t| 5e7 + 30_720.0 * t),
        arenas: series(|_| 1_048_576.0),
        ..Evidence::default()
    };
    let (pots, _) = divide(&evidence);
    let heap = pots.iter().find(|pot| pot.domain == Domain::Malloc).unwrap();
    assert!(heap.growth().value.abs() < 1.0, "{heap:?}");
}

#[test]
fn mappings_of_malloc_count_as_malloc() {
    let grown = series(|t| 1e7 + 1e6 * t);
    let mut evidence = Evidence {
        duration_s: 20.0,
        anonymous: grown.clone(),
        mapped: grown,
        sites: vec![site(1, Domain::Malloc, 15, 1 << 20)],
        ..Evidence::default()
    };
    let (pots, shares) = divide(&evidence);
    assert_eq!(pots.len(), 1);
    assert!((shares[0][0].growth.value - 1e6).abs() < 1.0);

    evidence.sites.push(site(2, Domain::Mmap, 20, 1 << 20));
    let (pots, shares) = divide(&evidence);
    let grows: Vec<_> = pots.iter().map(|pot| (pot.domain, pot.grows)).collect();
    assert_eq!(grows, [(Domain::Mmap, true), (Domain::Malloc, false)]);
    assert!((shares[1][0].growth.value - 1e6).abs() < 1.0);
}

#[test]
fn series_are_read_between_points() {
    let points = [(1.0, 10.0), (3.0, 30.0)];
    let read: Vec<f64> = [0.0, 1.0, 2.0, 3.0, 9.0].iter().map(|t| at(&points, *t)).collect();
    assert_eq!(read, [10.0, 10.0, 20.0, 30.0, 30.0]);
    assert_eq!(at(&[], 1.0), 0.0);
}
