//! Who accounts for the growth: what was counted exactly, divided by what was sampled.
//!
//! A pot is memory whose amount is known exactly over time. Its growth is divided among sites in
//! proportion to the blocks of theirs in it that stay, so the sites' estimates add up to it.

use super::evidence::{Domain, End, Evidence, Series, SiteEvidence};
use super::stats;
use super::survival::{self, Tail};
use super::trend::{self, Course};
use super::{Estimate, Trend};

/// Least growth of a pot over the observation that matters, in bytes. Pools and mappings are
/// counted exactly; a few requests' worth of blocks come and go.
pub const PYMALLOC_FLOOR: f64 = 16.0 * 1024.0;
const MMAP_FLOOR: f64 = 64.0 * 1024.0;

/// Resident memory wiggles by some hundred KiB in services that do not leak.
pub const RESIDENT_FLOOR: f64 = 1024.0 * 1024.0;

/// Least growth that matters, bytes a second: 44 MB a day.
const RATE_FLOOR: f64 = 512.0;

/// Memory that is counted exactly.
#[derive(Debug, Clone, PartialEq)]
pub struct Pot {
    /// Whose.
    pub domain: Domain,
    /// The size class, of pymalloc's.
    pub size_class: Option<u32>,
    /// How its bytes move.
    pub course: Course,
    /// It grows, and by enough to matter.
    pub grows: bool,
    /// It grew by as much in steps, and nobody can tell whether it goes on.
    pub paused: bool,
    /// See [`ClassSeries::seen_work`](super::evidence::ClassSeries::seen_work); of others than pymalloc's, one is as good as any.
    pub seen_work: f64,
}

impl Pot {
    pub(super) fn new(domain: Domain, size_class: Option<u32>, course: Course) -> Self {
        let floor = floor(domain);
        let (grows, paused) = (matters(&course, floor), is_paused(&course, floor));
        Self { domain, size_class, course, grows, paused, seen_work: 1.0 }
    }

    /// Its growth in bytes a second.
    #[must_use]
    pub fn growth(&self) -> Estimate {
        self.course.slope.per_s
    }

    /// Bytes of a block, where all are the same.
    #[must_use]
    pub fn block_bytes(&self) -> Option<f64> {
        self.size_class.map(|class| f64::from(class) * 16.0)
    }

    /// Does a block of this class and domain lie here?
    fn holds(&self, domain: Domain, size_class: u32) -> bool {
        self.domain == domain && self.size_class.is_none_or(|class| class == size_class)
    }
}

/// The least growth of a pot of this domain that matters, in bytes.
#[must_use]
pub fn floor(domain: Domain) -> f64 {
    match domain {
        Domain::Pymalloc => PYMALLOC_FLOOR,
        Domain::Malloc => RESIDENT_FLOOR,
        Domain::Mmap | Domain::Cuda | Domain::Torch => MMAP_FLOOR,
    }
}

/// Has this course neither grown by `floor` bytes nor, by its upper bound, may it have?
#[must_use]
pub fn is_still(course: &Course, floor: f64) -> bool {
    course.trend == Trend::Flat && course.slope.per_s.high * (course.to_s - course.from_s) < floor
}

/// Does this course grow by at least `floor` bytes and [`RATE_FLOOR`]?
#[must_use]
pub fn matters(course: &Course, floor: f64) -> bool {
    course.grows() && is_enough(course, floor)
}

/// Did this course grow by at least as much, and may it go on?
#[must_use]
pub fn is_paused(course: &Course, floor: f64) -> bool {
    course.trend == Trend::Paused && is_enough(course, floor)
}

fn is_enough(course: &Course, floor: f64) -> bool {
    course.rise() >= floor && course.slope.per_s.value >= RATE_FLOOR
}

