//! Does what a site allocates stay? The tail of its survival, from blocks followed from outside.

use super::Estimate;
use super::evidence::{Domain, End, Evidence, Fate, SiteEvidence};
use super::stats;

/// Births closer together than this belong to one burst: a burst lasts some ten milliseconds of
/// wall time, bursts are about a second apart.
pub const BURST_SPAN_S: f64 = 0.25;

/// A block is old from this share of the observation on, and not before so many seconds:
/// requests, their responses and young garbage are gone by then.
const OLD_SHARE: f64 = 0.1;
const OLD_MIN_S: f64 = 1.5;

/// How much blocks of one burst repeat each other (intraclass correlation): they often come from
/// one request. With a half, a burst of many blocks counts as two, never as many.
const BURST_CORRELATION: f64 = 0.5;

/// An old block of which it could no longer be told whether it is the same counts, for the lower
/// bound, as so much of a death: blocks that are reused by their like end so.
const UNKNOWN_DOUBT: f64 = 0.5;

/// The age in seconds from which a block counts as old, in an observation of this length.
#[must_use]
pub fn old_age(duration_s: f64) -> f64 {
    (duration_s * OLD_SHARE).max(OLD_MIN_S)
}

/// What became of a site's blocks that grew older than an age.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tail {
    /// The age in seconds.
    pub age_s: f64,
    /// Blocks that were seen to grow older.
    pub old: usize,
    /// Of these: alive at the last look.
    pub alive: usize,
    /// Of these: died.
    pub died: usize,
    /// Of these: lost sight of.
    pub unknown: usize,
    /// Bursts from which the alive ones come.
    pub births: usize,
    /// How many independent blocks the old ones are worth.
    pub independent: f64,
    /// When the youngest of the alive ones was born, seconds since the start.
    pub last_birth_s: f64,
    /// Share of the old that lives to the end of the observation (Kaplan–Meier), with Wilson's
    /// interval for as many independent blocks as there are.
    pub survival: Estimate,
    /// Deaths per block and second after that age, weighted.
    pub hazard: f64,
}

/// The instants of births, those of one burst taken together: `(time of the first, how many)`.
#[must_use]
pub fn bursts(births: impl IntoIterator<Item = f64>) -> Vec<(f64, usize)> {
    let mut births: Vec<f64> = births.into_iter().filter(|t| t.is_finite()).collect();
    births.sort_by(f64::total_cmp);
    let mut bursts: Vec<(f64, usize)> = Vec::new();
    for birth in births {
        match bursts.last_mut() {
            Some((start, count)) if birth - *start <= BURST_SPAN_S => *count += 1,
            _ => bursts.push((birth, 1)),
        }
    }
    bursts
}

/// All bursts of a domain that left blocks alive.
#[must_use]
pub fn bursts_of(evidence: &Evidence, domain: Domain) -> Vec<f64> {
    let sites = evidence.sites.iter().filter(|site| site.domain == domain);
    let births = sites.flat_map(|site| site.followed.iter().map(|fate| fate.born_s));
    let others = evidence.births.iter().filter(|(of, _)| *of == domain);
    bursts(births.chain(others.map(|(_, born_s)| *born_s)))
        .into_iter()
        .map(|(start, _)| start)
        .collect()
}

/// A followed block, as far as it can be trusted.
pub struct Followed<'a> {
    /// The block.
    pub fate: &'a Fate,
    /// Its age when it was last known to be alive and the same.
    pub age_s: f64,
}

/// The site's followed blocks whose numbers make sense.
pub fn followed(site: &SiteEvidence) -> impl Iterator<Item = Followed<'_>> {
    site.followed.iter().filter_map(|fate| {
        let age_s = fate.alive_until_s - fate.born_s;
        let sane = fate.born_s.is_finite() && age_s.is_finite() && age_s >= 0.0;
        let weighted = fate.weight.is_finite() && fate.weight > 0.0;
        (sane && weighted).then_some(Followed { fate, age_s })
    })
}

/// The tail of a site's survival after `age_s`, in an observation that ended at `end_s`.
#[must_use]
pub fn tail(site: &SiteEvidence, age_s: f64, end_s: f64) -> Tail {
    let mut old: Vec<Followed<'_>> = followed(site).filter(|block| block.age_s >= age_s).collect();
    old.sort_by(|a, b| a.age_s.total_cmp(&b.age_s));
    let count = |end: End| old.iter().filter(|block| block.fate.end == end).count();
    let alive = old.iter().filter(|block| block.fate.end == End::Alive);
    let births = bursts(alive.clone().map(|block| block.fate.born_s));

    let unknown = count(End::Unknown);
    let (survival, hazard) = kaplan_meier(&old, age_s);
    let independent = independent_blocks(&old, age_s, end_s);
    let doubt = UNKNOWN_DOUBT * unknown as f64 / old.len().max(1) as f64;
    let wilson = |share: f64| stats::wilson(share * independent, independent);
    Tail {
        age_s,
        old: old.len(),
        alive: count(End::Alive),
        died: count(End::Died),
        unknown,
        births: births.len(),
        independent,
        last_birth_s: alive.map(|block| block.fate.born_s).fold(0.0, f64::max),
        survival: Estimate {
            value: survival,
            low: wilson(survival * (1.0 - doubt)).low,
            high: wilson(survival).high,
        },
        hazard,
    }
}

