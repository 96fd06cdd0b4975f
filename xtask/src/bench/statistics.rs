//! Order statistics of samples.

/// The value below which the fraction `q` (from 0 to 1) of the samples lies; `None` without samples.
pub fn quantile(samples: &mut [f64], q: f64) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().checked_sub(1)?;
    let at = q.clamp(0.0, 1.0) * last as f64;
    let (low, share) = (at.floor(), at.fract());
    let below = samples.get(low as usize)?;
    let above = samples.get(low as usize + 1).unwrap_or(below);
    // Samples may be infinite.
    Some(if share == 0.0 || below == above { *below } else { below + (above - below) * share })
}

/// The mean; `None` without samples.
pub fn mean(samples: &[f64]) -> Option<f64> {
    Some(samples.iter().sum::<f64>() / samples.len() as f64).filter(|mean| mean.is_finite())
}

/// The middle of the samples.
pub fn median(samples: &mut [f64]) -> Option<f64> {
    quantile(samples, 0.5)
}

/// An interval that holds the median of what the samples are drawn from with a probability of at least
/// 95 %, whatever their distribution: the `k`-th smallest and largest sample, where `k` is the greatest
/// for which 2·P(Binomial(n, ½) < k) is at most 5 %. With fewer than six samples: all of them.
pub fn median_interval(samples: &mut [f64]) -> Option<(f64, f64)> {
    samples.sort_by(f64::total_cmp);
    let n = samples.len();
    let (mut k, mut below, mut term) = (0, 0.0, 0.5_f64.powi(i32::try_from(n).ok()?));
    for next in 0..n / 2 {
        below += term;
        if 2.0 * below > 0.05 {
            break;
        }
        k = next;
        term *= (n - next) as f64 / (next + 1) as f64;
    }
    Some((*samples.get(k)?, *samples.get(n.checked_sub(k + 1)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_samples() {
        let mut samples = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(median(&mut samples), Some(2.5));
        assert_eq!(quantile(&mut samples, 0.0), Some(1.0));
        assert_eq!(quantile(&mut samples, 1.0), Some(4.0));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn the_interval_of_the_median_is_the_tabled_one() {
        // Ranks from the usual table: n = 10 gives the 2nd and 9th, n = 20 the 6th and 15th.
        let ranks = |n: u32| {
            let mut samples: Vec<f64> = (1..=n).map(f64::from).collect();
            median_interval(&mut samples)
        };
        assert_eq!(ranks(10), Some((2.0, 9.0)));
        assert_eq!(ranks(20), Some((6.0, 15.0)));
        assert_eq!(ranks(3), Some((1.0, 3.0)));
        assert_eq!(ranks(0), None);
    }
}
