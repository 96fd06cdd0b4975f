use leak_common::keys::{CONTENT_WORDS, SiteKey, domain};

use super::*;
use crate::target::layout::layout;

fn survivors() -> Survivors {
    Survivors::new(None, Identifier::new(layout((3, 12)).unwrap(), Addr(0x1000)), true)
}

fn block(born_ns: u64) -> LiveBlock {
    LiveBlock {
        site: SiteKey { stack: 1, native_leaf: 0, domain: domain::PYMALLOC, size_class: 4 },
        size: 64,
        born_ns,
        burst: 1,
        noted_ns: 0,
        header: 0,
        content: [0; CONTENT_WORDS],
    }
}

/// Adds a burst's `n` blocks of a site, at addresses from `first` on.
fn add(survivors: &mut Survivors, site: u32, first: u64, n: u64, born_ns: u64) {
    let block = block(born_ns);
    let blocks = (first..first + n).map(|addr| (SiteId(site), Addr(addr), &block));
    survivors.add_exact(Nanos(0), blocks);
}

#[test]
fn an_hour_of_bursts_is_kept_in_bounds_and_in_proportion() {
    const BURSTS: u64 = 3600;
    let mut survivors = survivors();
    for burst in 0..BURSTS {
        add(&mut survivors, 1, burst * 64, 64, burst);
        // One in four stays.
        survivors.look_exact(burst as f64, |addr| (addr.0 % 4 == 0).then(|| block(addr.0 / 64)));
    }
    let fates = survivors.fates().remove(&SiteId(1)).unwrap();
    assert!(fates.len() <= MAX_OF_SITE, "{}", fates.len());
    let sum = |wanted: &dyn Fn(&Fate) -> bool| -> f64 {
        fates.iter().filter(|fate| wanted(fate)).map(|fate| fate.weight).sum()
    };
    let all = (BURSTS * 64) as f64;
    let total = sum(&|_| true);
    assert!((total / all - 1.0).abs() < 0.2, "{total} of {all}");
    let alive = sum(&|fate| fate.end == End::Alive) / total;
    assert!((alive - 0.25).abs() < 0.06, "{alive} alive");
    // Old and young weigh in alike.
    let half = Nanos(BURSTS / 2).seconds();
    let early = sum(&|fate| fate.born_s < half) / total;
    assert!((early - 0.5).abs() < 0.15, "{early} of the first half");
}

#[test]
fn many_sites_share_the_room() {
    let mut survivors = survivors();
    let block = block(1);
    for burst in 0..20_u32 {
        let blocks = (0..40_000_u64).map(|i| {
            let site = SiteId(1000 * burst + (i / 40) as u32);
            (site, Addr(i), &block)
        });
        survivors.add_exact(Nanos(0), blocks);
        assert!(survivors.followed.len() <= MAX_FOLLOWED, "{}", survivors.followed.len());
    }
    let total: f64 = survivors.fates().values().flatten().map(|fate| fate.weight).sum();
    assert!((total / 800_000.0 - 1.0).abs() < 0.05, "{total}");
}
