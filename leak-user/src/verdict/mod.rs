//! From evidence to a verdict: pure functions of numbers.

mod accuse;
pub mod evidence;
mod judge;
mod lines;
mod pace;
mod recycled;
pub(crate) mod share;
mod stairs;
pub mod stats;
mod stays;
pub mod survival;
pub mod trend;
mod words;

#[cfg(test)]
mod random;
#[cfg(test)]
mod simulate;

use crate::units::Bytes;
use evidence::{Domain, LineId, SiteId};
pub use judge::{CLEAR_DURATION_S, MIN_DURATION_S, judge};

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in words for an on-call person: whole sentences without names of lines.
    pub reasons: Vec<String>,
    /// Accused sites, the worst first.
    pub accused: Vec<Finding>,
    /// Sites that would be accused as well if they grew by more: parts of the same leak, or not.
    pub small: Vec<Finding>,
    /// The other sites that something is known of, by live bytes.
    pub others: Vec<Finding>,
    /// Growth of the whole process in bytes a second (of RSS), with its 95 % interval.
    pub growth: Estimate,
    /// Growth of all memory that is counted and grows, bytes a second.
    pub counted_growth: f64,
    /// The part of it that no accused site accounts for.
    pub unexplained: f64,
}

/// With this part of the growth unexplained, a leak's report says so.
const UNEXPLAINED_SHARE: f64 = 0.25;

impl Judgement {
    /// Accuses those of the small ones that are parts of a leak that is accused.
    pub fn join(&mut self, is_part: impl Fn(&Finding) -> bool) {
        let (parts, rest): (Vec<Finding>, Vec<Finding>) =
            std::mem::take(&mut self.small).into_iter().partition(is_part);
        let growth: f64 = parts.iter().map(|part| part.growth.value).sum();
        if growth > 0.0 {
            self.reasons.push(format!(
                "{} more, {} a second, {} from the same objects",
                words::plural(parts.len(), "site"),
                words::bytes(growth),
                if parts.len() == 1 { "hangs" } else { "hang" },
            ));
        }
        self.unexplained = (self.unexplained - growth).max(0.0);
        self.accused.extend(parts);
        self.others.extend(rest.into_iter().map(|finding| Finding {
            confidence: finding.confidence.min(accuse::UNACCUSED_CONFIDENCE),
            ..finding
        }));
    }

    /// That much of the growth is not explained by a leak, if so.
    #[must_use]
    pub fn remainder(&self) -> Option<String> {
        let much = self.verdict == Verdict::Leak
            && self.unexplained > UNEXPLAINED_SHARE * self.counted_growth;
        much.then(|| {
            format!(
                "{} a second of the growth are not explained by it",
                words::bytes(self.unexplained)
            )
        })
    }
}

/// What the whole observation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// At least one site is accused.
    Leak,
    /// The process does not grow, and no site keeps what it allocates.
    NoLeak,
    /// Neither could be shown.
    Inconclusive,
}

/// What is known of one site.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Which.
    pub site: SiteId,
    /// Its domain.
    pub domain: Domain,
    /// How sure it is that this site leaks, 0 to 1.
    pub confidence: f64,
    /// How it grows.
    pub trend: Trend,
    /// Growth that it accounts for, bytes a second.
    pub growth: Estimate,
    /// Growth in blocks a second.
    pub blocks_per_s: f64,
    /// Estimate of what it allocated during the observation and is still alive.
    pub live_bytes: Bytes,
    /// See `live_bytes`.
    pub live_count: u64,
    /// Of the blocks that grew old, the share that is still alive.
    pub survival: f64,
    /// Why, in words.
    pub reasons: Vec<String>,
    /// What would have to be seen for it not to be accused, in words; None where it is not.
    pub cleared_if: Option<String>,
    /// Of one that is not accused for want of evidence alone, though what it allocated stays and its memory grows: what
    /// is wanting, in words.
    pub lacks: Option<String>,
    /// The user's own line that leads to it.
    pub own_line: Option<LineId>,
}

impl Finding {
    /// So many bytes and blocks a second are its own as well: what lives of it is more by the same part.
    fn add(&mut self, bytes_per_s: f64, blocks_per_s: f64) {
        let more = |have: u64, by: f64, to: f64| {
            if to > 0.0 { (have as f64 * (1.0 + by / to)) as u64 } else { have }
        };
        self.live_bytes = Bytes(more(self.live_bytes.0, bytes_per_s, self.growth.value));
        self.live_count = more(self.live_count, blocks_per_s, self.blocks_per_s);
        self.growth.value += bytes_per_s;
        self.growth.high += bytes_per_s;
        self.blocks_per_s += blocks_per_s;
    }
}

/// A number and its 95 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// The best guess.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How a site's live bytes move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trend {
    /// Grows fast.
    Steep,
    /// Grows slowly.
    Slow,
    /// Grew, stopped, went on and stopped again: whether it goes on cannot be told.
    Paused,
    /// Grew, and stopped.
    Saturated,
    /// Up and down.
    Sawtooth,
    /// Does not move.
    Flat,
}

impl Trend {
    /// As reports have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Steep => "steep",
            Self::Slow => "slow",
            Self::Paused => "paused",
            Self::Saturated => "saturated",
            Self::Sawtooth => "sawtooth",
            Self::Flat => "flat",
        }
    }
}
