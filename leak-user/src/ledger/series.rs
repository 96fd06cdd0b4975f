//! A quantity over time in bounded memory: when it is full, every second point goes.

use crate::verdict::evidence::Series;

/// Points kept at most, if nothing else is said.
const MAX_POINTS: usize = 2048;

/// Records a quantity.
#[derive(Debug)]
pub struct Recorder {
    most: usize,
    points: Vec<(f64, f64)>,
    /// One of so many additions is kept.
    stride: usize,
    skipped: usize,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::with_at_most(MAX_POINTS)
    }
}

impl Recorder {
    /// Keeps so many points at most.
    #[must_use]
    pub fn with_at_most(most: usize) -> Self {
        Self { most, points: Vec::new(), stride: 0, skipped: 0 }
    }

    /// Adds a point; times must not go back.
    pub fn add(&mut self, at: f64, value: f64) {
        self.skipped += 1;
        if self.skipped < self.stride {
            return;
        }
        self.skipped = 0;
        if self.points.len() >= self.most {
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.stride = 2 * self.stride.max(1);
        }
        self.points.push((at, value));
    }

    /// The first value.
    #[must_use]
    pub fn first(&self) -> Option<f64> {
        self.points.first().map(|(_, value)| *value)
    }

    /// The last value.
    #[must_use]
    pub fn last(&self) -> Option<f64> {
        self.points.last().map(|(_, value)| *value)
    }

    /// By how much it has grown in the later half of its time.
    #[must_use]
    pub fn grown_lately(&self) -> f64 {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else {
            return 0.0;
        };
        let half = (first.0 + last.0) / 2.0;
        let at = self.points.partition_point(|(time, _)| *time < half);
        self.points.get(at).map_or(0.0, |(_, value)| last.1 - value)
    }

    /// Was it ever above 0?
    #[must_use]
    pub fn is_ever_positive(&self) -> bool {
        self.points.iter().any(|(_, value)| *value > 0.0)
    }

    /// A copy.
    #[must_use]
    pub fn series(&self) -> Series {
        Series { points: self.points.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grew_at_first_has_not_grown_lately() {
        let mut recorder = Recorder::default();
        assert_eq!(recorder.grown_lately(), 0.0);
        for (at, value) in [(0.0, 0.0), (1.0, 500.0), (2.0, 500.0), (3.0, 510.0), (4.0, 520.0)] {
            recorder.add(at, value);
        }
        assert_eq!(recorder.grown_lately(), 20.0);
    }

    #[test]
    fn thins_out_evenly() {
        let mut recorder = Recorder::default();
        for i in 0..100_000 {
            recorder.add(f64::from(i), f64::from(i));
        }
        let points = recorder.series().points;
        assert!(points.len() <= MAX_POINTS && points.len() > MAX_POINTS / 2 - 2);
        assert!(points.is_sorted_by(|a, b| a.0 < b.0));
        assert!(points.last().is_some_and(|last| last.0 > 99_000.0));
    }
}
