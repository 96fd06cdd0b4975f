//! How long a site's blocks live, as far as bursts saw some of them go.
//!
//! What looks the same may be another of its kind in the same place. The bursts, which see one part in a hundred
//! of the time, tell how fast such blocks come and go.

/// Blocks that bursts must have seen go to tell how long a site's live.
const FEW_GONE: u32 = 2;

/// A block that has grown older than so many mean lives of its site's is no longer believed to be the same.
const CREDIBLE_LIVES: f64 = 2.0;

/// What bursts saw of a site's blocks.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// For how long they watched them, all together.
    watched_s: f64,
    /// How many they saw go.
    gone: u32,
}

impl Lives {
    /// A block was watched for so many seconds, and went or did not.
    pub fn watched(&mut self, seconds: f64, went: bool) {
        self.watched_s += seconds;
        self.gone += u32::from(went);
    }

    /// How old a block can be that is believed to be still the one that it was.
    pub fn credible_age_s(&self) -> f64 {
        if self.gone < FEW_GONE {
            return f64::INFINITY;
        }
        CREDIBLE_LIVES * self.watched_s / f64::from(self.gone)
    }
}