/// The pots of an observation that have a course.
#[must_use]
pub fn pots(evidence: &Evidence, steep_from: f64) -> Vec<Pot> {
    let mut pots: Vec<Pot> = Vec::new();
    for class in evidence.pymalloc_classes.iter().filter(|class| class.size_class <= 32) {
        let block = f64::from(class.size_class) * 16.0;
        let bytes: Vec<_> = class.live.points.iter().map(|(t, n)| (*t, n * block)).collect();
        if let Some(course) = trend::course(&bytes, steep_from) {
            let pot = Pot::new(Domain::Pymalloc, Some(class.size_class), course);
            pots.push(Pot { seen_work: class.seen_work, ..pot });
        }
    }
    let mapped = trend::course(&evidence.mapped.points, steep_from);
    let own_mapped = mapped.filter(|course| mmap_sites_explain(evidence, course));
    let heap = c_heap(evidence, own_mapped.is_some(), steep_from);
    pots.extend(own_mapped.map(|course| Pot::new(Domain::Mmap, None, course)));
    pots.extend(heap.map(|course| Pot::new(Domain::Malloc, None, course)));
    for (domain, held) in [(Domain::Cuda, &evidence.device), (Domain::Torch, &evidence.tensors)] {
        let course = trend::course(&held.points, steep_from);
        pots.extend(course.map(|course| Pot::new(domain, None, course)));
    }
    pots
}

/// Are the mappings that grow those of mmap sites? Where not, they are large blocks that malloc
/// has mapped, and belong to its pot.
fn mmap_sites_explain(evidence: &Evidence, mapped: &Course) -> bool {
    let sites = evidence.sites.iter().filter(|site| site.domain == Domain::Mmap);
    let alive: f64 = sites
        .flat_map(survival::followed)
        .filter(|block| block.fate.end == End::Alive)
        .map(|block| block.fate.weight * block.fate.size.0 as f64)
        .sum();
    alive >= mapped.rise() / 2.0
}

/// The C heap: resident anonymous memory less pymalloc's and the mappings'.
///
/// Arenas come in steps of up to 1 MiB, long before they are touched; live blocks grow smoothly
/// but may fill holes that were resident before. Each is wrong in its own way, and both too high:
/// the lower of the two courses is believed.
fn c_heap(evidence: &Evidence, less_mapped: bool, steep_from: f64) -> Option<Course> {
    let mut rest = stats::clean(&evidence.anonymous.points);
    if less_mapped {
        rest = less(&rest, &evidence.mapped.points);
    }
    let less_arenas = trend::course(&less(&rest, &evidence.arenas.points), steep_from);
    if evidence.pymalloc_classes.is_empty() {
        return less_arenas;
    }
    let less_live = trend::course(&less(&rest, &small_live_bytes(evidence).points), steep_from);
    let slope = |course: &Course| course.slope.per_s.value;
    less_arenas.into_iter().chain(less_live).min_by(|a, b| slope(a).total_cmp(&slope(b)))
}

/// Bytes in live pymalloc blocks, all classes together.
#[must_use]
pub fn small_live_bytes(evidence: &Evidence) -> Series {
    weighted_sum(evidence, |class| f64::from(class) * 16.0)
}

/// Live pymalloc blocks, all classes together.
#[must_use]
pub fn small_live_blocks(evidence: &Evidence) -> Series {
    weighted_sum(evidence, |_| 1.0)
}

fn weighted_sum(evidence: &Evidence, weight: impl Fn(u32) -> f64) -> Series {
    let longest = evidence.pymalloc_classes.iter().max_by_key(|class| class.live.points.len());
    let mut sum: Vec<_> = longest.map_or_else(Vec::new, |class| {
        stats::clean(&class.live.points).into_iter().map(|(t, _)| (t, 0.0)).collect()
    });
    for class in &evidence.pymalloc_classes {
        let points = stats::clean(&class.live.points);
        for (t, total) in &mut sum {
            *total += at(&points, *t) * weight(class.size_class);
        }
    }
    Series { points: sum }
}

/// `a − b` at the instants of `a`, which is clean.
fn less(a: &[(f64, f64)], b: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let b = stats::clean(b);
    a.iter().map(|(t, value)| (*t, value - at(&b, *t))).collect()
}

/// A clean series at an instant: linear between points, constant outside, 0 where it has none.
fn at(points: &[(f64, f64)], t: f64) -> f64 {
    let next = points.partition_point(|p| p.0 < t);
    let after = points.get(next).or(points.last());
    let before = next.checked_sub(1).and_then(|i| points.get(i)).or(after);
    match (before, after) {
        (Some(before), Some(after)) if after.0 > before.0 => {
            before.1
                + (after.1 - before.1) * ((t - before.0) / (after.0 - before.0)).clamp(0.0, 1.0)
        }
        (_, Some(after)) => after.1,
        _ => 0.0,
    }
}

