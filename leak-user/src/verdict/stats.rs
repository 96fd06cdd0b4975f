//! Robust statistics of short, noisy series. All functions drop NaN and infinities.

use std::f64::consts::SQRT_2;

use super::Estimate;

/// The standard normal's 97.5 % point: the half width of a two-sided 95 % interval.
pub const Z95: f64 = 1.959_964;

/// Series longer than this are thinned by medians first, so that no series costs more than a
/// thousand pairs.
const MAX_POINTS: usize = 48;

/// Shortest series for which the autocorrelation of the noise is worth estimating.
const MIN_FOR_CORRELATION: usize = 8;

/// The most that neighbouring points are believed to repeat each other; above it the correction
/// would need more points than any observation has.
const MAX_CORRELATION: f64 = 0.9;

/// A line that rises by this many times the whole range of what is left beside it is no work of
/// noise, however much that repeats itself: a random walk of 20 steps comes to one.
const CLEAR_RISE: f64 = 6.0;

/// A robust straight line through a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    /// Change per second, with its 95 % interval.
    pub per_s: Estimate,
    /// How many standard deviations the trend is away from none; positive when rising.
    pub z: f64,
}

impl Slope {
    /// The probability that the series really rises, 0 to 1.
    #[must_use]
    pub fn probability_rising(&self) -> f64 {
        normal_cdf(self.z)
    }
}

/// The Mann–Kendall test for a monotone trend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannKendall {
    /// Rising pairs less falling pairs.
    pub s: f64,
    /// Variance of `s` where there is no trend, corrected for ties.
    pub variance: f64,
    /// `s` in standard deviations, with the continuity correction.
    pub z: f64,
}

/// The finite points in order of time, one per instant (the last one given).
#[must_use]
pub fn clean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept: Vec<_> =
        points.iter().copied().filter(|(t, v)| t.is_finite() && v.is_finite()).collect();
    kept.sort_by(|a, b| a.0.total_cmp(&b.0));
    kept.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            earlier.1 = later.1;
        }
        same
    });
    kept
}

/// At most `max` points: the medians of runs of equal length.
#[must_use]
pub fn thin(points: &[(f64, f64)], max: usize) -> Vec<(f64, f64)> {
    let run = points.len().div_ceil(max.max(1)).max(1);
    points.chunks(run).filter_map(median_point).collect()
}

fn median_point(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    Some((median(points.iter().map(|p| p.0))?, median(points.iter().map(|p| p.1))?))
}

/// The median; None where no finite value is given.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    median_of_sorted(&sorted)
}

fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(lower / 2.0 + upper / 2.0)
}

/// The standard deviation as the median absolute deviation has it (× 1.4826, exact for normal
/// noise); None where no finite value is given.
#[must_use]
pub fn deviation(values: &[f64]) -> Option<f64> {
    let centre = median(values.iter().copied())?;
    Some(1.4826 * median(values.iter().map(|v| (v - centre).abs()))?)
}

/// Mann–Kendall over values in order of time. (Mann 1945; Kendall 1975, with his tie correction.)
#[must_use]
pub fn mann_kendall(values: &[f64]) -> MannKendall {
    let values: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let mut s = 0.0;
    for (i, earlier) in values.iter().enumerate() {
        for later in values.iter().skip(i + 1) {
            s += f64::from(i8::from(later > earlier) - i8::from(later < earlier));
        }
    }
    let pairs_moment = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let mut sorted = values.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let ties: f64 =
        sorted.chunk_by(|a, b| a == b).map(|tied| pairs_moment(tied.len() as f64)).sum();
    let variance = ((pairs_moment(values.len() as f64) - ties) / 18.0).max(0.0);
    let z = if variance > 0.0 && s != 0.0 { (s - s.signum()) / variance.sqrt() } else { 0.0 };
    MannKendall { s, variance, z }
}

/// The Theil–Sen line with Sen's rank-based interval; None under three instants, for two points
/// are no trend.
///
/// The variance of Kendall's S is multiplied by `(1 + r) / (1 − r)` where neighbouring residuals
/// correlate by `r`: memory comes in waves, and a wave's points are not independent. Not so where
/// the line leaves next to nothing.
#[must_use]
pub fn slope(points: &[(f64, f64)]) -> Option<Slope> {
    let points = thin(&clean(points), MAX_POINTS);
    if points.len() < 3 {
        return None;
    }
    let slopes = pair_slopes(&points);
    let value = median_of_sorted(&slopes)?;
    let values: Vec<f64> = points.iter().map(|p| p.1).collect();
    let kendall = mann_kendall(&values);
    let inflation = if is_clear(&points, value) { 1.0 } else { inflation(&points) };
    let width = Z95 * (kendall.variance * inflation).sqrt();
    let pairs = slopes.len() as f64;
    // Sen's ranks count from 1: the lower is (N − C) / 2, the upper (N + C) / 2 + 1.
    let low = ((pairs - width) / 2.0).floor().max(1.0) as usize - 1;
    let high = (((pairs + width) / 2.0).ceil() as usize).min(slopes.len() - 1);
    Some(Slope {
        per_s: Estimate { value, low: *slopes.get(low)?, high: *slopes.get(high)? },
        z: kendall.z / inflation.sqrt(),
    })
}

