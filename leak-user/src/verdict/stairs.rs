//! Growth that comes by steps: it pauses, and goes on.
//!
//! A pause looks like an end until the growth goes on. Where it has done so before, a pause at the end of the
//! observation says nothing.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::{Estimate, stats};

/// A pause takes at least this share of the time: shorter ones belong to the rise that they interrupt …
const PAUSE_SHARE: f64 = 0.1;

/// … and so many points after its first …
const PAUSE_STEPS: usize = 3;

/// … and as long as its mean pace needs for this many deviations of the noise: noise makes shorter ones.
const PAUSE_CLEAR: f64 = 5.0;

/// In a pause it grows by less than this share of its mean pace.
const PAUSE_PACE: f64 = 1.0 / 3.0;

/// A rise is this many deviations of the noise in the pauses beside it …
const CLEAR_RISE: f64 = 5.0;

/// … and this share of the whole: the last bit of a cache that fills is no step.
const RISE_SHARE: f64 = 0.1;

/// Points of the series that are looked at: more would only be slower.
const MAX_POINTS: usize = 96;

/// Points to either side over which the running median goes.
const SPIKE: usize = 2;

/// With this share of the time, the pause at the end is believed whatever else is found of how it grows now.
const LAST_PAUSE_SHARE: f64 = 0.25;

/// Two rises may be a cache that was filled in two bursts. What went on twice after it had stopped will again …
const GOES_ON_RISES: usize = 3;

/// … unless the last pause is longer than the longest before by this much.
const LONGER_PAUSE: f64 = 1.5;

/// Two or more separate rises.
#[derive(Debug, Clone, PartialEq)]
pub struct Stairs {
    /// How many.
    pub rises: usize,
    /// The least of them, in deviations of the noise.
    pub clear: f64,
    /// By how much it grew, and in how many seconds.
    grown: (f64, f64),
    /// The pauses, in seconds since the start; the first and the last may be at the ends of the observation.
    pub pauses: Vec<(f64, f64)>,
    /// When the last rise ended: the end of the observation if it has not.
    pub until_s: f64,
    /// Nothing sets the pause at the end, if there is one, apart from those after which it went on.
    pub goes_on: bool,
}

impl Stairs {
    /// None where there are not two rises with a pause between. The points are clean.
    #[must_use]
    pub fn of(points: &[(f64, f64)]) -> Option<Self> {
        let points = stats::thin(points, MAX_POINTS);
        let steps = monotone(&without_spikes(&points));
        let (begin, end) = (*steps.first()?, *steps.last()?);
        let (whole, span) = (end.1 - begin.1, end.0 - begin.0);
        if whole <= 0.0 {
            return None;
        }
        let levels = levels(&points, &steps, whole / span);
        Self::between(&clear_levels(levels, RISE_SHARE * whole), (whole, span))
    }

    fn between(levels: &[Level], grown: (f64, f64)) -> Option<Self> {
        let (begin, last) = (levels.first()?, levels.last()?);
        let end_s = begin.from_s + grown.1;
        let heights =
            levels.iter().zip(levels.iter().skip(1)).map(|(below, above)| below.rise_to(above));
        let clear = heights.fold(f64::INFINITY, f64::min);
        let pauses = levels.iter().filter(|level| level.is_pause());
        let pauses: Vec<(f64, f64)> = pauses.map(|level| (level.from_s, level.to_s)).collect();
        let until_s = if last.is_pause() { last.from_s } else { end_s };
        let inner = pauses.iter().filter(|(from, to)| *from > begin.from_s && *to < until_s);
        let longest = inner.map(|(from, to)| to - from).fold(0.0, f64::max);
        let rises = levels.len() - 1;
        let goes_on = rises >= GOES_ON_RISES && end_s - until_s <= LONGER_PAUSE * longest;
        (longest > 0.0).then_some(Self { rises, clear, grown, pauses, until_s, goes_on })
    }

    /// Does the observation end in a pause that noise hardly makes?
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let (_, span) = self.grown;
        self.pauses
            .last()
            .is_some_and(|(from, to)| *from == self.until_s && to - from >= LAST_PAUSE_SHARE * span)
    }

    /// The mean pace per second, rises and pauses together. One step more or less may fall into the observation.
    #[must_use]
    pub fn pace(&self) -> Estimate {
        let (whole, span) = self.grown;
        let value = whole / span;
        let step = value / self.rises as f64;
        Estimate { value, low: value - step, high: value + step }
    }

    /// In how many of the rises these instants lie.
    #[must_use]
    pub fn rises_with(&self, instants: impl IntoIterator<Item = f64>) -> usize {
        // A pause's borders are vague, its middle is not.
        let before =
            |t: f64| self.pauses.iter().filter(|(from, to)| f64::midpoint(*from, *to) < t).count();
        instants.into_iter().map(before).collect::<BTreeSet<_>>().len()
    }
}

