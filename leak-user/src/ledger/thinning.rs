//! A fair sample of a stream in bounded memory: when it is full, every entry is dropped with
//! probability one half and the rest count double; what comes later is let in as rarely as what was
//! there has stayed. So all entries have the same chance, whenever they came, and weighted sums keep
//! their expectation (Horvitz and Thompson).

use leak_common::hash;

/// The state of one sample.
#[derive(Debug, Default)]
pub struct Thinning {
    halvings: u32,
    drawn: u64,
}

impl Thinning {
    /// More halvings than any stream can need.
    const MOST: u32 = 60;

    /// Random numbers for a sample named `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { halvings: 0, drawn: seed << 40 }
    }

    /// May the next of the stream be taken in?
    pub fn admits(&mut self) -> bool {
        let mask = (1 << self.halvings) - 1;
        self.draw() & mask == 0
    }

    /// What an entry that is taken in counts for.
    #[must_use]
    pub fn weight(&self) -> f64 {
        (1_u64 << self.halvings) as f64
    }

    /// Notes that the sample is being halved: to be called before [`Self::stays`] is asked for each of
    /// its entries.
    pub fn halve(&mut self) {
        self.halvings = (self.halvings + 1).min(Self::MOST);
    }

    /// Does an entry stay? Then its weight doubles.
    pub fn stays(&mut self) -> bool {
        self.draw() & 1 == 0
    }

    fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        hash::finish(self.drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_the_same_chance_and_sums_stay() {
        const ROOM: usize = 1000;
        let (mut thinning, mut sample) = (Thinning::seeded(3), Vec::new());
        for i in 0..100_000_u32 {
            if thinning.admits() {
                sample.push((i, thinning.weight()));
            }
            if sample.len() > ROOM {
                thinning.halve();
                sample.retain(|_| thinning.stays());
                sample.iter_mut().for_each(|(_, weight)| *weight *= 2.0);
            }
        }
        assert!(sample.len() <= ROOM && sample.len() > ROOM / 3, "{}", sample.len());
        assert!(sample.iter().all(|(_, weight)| *weight == thinning.weight()));
        for quarter in 0..4 {
            let range = quarter * 25_000..(quarter + 1) * 25_000;
            let of_it = sample.iter().filter(|(i, _)| range.contains(i));
            let weight: f64 = of_it.map(|(_, weight)| weight).sum();
            assert!((weight / 25_000.0 - 1.0).abs() < 0.4, "{weight} of quarter {quarter}");
        }
    }
}
