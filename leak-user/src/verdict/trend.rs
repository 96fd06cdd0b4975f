//! How a quantity moves: steep, slow, paused, saturated, sawtooth, flat.

use super::Trend;
use super::stairs::Stairs;
use super::stats::{self, Slope};

/// A trend weaker than this many standard deviations is not believed: one in 700 by chance, which
/// the 32 size classes of one observation can still afford (a site must keep its blocks as well).
pub const SIGNIFICANT_Z: f64 = 3.0;

/// Fewer instants say nothing of a shape: Kendall's z cannot reach 3.5 with fewer.
pub const MIN_POINTS: usize = 9;

/// Share of the observation that is left out at its start, and the least of it in seconds: imports,
/// first requests and our own attaching are no leak.
const WARM_UP_SHARE: f64 = 0.1;
const WARM_UP_MIN_S: f64 = 1.0;

/// A fall of this share of the whole range is a wave and not the noise on a slope. A leak of G
/// under waves of A falls by A / (G + A): it is told as soon as it has outgrown the waves.
const WAVE_FALL: f64 = 0.5;

/// For judging falls the series is cut into so many runs, each as its median.
const WAVE_RUNS: usize = 8;

/// A wave's range is at least this many median steps; white noise stays below.
const WAVE_STEPS: f64 = 6.0;

/// "Stopped" is growth under this share of what it was on average …
const STOPPED_SHARE: f64 = 1.0 / 3.0;

/// … whose upper bound still is below this share of it …
const STOPPED_HIGH: f64 = 0.9;

/// … after a rise of this many deviations of the noise.
const STOPPED_RISE: f64 = 5.0;

/// The last quarter shows a stop if its upper bound is under this share of the slope before. A service that is
/// merely slower for a while (another's work on its core) leaks on at two fifths of its pace.
const STOPPED_LATE: f64 = 0.25;

/// Growth that falls to under a half from one half to the other, and to under three quarters within each, is
/// levelling off: an exponential approach does so; a leak, or a service that has become slower, does not.
const LEVELLING: [f64; 2] = [0.5, 0.75];

/// Steep is what would double the memory in an hour, and 1 MiB a second of any memory.
const HOUR_S: f64 = 3600.0;
const STEEP_MOST: f64 = 1_048_576.0;

/// From how many bytes a second on growth is steep, in so much memory.
#[must_use]
pub fn steep_from(memory: f64) -> f64 {
    (memory / HOUR_S).clamp(1.0, STEEP_MOST)
}

/// How a quantity moved, and how fast.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// The shape.
    pub trend: Trend,
    /// The line through the part of the observation that says how it grows now.
    pub slope: Slope,
    /// That part: seconds since the start.
    pub from_s: f64,
    /// See `from_s`.
    pub to_s: f64,
    /// Since when it has been growing, at whatever pace: not after `from_s`.
    pub began_s: f64,
    /// Its steps, where it is those that tell how it grows.
    pub stairs: Option<Stairs>,
}

impl Course {
    /// Growth by steps: a pause at its end is none unless those before were.
    fn by_steps(stairs: Stairs, whole: &Part, steep_from: f64) -> Self {
        let Part { from_s, to_s, .. } = *whole;
        let slope = Slope { per_s: stairs.pace(), z: stairs.clear };
        let trend = if stairs.goes_on { pace(&slope, steep_from) } else { Trend::Paused };
        Self { trend, slope, from_s, to_s, began_s: from_s, stairs: Some(stairs) }
    }

    /// Does it grow, and has it not stopped?
    #[must_use]
    pub fn grows(&self) -> bool {
        matches!(self.trend, Trend::Steep | Trend::Slow)
    }

    /// How much it grew over the part looked at.
    #[must_use]
    pub fn rise(&self) -> f64 {
        self.slope.per_s.value * (self.to_s - self.from_s)
    }
}

/// Reads a series of `(seconds, value)`. `steep_from` is the slope, in values a second, that
/// parts steep from slow. None where there are fewer than [`MIN_POINTS`] instants after the warm-up.
#[must_use]
pub fn course(points: &[(f64, f64)], steep_from: f64) -> Option<Course> {
    let points = without_warm_up(stats::clean(points));
    if points.len() < MIN_POINTS {
        return None;
    }
    let whole = Part::of(&points)?;
    let middle = f64::midpoint(whole.from_s, whole.to_s);
    let (first, last) = points.split_at(points.partition_point(|p| p.0 < middle));
    let halves = Part::of(first).zip(Part::of(last));

    // Two halves that clearly differ are not one line, nor is a bent whole where the last half is
    // straight: what counts is how it grows now.
    let rises = |part: &Part| part.slope.z >= SIGNIFICANT_Z && part.slope.per_s.value > 0.0;
    let now = halves
        .filter(|(first, last)| {
            let (early, late) = (first.slope.per_s, last.slope.per_s);
            late.low > early.high || late.high < early.low || (rises(last) && !rises(&whole))
        })
        .map_or(whole, |(_, last)| last);

    let waves = has_waves(&points);
    let stopped = halves.is_some_and(|(first, last)| stopped(&points, &whole, &first, &last));
    let ended = stopped || !rises(&now);
    // What had stopped before and went on has not ended because it stops again.
    let stairs = Stairs::of(&points).filter(|s| !waves && (s.goes_on || s.is_paused() || ended));
    if let Some(stairs) = stairs {
        return Some(Course::by_steps(stairs, &whole, steep_from));
    }
    let trend = if waves {
        if is_wavy(&points) { Trend::Sawtooth } else { Trend::Flat }
    } else if stopped {
        Trend::Saturated
    } else if ended {
        Trend::Flat
    } else {
        pace(&now.slope, steep_from)
    };
    // One that has only changed its pace did not begin with that.
    let before = halves.is_some_and(|(first, _)| rises(&first));
    let began_s = if before { whole.from_s } else { now.from_s };
    Some(Course {
        trend,
        slope: now.slope,
        from_s: now.from_s,
        to_s: now.to_s,
        began_s,
        stairs: None,
    })
}