/// A pause and how high it lies, or the first or last point.
#[derive(Debug, Clone, Copy)]
struct Level {
    from_s: f64,
    to_s: f64,
    value: f64,
    noise: f64,
}

impl Level {
    fn of_point((at_s, value): (f64, f64)) -> Self {
        Self { from_s: at_s, to_s: at_s, value, noise: 0.0 }
    }

    /// A few points may be close together by chance: the noise is that of the whole series at least.
    fn of_pause(points: &[(f64, f64)], noise: f64) -> Option<Self> {
        let values: Vec<f64> = points.iter().map(|p| p.1).collect();
        Some(Self {
            from_s: points.first()?.0,
            to_s: points.last()?.0,
            value: stats::median(values.iter().copied())?,
            noise: stats::deviation(&values)?.max(noise),
        })
    }

    fn length(&self) -> f64 {
        self.to_s - self.from_s
    }

    fn is_pause(&self) -> bool {
        self.length() > 0.0
    }

    /// How far another lies above it, in deviations of the noise.
    fn rise_to(&self, above: &Self) -> f64 {
        (above.value - self.value) / self.noise.max(above.noise)
    }

    /// Both as one, as high as the longer. A point makes no pause longer.
    fn joined(self, later: Self) -> Self {
        if !later.is_pause() {
            return self;
        }
        let height = if later.length() > self.length() { later } else { self };
        Self { from_s: self.from_s, to_s: later.to_s, ..height }
    }
}

/// The first point, the pauses and the last point.
fn levels(points: &[(f64, f64)], steps: &[(f64, f64)], pace: f64) -> Vec<Level> {
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Vec::new() };
    let noise = noise(points, steps);
    let shortest = (PAUSE_SHARE * (last.0 - first.0)).max(PAUSE_CLEAR * noise / pace);
    let mut levels = vec![Level::of_point(*first)];
    let pauses = pauses(steps, PAUSE_PACE * pace, shortest).into_iter();
    levels.extend(pauses.filter_map(|range| Level::of_pause(points.get(range)?, noise)));
    levels.push(Level::of_point(*last));
    levels
}

/// Those that are not clearly above the one before, by so much at least, are joined to it.
fn clear_levels(levels: Vec<Level>, least: f64) -> Vec<Level> {
    let mut clear: Vec<Level> = Vec::new();
    for level in levels {
        let is_clear = |below: &Level| {
            level.value - below.value >= least && below.rise_to(&level) >= CLEAR_RISE
        };
        match clear.last_mut() {
            Some(below) if !is_clear(below) => *below = below.joined(level),
            _ => clear.push(level),
        }
    }
    clear
}

/// Stretches of a monotone series, as long as they can be and not shorter than that, in which it keeps under a pace.
fn pauses(steps: &[(f64, f64)], pace: f64, shortest: f64) -> Vec<RangeInclusive<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = steps.get(from) {
        let is_still = |point: &(f64, f64)| point.1 - start.1 <= pace * (point.0 - start.0);
        let to = steps.iter().rposition(is_still).unwrap_or(from);
        let lasts = steps.get(to).map_or(0.0, |point| point.0 - start.0);
        if to >= from + PAUSE_STEPS && lasts >= shortest {
            found.push(from..=to);
            from = to;
        } else {
            from += 1;
        }
    }
    found
}

/// The deviation of a series from the monotone one.
fn noise(points: &[(f64, f64)], steps: &[(f64, f64)]) -> f64 {
    let beside: Vec<f64> = points.iter().zip(steps).map(|(point, step)| point.1 - step.1).collect();
    stats::deviation(&beside).unwrap_or(0.0)
}

/// The running median: what is in flight at the instant of one count is no level.
fn without_spikes(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    (0..points.len())
        .filter_map(|i| {
            let reach = SPIKE.min(i).min(points.len() - 1 - i);
            let around = points.get(i - reach..=i + reach)?;
            Some((points.get(i)?.0, stats::median(around.iter().map(|p| p.1))?))
        })
        .collect()
}

/// The monotone series that lies closest (pool adjacent violators; Ayer et al. 1955).
fn monotone(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (_, value) in points {
        let mut pool = (*value, 1);
        while let Some(below) = pools.pop_if(|below| below.0 >= pool.0) {
            let count = below.1 + pool.1;
            let sum = below.0 * below.1 as f64 + pool.0 * pool.1 as f64;
            pool = (sum / count as f64, count);
        }
        pools.push(pool);
    }
    let values = pools.into_iter().flat_map(|(value, count)| std::iter::repeat_n(value, count));
    points.iter().map(|p| p.0).zip(values).collect()
}

#[cfg(test)]
#[path = "stairs_tests.rs"]
mod tests;
