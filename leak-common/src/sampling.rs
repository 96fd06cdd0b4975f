//! Poisson sampling by bytes: every byte has the same chance, so an allocation of `size` bytes is
//! taken with probability `1 - exp(-size / interval)`. The kernel side only counts down; the user
//! side weighs what was taken by [`weight`].

/// `-ln(u)` in 1/65536 for `u = (i + 0.5) / 64`, `i` in 0..64: the distance to the next sample, to be
/// scaled by the interval. A table, because eBPF has no floating point.
pub const EXPONENTIAL: [u32; 64] = exponential_table();

/// The distance to the next sample in bytes, drawn with `random`.
#[inline(always)]
pub fn next_distance(interval: u64, random: u32) -> u64 {
    // The low 6 bits choose the quantile.
    let index = (random & 63) as usize;
    ((interval * EXPONENTIAL[index & 63] as u64) >> 16) + 1
}

const fn exponential_table() -> [u32; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 64 {
        table[i] = minus_ln((i as f64 + 0.5) / 64.0);
        i += 1;
    }
    table
}

/// `-ln(x) * 65536` for 0 < x < 1, by the series of `2 artanh((1-x)/(1+x))`.
const fn minus_ln(x: f64) -> u32 {
    let y = (1.0 - x) / (1.0 + x);
    let (mut term, mut sum, mut n) = (y, 0.0, 1.0);
    while n < 2001.0 {
        sum += term / n;
        term *= y * y;
        n += 2.0;
    }
    (2.0 * sum * 65536.0) as u32
}

/// How many allocations of `size` bytes one sampled allocation stands for.
#[cfg(feature = "user")]
pub fn weight(size: u64, interval: u64) -> f64 {
    extern crate std;
    if interval == 0 {
        return 1.0;
    }
    // `exp_m1`: exact where the size is a tiny part of the interval.
    -1.0 / f64::exp_m1(-(size.max(1) as f64) / interval as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_average_to_the_interval() {
        let sum: u64 = (0..64).map(|r| next_distance(1_000_000, r)).sum();
        let mean = sum as f64 / 64.0;
        assert!((mean / 1e6 - 1.0).abs() < 0.02, "mean {mean}");
    }
}
