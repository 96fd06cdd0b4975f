//! Do the size classes that a site keeps blocks of grow with it? What a cache at its bound takes in stays as well, but
//! its classes don't grow: others are freed for it.

use super::share::{Pot, Share};
use super::stats;

/// A site is out of step in a class that grows by less than this share of what the site would add to it.
const OUT_OF_STEP: f64 = 0.25;

/// A site's staying blocks in one class, each number as a burst sees it in one unit of the target's work.
struct Class {
    staying: f64,
    /// Least and most that they can be worth: bursts see few requests, each whole.
    least: f64,
    most: f64,
    /// Blocks by which the class grows for the site, and at most.
    grows: f64,
    grows_at_most: f64,
}

/// Of the site's staying blocks, the share that lies in classes which surely do not grow as these blocks would have
/// them grow, measured by the class that grows most for each of them. Some classes are looked at more often than
/// others, and so more of what stays there is seen.
#[must_use]
pub fn out_of_step(shares: &[Share], pots: &[Pot]) -> f64 {
    let classes: Vec<Class> = shares.iter().filter_map(|share| class(share, pots)).collect();
    let pace = classes.iter().map(|class| class.grows / class.most).fold(0.0, f64::max);
    let all: f64 = classes.iter().map(|class| class.staying).sum();
    let is_out = |class: &&Class| class.grows_at_most < OUT_OF_STEP * pace * class.least;
    let out: f64 = classes.iter().filter(is_out).map(|class| class.staying).sum();
    if all > 0.0 { out / all } else { 0.0 }
}

fn class(share: &Share, pots: &[Pot]) -> Option<Class> {
    let pot = pots.get(share.pot)?;
    let block = pot.block_bytes()?;
    let staying = share.staying / pot.seen_work;
    let births = share.births as f64;
    let of_births = stats::poisson(share.births);
    staying.is_finite().then(|| Class {
        staying,
        least: staying * of_births.low / births,
        most: staying * of_births.high / births,
        grows: share.growth.value / block,
        grows_at_most: share.fraction.value * pot.growth().high.max(0.0) / block,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Estimate;
    use super::super::evidence::Domain;
    use super::super::trend;
    use super::*;

    /// A class of blocks of 16 bytes times `size_class` that grows by so many a second.
    fn pot(size_class: u32, blocks_per_s: f64, seen_work: f64) -> Pot {
        let block = 16.0 * f64::from(size_class);
        let points: Vec<_> =
            (0..40).map(|t| (f64::from(t), f64::from(t) * blocks_per_s * block)).collect();
        let course = trend::course(&points, 1e4).unwrap();
        Pot { seen_work, ..Pot::new(Domain::Pymalloc, Some(size_class), course) }
    }

    fn share(pot: usize, pots: &[Pot], staying: f64, births: usize) -> Share {
        let fraction = Estimate { value: 1.0, low: 0.9, high: 1.0 };
        let growth = if pots[pot].grows { pots[pot].growth() } else { Estimate::default() };
        Share { pot, staying, births, mean_size: 0.0, fraction, growth }
    }

    #[test]
    fn what_only_replaces_is_out_of_step() {
        let pots = [pot(4, 0.0, 1.0), pot(6, 300.0, 1.0)];
        let shares = [share(0, &pots, 40.0, 20), share(1, &pots, 20.0, 20)];
        assert!((out_of_step(&shares, &pots) - 2.0 / 3.0).abs() < 1e-9);
    }

    /// One of its two classes was watched by bursts of its own, so that more of what stays there was seen.
    #[test]
    fn what_is_looked_at_more_often_is_not_out_of_step() {
        let pots = [pot(4, 300.0, 2.0), pot(6, 300.0, 0.2)];
        let shares = [share(0, &pots, 200.0, 20), share(1, &pots, 20.0, 2)];
        assert_eq!(out_of_step(&shares, &pots), 0.0);
    }

    /// One burst met a request that keeps many blocks of one class, others met none.
    #[test]
    fn a_few_bursts_tell_no_pace() {
        let pots = [pot(4, 200.0, 1.0), pot(6, 200.0, 1.0)];
        let shares = [share(0, &pots, 40.0, 4), share(1, &pots, 3.0, 1)];
        assert_eq!(out_of_step(&shares, &pots), 0.0);
    }
}