/// A site's part in a pot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Index of the pot.
    pub pot: usize,
    /// The site's old survivors in it, weighted, by the share of the old that stays.
    pub staying: f64,
    /// How many bursts they come from.
    pub births: usize,
    /// Their mean size as asked for, in bytes.
    pub mean_size: f64,
    /// The part of the pot's growth that is the site's.
    pub fraction: Estimate,
    /// That growth in bytes a second: 0 where the pot does not grow.
    pub growth: Estimate,
}

/// What of a site stays in one pot.
#[derive(Debug, Clone, Copy, Default)]
struct Staying {
    blocks: f64,
    births: usize,
    bytes: f64,
    /// What shares are made of: blocks where all have one size, else bytes.
    stake: f64,
    stake_squares: f64,
}

/// Divides the pots among the sites: for every site (with its tail, in the same order) its shares.
#[must_use]
pub fn shares(sites: &[SiteEvidence], tails: &[Tail], pots: &[Pot]) -> Vec<Vec<Share>> {
    // Most sites have a stake in one pot or none.
    let stakes: Vec<Vec<(usize, Staying)>> = sites
        .iter()
        .zip(tails)
        .map(|(site, tail)| {
            let all = pots.iter().map(|pot| staying(site, tail, pot)).enumerate();
            all.filter(|(_, own)| own.stake > 0.0).collect()
        })
        .collect();
    let mut totals = vec![Staying::default(); pots.len()];
    for (pot, own) in stakes.iter().flatten() {
        totals[*pot].stake += own.stake;
        totals[*pot].stake_squares += own.stake_squares;
    }
    let shares_of = |stakes: &Vec<(usize, Staying)>| {
        stakes.iter().map(|(i, own)| share(*i, &pots[*i], &totals[*i], own)).collect()
    };
    stakes.iter().map(shares_of).collect()
}

fn staying(site: &SiteEvidence, tail: &Tail, pot: &Pot) -> Staying {
    let mut sum = Staying::default();
    let blocks = survival::followed(site).filter(|block| {
        block.fate.end == End::Alive
            && block.age_s >= tail.age_s
            && block.fate.born_s >= pot.course.began_s
            && pot.holds(site.domain, block.fate.size_class)
    });
    let mut births = Vec::new();
    for block in blocks {
        births.push(block.fate.born_s);
        let weight = block.fate.weight * tail.survival.value;
        let bytes = weight * block.fate.size.0 as f64;
        let stake = if pot.size_class.is_some() { weight } else { bytes };
        sum.blocks += weight;
        sum.bytes += bytes;
        sum.stake += stake;
        sum.stake_squares += stake * stake;
    }
    sum.births = survival::bursts(births).len();
    sum
}

fn share(index: usize, pot: &Pot, total: &Staying, own: &Staying) -> Share {
    let independent = total.stake * total.stake / total.stake_squares;
    let fraction = stats::wilson(own.stake / total.stake * independent, independent);
    let growth = if pot.grows { product(fraction, pot.growth()) } else { Estimate::default() };
    let mean_size = own.bytes / own.blocks;
    Share { pot: index, staying: own.blocks, births: own.births, mean_size, fraction, growth }
}

/// The product of two independent estimates: relative half widths add in quadrature.
fn product(share: Estimate, growth: Estimate) -> Estimate {
    let value = share.value * growth.value;
    let side = |share_side: f64, growth_side: f64| {
        let by_share = growth.value * (share_side - share.value);
        let by_growth = share.value * (growth_side - growth.value);
        by_share.hypot(by_growth)
    };
    Estimate {
        value,
        low: value - side(share.low, growth.low),
        high: value + side(share.high, growth.high),
    }
}

/// The sum of independent estimates: half widths add in quadrature.
#[must_use]
pub fn sum(estimates: impl IntoIterator<Item = Estimate>) -> Estimate {
    let (mut value, mut below, mut above) = (0.0, 0.0f64, 0.0f64);
    for one in estimates {
        value += one.value;
        below = below.hypot(one.value - one.low);
        above = above.hypot(one.high - one.value);
    }
    Estimate { value, low: value - below, high: value + above }
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