/// The slopes of all pairs of points, sorted.
fn pair_slopes(points: &[(f64, f64)]) -> Vec<f64> {
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (i, earlier) in points.iter().enumerate() {
        for later in points.iter().skip(i + 1) {
            let slope = (later.1 - earlier.1) / (later.0 - earlier.0);
            if slope.is_finite() {
                slopes.push(slope);
            }
        }
    }
    slopes.sort_unstable_by(f64::total_cmp);
    slopes
}

/// Distances of the points from their own robust line.
#[must_use]
pub fn residuals(points: &[(f64, f64)]) -> Vec<f64> {
    beside(points, median_of_sorted(&pair_slopes(points)).unwrap_or(0.0))
}

fn is_clear(points: &[(f64, f64)], slope: f64) -> bool {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return false };
    let noise = beside(points, slope);
    let high = noise.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let low = noise.iter().copied().fold(f64::INFINITY, f64::min);
    slope != 0.0 && (slope * (last.0 - first.0)).abs() >= CLEAR_RISE * (high - low)
}

/// Distances of the points from the line of this slope through their middle.
fn beside(points: &[(f64, f64)], slope: f64) -> Vec<f64> {
    let level = median(points.iter().map(|(t, v)| v - slope * t)).unwrap_or(0.0);
    points.iter().map(|(t, v)| v - slope * t - level).collect()
}

/// How many times the variance of S grows because neighbours repeat each other.
///
/// Each half has its own line taken away: a leak that starts midway bends the series, and a bend
/// is no noise.
fn inflation(points: &[(f64, f64)]) -> f64 {
    if points.len() < MIN_FOR_CORRELATION {
        return 1.0;
    }
    let (first, last) = points.split_at(points.len() / 2);
    let mut noise = residuals(first);
    noise.extend(residuals(last));
    let square: f64 = noise.iter().map(|r| r * r).sum();
    if square <= 0.0 || !square.is_finite() {
        return 1.0;
    }
    let neighbours: f64 = noise.iter().zip(noise.iter().skip(1)).map(|(a, b)| a * b).sum();
    let correlation = (neighbours / square).clamp(0.0, MAX_CORRELATION);
    (1.0 + correlation) / (1.0 - correlation)
}

/// Wilson's score interval of a share; counts may be fractions (weights, effective numbers).
/// Nothing seen: 0 to 1.
#[must_use]
pub fn wilson(successes: f64, trials: f64) -> Estimate {
    if !(successes.is_finite() && trials.is_finite() && trials > 0.0) {
        return Estimate { value: 0.0, low: 0.0, high: 1.0 };
    }
    let share = (successes / trials).clamp(0.0, 1.0);
    let z2 = Z95 * Z95;
    let centre = (share + z2 / (2.0 * trials)) / (1.0 + z2 / trials);
    let spread = Z95 / (1.0 + z2 / trials)
        * (share * (1.0 - share) / trials + z2 / (4.0 * trials * trials)).sqrt();
    Estimate {
        value: share,
        low: (centre - spread).clamp(0.0, share),
        high: (centre + spread).clamp(share, 1.0),
    }
}

/// The 95 % interval of a Poisson mean, of which so many were counted (Byar's approximation; Breslow & Day 1987).
#[must_use]
pub fn poisson(count: usize) -> Estimate {
    let value = count as f64;
    let bound = |n: f64, z: f64| {
        let root = 1.0 - 1.0 / (9.0 * n) + z / (3.0 * n.sqrt());
        n * root.max(0.0).powi(3)
    };
    let low = if count == 0 { 0.0 } else { bound(value, -Z95) };
    Estimate { value, low, high: bound(value + 1.0, Z95) }
}

/// The probability that a Poisson count of this mean is at least `least`.
#[must_use]
pub fn poisson_tail(mean: f64, least: usize) -> f64 {
    let (mut term, mut below) = ((-mean.max(0.0)).exp(), 0.0);
    for k in 0..least {
        below += term;
        term *= mean / (k + 1) as f64;
    }
    (1.0 - below).clamp(0.0, 1.0)
}

/// The standard normal distribution. (Abramowitz & Stegun 7.1.26; error below 2e-7.)
#[must_use]
pub fn normal_cdf(z: f64) -> f64 {
    if z.is_nan() || z == 0.0 {
        return 0.5;
    }
    let x = z.abs() / SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let poly = t
        * (0.254_829_592
            + t * (-0.284_496_736
                + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let upper = poly * (-x * x).exp() / 2.0;
    if z > 0.0 { 1.0 - upper } else { upper }
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
