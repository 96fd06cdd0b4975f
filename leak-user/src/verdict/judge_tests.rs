use super::super::evidence::{ClassSeries, Domain, End, Fate, Series};
use super::super::simulate::{Habit, Part, World};
use super::*;

const SEEDS: u64 = 200;

fn part(sizes: &[u64], habit: Habit) -> Part {
    let large = sizes.iter().any(|size| *size > 512);
    let domain = if large { Domain::Malloc } else { Domain::Pymalloc };
    Part { domain, sizes: sizes.to_vec(), habit }
}

fn always(per_request: f64) -> Habit {
    Habit::Keep { per_request, from: 0.0, to: f64::INFINITY }
}

/// A service that churns: what every scenario has around its culprits.
fn around(culprits: Vec<Part>) -> World {
    let mut parts = culprits;
    for (in_flight, sizes) in [(50.0, &[64][..]), (30.0, &[64, 96]), (12.0, &[48]), (4.0, &[232])] {
        parts.push(part(sizes, Habit::Churn { in_flight }));
    }
    parts.push(part(&[4096], Habit::Churn { in_flight: 5.0 }));
    World::new(parts)
}

/// What 200 observations of a world came to.
#[derive(Default)]
struct Tally {
    leak: u64,
    clean: u64,
    unsure: u64,
    /// All culprits stand before all others, and are accused.
    first: u64,
    /// Somebody else was accused.
    wrong: u64,
    confidence: f64,
}

fn tally(world: &World, culprits: u32) -> Tally {
    let mut tally = Tally::default();
    for seed in 0..SEEDS {
        let judgement = judge(&world.observe(seed));
        match judgement.verdict {
            Verdict::Leak => tally.leak += 1,
            Verdict::NoLeak => tally.clean += 1,
            Verdict::Inconclusive => tally.unsure += 1,
        }
        let ids: Vec<u32> = judgement.accused.iter().map(|finding| finding.site.0).collect();
        let guilty = |id: &u32| *id < culprits;
        let heads = ids.iter().take(culprits as usize).filter(|id| guilty(id)).count();
        tally.first += u64::from(culprits > 0 && heads == culprits as usize);
        tally.wrong += u64::from(!ids.iter().all(guilty));
        tally.confidence += judgement.accused.first().map_or(0.0, |worst| worst.confidence);
    }
    tally
}

/// What a scenario must come to, of 200.
struct Demand {
    /// All culprits first, at least.
    first: u64,
    /// `no-leak`, at least.
    clean: u64,
    /// Innocents accused, at most.
    wrong: u64,
}

