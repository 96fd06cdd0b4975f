use leak_common::keys::{CONTENT_WORDS, SiteKey, domain};

use super::*;
use crate::heap::{
    glibc::ChunkSeen,
    identity::{Identity, Kind},
};
use crate::target::layout::layout;

fn survivors() -> Survivors {
    Survivors::new(None, Identifier::new(layout((3, 12)).unwrap(), Addr(0x1000)), true)
}

fn block(born_ns: u64) -> LiveBlock {
    LiveBlock {
        site: SiteKey { stack: 1, native: 0, domain: domain::PYMALLOC, size_class: 4 },
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

/// Two sites whose blocks look alive for 20 s; bursts of 10 ms each see some of the second's go.
#[test]
fn what_bursts_see_go_is_not_believed_to_stay() {
    let mut survivors = survivors();
    let block = LiveBlock { born_ns: 1, ..block(1) };
    for (site, first) in [(1, 0x1000), (2, 0x9000)] {
        for i in 0..50 {
            let look = Look::Chunk(ChunkSeen { size_word: 0x51, content: [0; 32] });
            let (site, addr) = (SiteId(site), Addr(first + 16 * i));
            survivors.follow(Followed::new(site, addr, &block, look, Nanos(0), 1.0));
        }
    }
    for burst in 0..20 {
        let watched = survivors.to_watch(1000);
        assert_eq!(watched.len(), 100 - burst);
        let gone = HashSet::from([Addr(0x9000 + 16 * burst as u64)]);
        survivors.gone(&gone, Some(0.01));
        survivors.followed.iter_mut().filter(|f| f.may_be_another()).for_each(|f| {
            f.ended(End::Alive, burst as f64 + 1.0);
        });
    }
    let fates = survivors.fates();
    let count = |site, end| fates[&SiteId(site)].iter().filter(|fate| fate.end == end).count();
    assert_eq!((count(1, End::Alive), count(1, End::Unknown)), (50, 0));
    assert_eq!((count(2, End::Alive), count(2, End::Unknown), count(2, End::Died)), (0, 30, 20));
    // 20 went while they were watched for some 8 s in all: a mean life of 0.4 s.
    let unknown = fates[&SiteId(2)].iter().find(|fate| fate.end == End::Unknown).unwrap();
    assert!((0.6..1.2).contains(&unknown.alive_until_s), "{unknown:?}");
    // Less than all: the youngest.
    assert!(survivors.to_watch(10).contains(&Addr(0x9000 + 16 * 49)));
}

/// A block that was freed while a burst looked on has died, whatever lies in its place and looks like it.
#[test]
fn a_small_block_that_bursts_see_go_has_died() {
    let mut survivors = survivors();
    let block = LiveBlock { born_ns: 1, ..block(1) };
    for i in 0..50 {
        let identity = Identity { kind: Kind::Raw, fingerprint: 7, parked: false };
        let addr = Addr(0x1000 + 16 * i);
        let look = Look::Small(identity);
        survivors.follow(Followed::new(SiteId(1), addr, &block, look, Nanos(0), 1.0));
    }
    assert_eq!(survivors.to_watch(1000).len(), 50);
    let gone = HashSet::from([Addr(0x1000), Addr(0x1010), Addr(0x9990)]);
    survivors.gone(&gone, None);
    for followed in survivors.followed.iter_mut().filter(|f| f.fate.end == End::Alive) {
        followed.ended(End::Alive, 20.0);
    }
    let fates = &survivors.fates()[&SiteId(1)];
    let count = |end| fates.iter().filter(|fate| fate.end == end).count();
    // What is left is as old as it looks: its pool has told so.
    assert_eq!((count(End::Alive), count(End::Died), count(End::Unknown)), (48, 2, 0));
}