fn pace(slope: &Slope, steep_from: f64) -> Trend {
    if slope.per_s.value >= steep_from { Trend::Steep } else { Trend::Slow }
}

/// A stretch of the series and its line.
#[derive(Debug, Clone, Copy)]
struct Part {
    slope: Slope,
    from_s: f64,
    to_s: f64,
}

impl Part {
    fn of(points: &[(f64, f64)]) -> Option<Self> {
        let slope = stats::slope(points)?;
        Some(Self { slope, from_s: points.first()?.0, to_s: points.last()?.0 })
    }
}

fn without_warm_up(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return points };
    let skip = ((last.0 - first.0) * WARM_UP_SHARE).max(WARM_UP_MIN_S);
    let start = first.0 + skip;
    let kept = points.partition_point(|p| p.0 < start);
    // A short series keeps its start: better a warm-up in it than nothing to go by.
    if points.len() - kept < MIN_POINTS { points } else { points[kept..].to_vec() }
}

fn range(points: &[(f64, f64)]) -> f64 {
    let high = points.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    let low = points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    (high - low).max(0.0)
}

/// Does it come down again by much of what it went up?
fn has_waves(points: &[(f64, f64)]) -> bool {
    let runs = stats::thin(points, WAVE_RUNS);
    let mut peak = f64::NEG_INFINITY;
    let mut fall: f64 = 0.0;
    for (_, value) in &runs {
        peak = peak.max(*value);
        fall = fall.max(peak - value);
    }
    fall > 0.0 && fall >= WAVE_FALL * range(&runs)
}

/// Is its range more than the noise from point to point?
fn is_wavy(points: &[(f64, f64)]) -> bool {
    let steps = points.iter().zip(points.iter().skip(1)).map(|(a, b)| (b.1 - a.1).abs());
    range(points) > WAVE_STEPS * stats::median(steps).unwrap_or(0.0)
}

fn stopped(points: &[(f64, f64)], whole: &Part, first: &Part, last: &Part) -> bool {
    stopped_in_last_half(points, whole, last)
        || stopped_in_last_quarter(points, last)
        || levels_off(points, first, last)
}

fn stopped_in_last_half(points: &[(f64, f64)], whole: &Part, last: &Part) -> bool {
    let (head, tail) = points.split_at(points.partition_point(|p| p.0 < last.from_s));
    let Some(start) = stats::median(head.iter().take(3).map(|p| p.1)) else { return false };
    let Some(end) = stats::median(tail.iter().map(|p| p.1)) else { return false };
    let noise = stats::deviation(&stats::residuals(&stats::thin(tail, 32))).unwrap_or(0.0);
    let rise = end - start;
    // `end` is the level in the middle of the last half: three quarters of the way.
    let average = rise / (0.75 * (whole.to_s - whole.from_s));
    let now = last.slope.per_s;
    rise > 0.0
        && rise >= STOPPED_RISE * noise
        && rise >= range(points) / 2.0
        && now.value <= STOPPED_SHARE * average
        && now.high < STOPPED_HIGH * average
}

/// The two parts of a half.
fn quarters(points: &[(f64, f64)], half: &Part) -> Option<(Part, Part)> {
    let until = |time| points.partition_point(|p: &(f64, f64)| p.0 < time);
    let (from, middle) = (until(half.from_s), until(f64::midpoint(half.from_s, half.to_s)));
    let to = points.partition_point(|p| p.0 <= half.to_s);
    Part::of(&points[from..middle]).zip(Part::of(&points[middle..to]))
}

fn stopped_in_last_quarter(points: &[(f64, f64)], last: &Part) -> bool {
    quarters(points, last).is_some_and(|(third, fourth)| {
        third.slope.per_s.low > 0.0
            && fourth.slope.per_s.high < STOPPED_LATE * third.slope.per_s.value
    })
}

fn levels_off(points: &[(f64, f64)], first: &Part, last: &Part) -> bool {
    let [by_half, by_quarter] = LEVELLING;
    let (early, late) = (first.slope.per_s, last.slope.per_s);
    let falls = |half: &Part| {
        quarters(points, half).is_some_and(|(before, after)| {
            let (before, after) = (before.slope.per_s, after.slope.per_s);
            after.value < by_quarter * before.value && after.high < before.value
        })
    };
    early.low > 0.0 && late.high < by_half * early.low && falls(first) && falls(last)
}

#[cfg(test)]
#[path = "trend_tests.rs"]
mod tests;