/// When the blocks of a tail that are alive were born.
pub fn births(site: &SiteEvidence, tail: &Tail) -> impl Iterator<Item = f64> {
    let alive = |block: &Followed<'_>| block.fate.end == End::Alive && block.age_s >= tail.age_s;
    followed(site).filter(alive).map(|block| block.fate.born_s)
}

/// Kaplan and Meier's estimate of the share that outlives the observation, and deaths per block
/// and second. `old` is sorted by age. A death counts at the age when the block was last seen
/// alive, before those that left sight at that age; nothing old: no share.
fn kaplan_meier(old: &[Followed<'_>], age_s: f64) -> (f64, f64) {
    let mut at_risk: f64 = old.iter().map(|block| block.fate.weight).sum();
    let exposure: f64 = old.iter().map(|block| block.fate.weight * (block.age_s - age_s)).sum();
    if at_risk <= 0.0 {
        return (0.0, 0.0);
    }
    let (mut share, mut deaths) = (1.0, 0.0);
    for same_age in old.chunk_by(|a, b| a.age_s == b.age_s) {
        let died: f64 =
            same_age.iter().filter(|b| b.fate.end == End::Died).map(|b| b.fate.weight).sum();
        share *= (1.0 - died / at_risk).clamp(0.0, 1.0);
        at_risk -= same_age.iter().map(|b| b.fate.weight).sum::<f64>();
        deaths += died;
        if at_risk <= 0.0 {
            break;
        }
    }
    (share, if exposure > 0.0 { deaths / exposure } else { 0.0 })
}

/// How many independent blocks the old ones are worth: less for unequal weights (Kish), for
/// sharing a burst (the design effect `1 + (m − 1) r`), and for being lost sight of early.
fn independent_blocks(old: &[Followed<'_>], age_s: f64, end_s: f64) -> f64 {
    let watched: f64 = old
        .iter()
        .map(|block| match block.fate.end {
            End::Alive | End::Died => 1.0,
            End::Unknown => {
                let possible = end_s - block.fate.born_s - age_s;
                if possible > 0.0 {
                    ((block.age_s - age_s) / possible).clamp(0.0, 1.0)
                } else {
                    0.0
                }
            }
        })
        .sum();
    let n = old.len() as f64;
    let weights: f64 = old.iter().map(|block| block.fate.weight).sum();
    let squares: f64 = old.iter().map(|block| block.fate.weight.powi(2)).sum();
    if n == 0.0 || squares <= 0.0 {
        return 0.0;
    }
    let kish = (weights * weights / (n * squares)).min(1.0);
    let sizes = bursts(old.iter().map(|block| block.fate.born_s));
    let crowd = sizes.iter().map(|(_, m)| (m * m) as f64).sum::<f64>() / n;
    watched * kish / (1.0 + (crowd - 1.0).max(0.0) * BURST_CORRELATION)
}

/// How likely it is that a site that still allocates what stays shows its youngest old survivor
/// as early as `tail` does: `(bursts up to the last birth / bursts that could grow old) ^ n`, n independent
/// blocks, births at least. Small: it has stopped. `bursts` are all bursts of the domain; they may come more often at
/// one time than at another.
#[must_use]
pub fn still_born(tail: &Tail, bursts: &[f64], end_s: f64) -> f64 {
    let could_grow_old = bursts.partition_point(|t| t + tail.age_s <= end_s);
    if could_grow_old == 0 {
        return 1.0;
    }
    if tail.births == 0 {
        return 0.0;
    }
    let until_last = bursts.partition_point(|t| *t <= tail.last_birth_s).min(could_grow_old);
    let reached = until_last as f64 / could_grow_old as f64;
    reached.powf(tail.independent.max(tail.births as f64))
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{Lines, SiteId};
    use super::*;
    use crate::units::Bytes;

    fn block(born_s: f64, alive_until_s: f64, end: End) -> Fate {
        Fate { born_s, size: Bytes(64), size_class: 4, weight: 1.0, alive_until_s, end }
    }

    fn site(followed: Vec<Fate>) -> SiteEvidence {
        SiteEvidence {
            id: SiteId(1),
            domain: Domain::Pymalloc,
            lines: Lines::default(),
            classes: vec![],
            bursts: 10,
            followed,
            recycled: 0.0,
            ended: 0,
        }
    }

    #[test]
    fn what_stays_stays() {
        let fates = (0..12).flat_map(|i| vec![block(f64::from(i), 20.0, End::Alive); 3]).collect();
        let tail = tail(&site(fates), 2.0, 20.0);
        assert_eq!((tail.old, tail.alive, tail.births), (36, 36, 12));
        assert_eq!(tail.survival.value, 1.0);
        // 36 blocks, three a burst: worth 18.
        assert!((tail.survival.low - stats::wilson(18.0, 18.0).low).abs() < 1e-9);
        assert_eq!(tail.last_birth_s, 11.0);
    }

    #[test]
    fn the_young_say_nothing() {
        let fates = vec![
            block(19.0, 20.0, End::Alive),
            block(5.0, 5.5, End::Died),
            block(6.0, 6.0, End::Unknown),
        ];
        let tail = tail(&site(fates), 2.0, 20.0);
        assert_eq!((tail.old, tail.births), (0, 0));
        assert_eq!(tail.survival, Estimate { value: 0.0, low: 0.0, high: 1.0 });
    }

    #[test]
    fn kaplan_meier_agrees_with_a_hand_count() {
        // Ages 3 (died), 4 (lost), 5 (died), 8, 9 (alive): 4/5 · 2/3.
        let fates = vec![
            block(0.0, 3.0, End::Died),
            block(1.0, 5.0, End::Unknown),
            block(2.0, 7.0, End::Died),
            block(12.0, 20.0, End::Alive),
            block(11.0, 20.0, End::Alive),
        ];
        let tail = tail(&site(fates), 2.0, 20.0);
        assert!((tail.survival.value - 0.8 * 2.0 / 3.0).abs() < 1e-9);
        assert!((tail.hazard - 2.0 / (1.0 + 2.0 + 3.0 + 6.0 + 7.0)).abs() < 1e-9);
    }

    #[test]
    fn one_burst_is_no_proof() {
        let together = tail(&site(vec![block(3.0, 20.0, End::Alive); 50]), 2.0, 20.0);
        let spread =
            tail(&site((0..5).map(|i| block(f64::from(i), 20.0, End::Alive)).collect()), 2.0, 20.0);
        assert_eq!(together.births, 1);
        assert!(together.survival.low < spread.survival.low);
    }

    #[test]
    fn losing_sight_lowers_the_bound_only() {
        let known: Vec<_> = (0..10).map(|i| block(f64::from(i), 20.0, End::Alive)).collect();
        let mut doubtful = known.clone();
        doubtful.extend((0..10).map(|i| block(f64::from(i), 14.0, End::Unknown)));
        let (known, doubtful) = (tail(&site(known), 2.0, 20.0), tail(&site(doubtful), 2.0, 20.0));
        assert_eq!(doubtful.survival.value, 1.0);
        assert!(doubtful.survival.low < known.survival.low);
    }

    #[test]
    fn nonsense_is_left_out() {
        let mut fates = vec![block(1.0, 20.0, End::Alive)];
        fates.push(block(f64::NAN, 20.0, End::Alive));
        fates.push(block(9.0, 3.0, End::Alive));
        fates.push(Fate { weight: f64::INFINITY, ..block(1.0, 20.0, End::Alive) });
        fates.push(Fate { weight: 0.0, ..block(1.0, 20.0, End::Alive) });
        assert_eq!(tail(&site(fates), 2.0, 20.0).old, 1);
    }

    #[test]
    fn an_end_of_births_is_noticed() {
        let all: Vec<f64> = (0..20).map(f64::from).collect();
        let until = |last: u32| {
            let fates = (0..last).map(|i| block(f64::from(i), 20.0, End::Alive)).collect();
            still_born(&tail(&site(fates), 2.0, 20.0), &all, 20.0)
        };
        assert_eq!(until(19), 1.0);
        assert!(until(10) < 0.01);
        assert!(until(3) < 0.01);
        assert_eq!(still_born(&Tail::default(), &all, 20.0), 0.0);
    }

    #[test]
    fn few_bursts_of_late_are_no_end() {
        let early = (0..10).map(|i| 0.4 * f64::from(i));
        let bursts: Vec<f64> = early.chain([8.0, 16.0]).collect();
        let fates = bursts[..10].iter().map(|born| block(*born, 20.0, End::Alive)).collect();
        let p = still_born(&tail(&site(fates), 2.0, 20.0), &bursts, 20.0);
        assert!((p - (10.0_f64 / 12.0).powi(10)).abs() < 1e-9, "{p}");
    }
}