fn check(scenarios: Vec<(&str, u32, World, Demand)>) {
    println!(
        "{:42} {:>5} {:>7} {:>7} {:>6} {:>6} {:>10}",
        "of 200 observations", "leak", "no-leak", "unsure", "first", "wrong", "confidence"
    );
    let mut failures = Vec::new();
    for (name, culprits, world, demand) in scenarios {
        let t = tally(&world, culprits);
        let confidence = t.confidence / t.leak.max(1) as f64;
        println!(
            "{name:42} {:5} {:7} {:7} {:6} {:6} {confidence:10.2}",
            t.leak, t.clean, t.unsure, t.first, t.wrong
        );
        if t.first < demand.first || t.clean < demand.clean || t.wrong > demand.wrong {
            failures.push(name);
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

/// A clear leak: named in 99 of 100, nobody else in more than one of 100.
const CLEAR: Demand = Demand { first: 198, clean: 0, wrong: 2 };

#[test]
fn leaks_are_named() {
    let five = || part(&[64], always(5.0));
    let mut mmap = part(&[1 << 20], always(2.0 / 8000.0));
    mmap.domain = Domain::Mmap;
    let midway = Habit::Keep { per_request: 5.0, from: 10.0, to: f64::INFINITY };
    let mut quiet = around(vec![five()]);
    quiet.jitter = 0.0;
    quiet.wiggle = 0.0;
    let mut few = around(vec![five()]);
    few.bursts = 7;
    let mut blurred = around(vec![five()]);
    blurred.unknown = 0.4;
    let mut dense = around(vec![five()]);
    dense.points = 200;
    let mut sparse = around(vec![five()]);
    sparse.points = 14;
    let mut long = around(vec![part(&[64], always(0.2))]);
    long.duration_s = 60.0;
    long.bursts = 55;
    long.points = 60;
    let mut mistaken = around(vec![five()]);
    mistaken.mistaken = 0.002;
    let mut slowing = around(vec![five()]);
    slowing.later_load = 0.5;
    let cache = Habit::Keep { per_request: 20.0, from: 0.0, to: 6.0 };
    let cyclic = Habit::Cycle { per_request: 1.0, period: 4.0 };
    check(vec![
        ("five of each request stay", 1, around(vec![five()]), CLEAR),
        ("the same without noise", 1, quiet, CLEAR),
        ("the same, 7 bursts", 1, few, CLEAR),
        ("the same, 40 % lost sight of", 1, blurred, CLEAR),
        ("the same, 200 counts", 1, dense, CLEAR),
        ("the same, 14 counts", 1, sparse, CLEAR),
        ("load halves midway", 1, slowing, Demand { first: 190, ..CLEAR }),
        ("one of each request stays", 1, around(vec![part(&[96], always(1.0))]), CLEAR),
        (
            "slow: 1 of 5,000 allocations",
            1,
            around(vec![part(&[64], always(0.4))]),
            Demand { first: 190, ..CLEAR },
        ),
        ("slower: 1 of 10,000, a minute", 1, long, CLEAR),
        ("objects with parts of two sizes", 1, around(vec![part(&[64, 232], always(2.0))]), CLEAR),
        ("two leaks at once", 2, around(vec![five(), part(&[96], always(2.0))]), CLEAR),
        ("two leaks of one size", 2, around(vec![five(), part(&[64], always(2.0))]), CLEAR),
        (
            "helper: one in sixty stays",
            1,
            around(vec![part(&[64], Habit::Helper { calls: 60.0, one_in: 60.0 })]),
            CLEAR,
        ),
        ("starts midway", 1, around(vec![part(&[64], midway)]), CLEAR),
        (
            "with a cache that fills in 6 s",
            1,
            around(vec![five(), part(&[64], cache)]),
            Demand { first: 190, ..CLEAR },
        ),
        ("with cyclic garbage of its size", 1, around(vec![five(), part(&[64], cyclic)]), CLEAR),
        (
            "arrays of 100 kB by malloc",
            1,
            around(vec![
                part(&[100_000], always(0.5)),
                part(&[100_000], Habit::Churn { in_flight: 2.0 }),
            ]),
            Demand { first: 194, ..CLEAR },
        ),
        (
            "such, two seen in all",
            1,
            around(vec![part(&[100_000], always(0.06))]),
            Demand { first: 0, ..CLEAR },
        ),
        ("one in 500 of the dead taken for alive", 1, mistaken, Demand { wrong: 40, ..CLEAR }),
        (
            "beside a cache at its bound, same size",
            1,
            around(vec![five(), part(&[64], Habit::Hold { per_request: 2.0, lifetime: 60.0 })]),
            Demand { wrong: 200, ..CLEAR },
        ),
        ("buffers of 2 kB by malloc", 1, around(vec![part(&[2048], always(1.0))]), CLEAR),
        ("mappings of 1 MiB", 1, around(vec![mmap]), CLEAR),
    ]);
}

#[test]
fn the_innocent_are_not_accused() {
    const CLEAN: Demand = Demand { first: 0, clean: 198, wrong: 2 };
    let keep = |to| Habit::Keep { per_request: 5.0, from: 0.0, to };
    let hold = |lifetime| Habit::Hold { per_request: 5.0, lifetime };
    let cycle = |period| Habit::Cycle { per_request: 1.0, period };
    let mut wild = around(vec![]);
    wild.wiggle = 600.0 * 1024.0;
    wild.jitter = 2000.0;
    wild.quiet_classes = 32;
    let mut many = around(vec![]);
    many.quiet_classes = 32;
    let mut mistaken = around(vec![]);
    mistaken.mistaken = 0.01;
    let mut few = around(vec![]);
    few.bursts = 5;
    let sizes = &[48, 64, 96, 232][..];
    check(vec![
        ("churn", 0, around(vec![]), CLEAN),
        ("churn, all classes", 0, many, CLEAN),
        ("churn, one in 100 of the dead taken for alive", 0, mistaken, CLEAN),
        ("churn, wild noise", 0, wild, CLEAN),
        ("churn, 5 bursts", 0, few, CLEAN),
        ("cache at its bound, turned over in 5 s", 0, around(vec![part(sizes, hold(5.0))]), CLEAN),
        ("cache at its bound, in 60 s", 0, around(vec![part(sizes, hold(60.0))]), CLEAN),
        ("cache that fills in 1 s", 0, around(vec![part(&[64], keep(1.0))]), CLEAN),
        ("cache that fills in 5 s", 0, around(vec![part(&[64], keep(5.0))]), CLEAN),
        ("cache that fills in 10 s", 0, around(vec![part(&[64], keep(10.0))]), CLEAN),
        (
            "cache that fills in 14 s",
            0,
            around(vec![part(&[64], keep(14.0))]),
            Demand { clean: 150, ..CLEAN },
        ),
        (
            "cache that fills ever slower, halving in 2 s",
            0,
            around(vec![part(&[64], Habit::Fill { per_request: 5.0, half_life: 2.0 })]),
            Demand { clean: 180, ..CLEAN },
        ),
        ("cyclic garbage, every 2 s", 0, around(vec![part(&[64], cycle(2.0))]), CLEAN),
        ("cyclic garbage, every 7 s", 0, around(vec![part(&[64, 96], cycle(7.0))]), CLEAN),
        (
            "cyclic garbage, every 12 s",
            0,
            around(vec![part(&[64], cycle(12.0))]),
            Demand { clean: 100, ..CLEAN },
        ),
    ]);
}

fn five_stay() -> Evidence {
    around(vec![part(&[64], always(5.0))]).observe(1)
}

fn says(judgement: &Judgement, words: &str) -> bool {
    judgement.reasons.iter().any(|reason| reason.contains(words))
}

#[test]
fn the_order_of_the_sites_does_not_matter() {
    let evidence = five_stay();
    let mut turned = evidence.clone();
    turned.sites.reverse();
    assert_eq!(judge(&evidence).accused, judge(&turned).accused);
}

#[test]
fn nothing_seen_is_inconclusive() {
    let judgement = judge(&Evidence::default());
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(says(&judgement, "too short"));
    let blind = Evidence { duration_s: 30.0, ..Evidence::default() };
    let judgement = judge(&blind);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(says(&judgement, "only 0 bursts saw allocations"));
}

#[test]
fn too_few_bursts_clear_nobody() {
    let mut world = around(vec![]);
    world.bursts = 3;
    let judgement = judge(&world.observe(1));
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(says(&judgement, "only 3 bursts saw allocations"));
}

/// A service that hardly works, or whose budget other probes use up: nobody need be looked for where nothing grows.
#[test]
fn what_stands_still_is_cleared_without_bursts() {
    let mut world = around(vec![]);
    world.bursts = 2;
    (world.jitter, world.wiggle) = (0.0, 0.0);
    let still = world.observe(1);
    let judgement = judge(&still);
    assert_eq!(judgement.verdict, Verdict::NoLeak, "{:?}", judgement.reasons);
    assert!(says(&judgement, "only 2 bursts saw allocations"));
    // What is not counted does not stand still.
    let blind = Evidence { rss: Series::default(), ..still.clone() };
    assert_eq!(judge(&blind).verdict, Verdict::Inconclusive);
    // Nor does what wiggles by more than what matters, up or down.
    let mut moving = still;
    for (seconds, bytes) in &mut moving.rss.points {
        *bytes += 100_000.0 * *seconds;
    }
    assert_eq!(judge(&moving).verdict, Verdict::Inconclusive);
}

#[test]
fn a_short_look_accuses_nobody() {
    let mut world = around(vec![part(&[64], always(5.0))]);
    world.duration_s = 3.0;
    let judgement = judge(&world.observe(1));
    assert_eq!((judgement.verdict, judgement.accused.len()), (Verdict::Inconclusive, 0));
    assert!(says(&judgement, "3 s of observation are too short"));
}

#[test]
fn growth_without_a_culprit_is_named() {
    let mut evidence = five_stay();
    evidence.sites.retain(|site| site.id.0 != 0);
    let judgement = judge(&evidence);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(says(&judgement, "MiB a second and no site explains it"), "{:?}", judgement.reasons);
}

#[test]
fn memory_that_was_hardly_counted_is_not_said_to_stand_still() {
    let mut evidence = five_stay();
    for class in &mut evidence.pymalloc_classes {
        class.live.points.truncate(5);
    }
    let judgement = judge(&evidence);
    assert_ne!(judgement.verdict, Verdict::NoLeak);
    let culprit = judgement.others.iter().find(|finding| finding.site.0 == 0).unwrap();
    let reasons = culprit.reasons.join("; ");
    assert!(reasons.contains("counted too rarely to tell whether it grows"), "{reasons}");
}

/// Another's work on its core: what stayed was seen while it was fast, and it leaks on.
#[test]
fn a_service_that_slows_down_is_accused_by_what_stayed_before() {
    let mut evidence = five_stay();
    for class in &mut evidence.pymalloc_classes {
        let points = &mut class.live.points;
        let Some(middle) = points.iter().find(|p| p.0 >= 10.0).map(|p| p.1) else { continue };
        for (_, live) in points.iter_mut().filter(|p| p.0 > 10.0) {
            *live = middle + (*live - middle) / 2.0;
        }
    }
    for site in &mut evidence.sites {
        site.followed.retain(|block| block.born_s < 9.0);
    }
    let judgement = judge(&evidence);
    assert_eq!(judgement.verdict, Verdict::Leak, "{:?}", judgement.reasons);
    assert_eq!(judgement.accused[0].site.0, 0);
}

#[test]
fn one_lucky_survivor_accuses_nobody() {
    let mut evidence = five_stay();
    for site in &mut evidence.sites {
        let keep = usize::from(site.id.0 == 0);
        site.followed.truncate(keep);
    }
    let judgement = judge(&evidence);
    assert_eq!((judgement.verdict, judgement.accused.len()), (Verdict::Inconclusive, 0));
    assert!(judgement.others[0].confidence <= 0.3);
}

#[test]
fn blindness_accuses_nobody_and_loss_lowers_confidence() {
    let seen = five_stay();
    let with = |coverage, lost| judge(&Evidence { coverage: Some(coverage), lost, ..seen.clone() });
    assert_eq!(with(0.2, 0).verdict, Verdict::Inconclusive);
    assert_eq!(with(0.9, 0).verdict, Verdict::Leak);
    assert!(with(0.5, 0).accused[0].confidence < with(0.9, 0).accused[0].confidence);
    assert!(with(0.9, 3000).accused[0].confidence < with(0.9, 0).accused[0].confidence);
    assert!(says(&with(0.9, 3000), "3,000 records were lost"));
}

#[test]
fn memory_from_files_is_no_site_s_fault() {
    let mut evidence = around(vec![]).observe(1);
    for (t, bytes) in &mut evidence.rss.points {
        *bytes += *t * 5e6;
    }
    let judgement = judge(&evidence);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(says(&judgement, "no site explains it"));
}

#[test]
fn evidence_survives_json() {
    let evidence = five_stay();
    let text = serde_json::to_string(&evidence).unwrap();
    let back: Evidence = serde_json::from_str(&text).unwrap();
    // Digits may be lost, findings may not.
    let findings = |evidence| -> Vec<_> {
        judge(evidence)
            .accused
            .iter()
            .map(|finding| (finding.site, finding.reasons.clone()))
            .collect()
    };
    assert_eq!(findings(&back), findings(&evidence));
}

#[test]
fn nonsense_is_survived() {
    let wild = [f64::NAN, f64::INFINITY, -1e308, 1e308, 0.0, -1.0];
    let points: Vec<_> = wild.iter().flat_map(|t| wild.map(|v| (*t, v))).collect();
    let nonsense = Series { points };
    let mut evidence = five_stay();
    evidence.rss = nonsense.clone();
    evidence.anonymous = nonsense.clone();
    evidence.arenas = nonsense.clone();
    evidence.mapped = nonsense.clone();
    evidence.pymalloc_classes.push(ClassSeries {
        size_class: u32::MAX,
        live: nonsense.clone(),
        seen_work: 1.0,
    });
    evidence.pymalloc_classes.push(ClassSeries {
        size_class: 4,
        live: nonsense,
        seen_work: f64::NAN,
    });
    for (i, fate) in evidence.sites.iter_mut().flat_map(|site| &mut site.followed).enumerate() {
        let odd = wild[i % wild.len()];
        match i % 4 {
            0 => fate.born_s = odd,
            1 => fate.weight = odd,
            2 => fate.alive_until_s = odd,
            _ => fate.size = crate::units::Bytes(u64::MAX),
        }
    }
    for duration_s in wild {
        let judgement = judge(&Evidence { duration_s, ..evidence.clone() });
        assert!(judgement.accused.iter().all(|finding| finding.confidence.is_finite()));
    }
}

#[test]
fn what_lives_for_seconds_does_not_hide_what_stays() {
    let mut world = around(vec![part(&[64], always(1.0))]);
    world.parts.push(part(&[64], Habit::Hold { per_request: 1.0, lifetime: 3.0 }));
    let mut evidence = world.observe(5);
    // One line: some of its blocks are sessions of three seconds, some stay.
    let sessions = evidence.sites.pop().unwrap();
    evidence.sites[0].followed.extend(sessions.followed);
    let judgement = judge(&evidence);
    let accused: Vec<u32> = judgement.accused.iter().map(|finding| finding.site.0).collect();
    assert_eq!(accused, [0], "{:?}", judgement.reasons);
    let first = &judgement.accused[0].reasons[0];
    assert!(first.contains("blocks older than 4 s"), "{first}");
}

#[path = "judge_explained_tests.rs"]
mod explained;
#[path = "judge_parts_tests.rs"]
mod parts;
#[path = "judge_recycled_tests.rs"]
mod recycled_objects;

#[path = "judge_steps_tests.rs"]
mod steps;
