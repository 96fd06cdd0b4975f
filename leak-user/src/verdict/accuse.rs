//! Is it this site? A site is accused if what it allocates stays, goes on to come, and makes up a
//! material part of a growth that was counted. Everything that speaks against it is an objection.

use std::collections::BTreeMap;

use super::evidence::{Domain, End, Evidence, SiteEvidence};
use super::pace;
use super::recycled;
use super::share::{self, Pot, Share};
use super::stairs::Stairs;
use super::stays::{Asked, Ground, Objection};
use super::survival::{self, Tail};
use super::words::{bytes, number, percent, plural, rate, seconds};
use super::{Estimate, Finding, Trend};
use crate::units::Bytes;

/// Smallest part of the whole growth that is worth a name …
const MIN_SHARE: f64 = 0.05;

/// … unless it is this fast by itself: 225 MB an hour.
const FAST: f64 = 65_536.0;

/// Of the staying blocks, so many may lie in classes that do not grow with them.
const MAX_OUT_OF_STEP: f64 = 0.5;

/// A site that is not accused has at most this confidence.
pub(super) const UNACCUSED_CONFIDENCE: f64 = 0.3;

/// A site examined.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is known of it.
    pub finding: Finding,
    /// Its parts in the pots.
    pub shares: Vec<Share>,
    /// What speaks against accusing it; empty: it is accused.
    pub objections: Vec<Objection>,
    /// See [`SiteEvidence::recycled`].
    pub recycled: f64,
    /// What became of its old blocks.
    pub tail: Tail,
}

impl Case {
    /// Sets it free after all.
    pub fn acquit(&mut self, words: String) {
        self.finding.confidence = self.finding.confidence.min(UNACCUSED_CONFIDENCE);
        self.finding.reasons.push(words.clone());
        (self.finding.cleared_if, self.finding.lacks) = (None, None);
        self.objections.push(Objection::contrary(words));
    }

    /// Would it be accused if it grew by more?
    #[must_use]
    pub fn is_small(&self) -> bool {
        matches!(&*self.objections, [Objection { ground: Ground::Small, .. }])
    }

    /// Would it be, and does it grow by so much, of what is no weak evidence?
    #[must_use]
    pub fn is_part(&self, least: f64) -> bool {
        self.is_small() && self.recycled < recycled::WEAK && self.finding.growth.value >= least
    }

    /// Is it accused?
    #[must_use]
    pub fn is_accused(&self) -> bool {
        self.objections.is_empty()
    }
}

/// What all sites are judged by.
pub struct Court<'a> {
    /// The observation.
    pub evidence: &'a Evidence,
    /// Its length in seconds.
    pub duration_s: f64,
    /// What was counted.
    pub pots: &'a [Pot],
    /// Growth of all growing pots, bytes a second.
    pub total_growth: f64,
    /// From how many bytes a second growth is steep.
    pub steep_from: f64,
    /// How much of what happened was seen, 0 to 1.
    pub seen: f64,
}

impl Court<'_> {
    /// Examines every one of these sites, in their order. They are all that allocate.
    #[must_use]
    pub fn cases(&self, sites: &[SiteEvidence]) -> Vec<Case> {
        let base = survival::old_age(self.duration_s);
        let tails: Vec<Tail> =
            sites.iter().map(|site| survival::tail(site, base, self.duration_s)).collect();
        let shares = share::shares(sites, &tails, self.pots);
        let bursts: BTreeMap<Domain, Vec<f64>> = Domain::ALL
            .into_iter()
            .map(|domain| (domain, survival::bursts_of(self.evidence, domain)))
            .collect();
        sites
            .iter()
            .zip(tails)
            .zip(shares)
            .map(|((site, tail), shares)| {
                let bursts = bursts.get(&site.domain).map_or(&[][..], Vec::as_slice);
                self.examine(site, tail, shares, bursts)
            })
            .collect()
    }

    fn examine(&self, site: &SiteEvidence, base: Tail, shares: Vec<Share>, bursts: &[f64]) -> Case {
        let stairs = self.stairs(&shares);
        let asked = Asked { site, bursts, stairs, duration_s: self.duration_s };
        let (tail, leaves) = asked.telling_tail(base);
        let growth = share::sum(shares.iter().map(|share| share.growth));
        let stays = leaves.is_none();
        let objections: Vec<Objection> = leaves
            .into_iter()
            .chain(self.growth_objection(site.domain, &growth, &shares))
            .collect();
        let rising = self.probability_rising(&shares);
        let mut confidence = confidence(tail.survival.low, tail.births, rising, self.seen);
        if objections.iter().any(|objection| objection.ground != Ground::Small) {
            confidence = confidence.min(UNACCUSED_CONFIDENCE);
        }
        let (live_bytes, live_count) = self.live(site, &shares);
        let mut reasons = self.reasons(&tail, &growth, &shares);
        reasons.extend(objections.iter().map(|objection| objection.words.clone()));
        let finding = Finding {
            site: site.id,
            domain: site.domain,
            confidence,
            trend: self.trend(&growth, &shares, stays),
            growth,
            blocks_per_s: shares.iter().fold(0.0, |sum, share| sum + self.blocks_per_s(share)),
            live_bytes: Bytes(live_bytes as u64),
            live_count: live_count as u64,
            survival: tail.survival.value,
            lacks: lacks(&objections, &tail, &growth),
            cleared_if: objections.is_empty().then(|| asked.cleared_if(&tail)),
            reasons,
            own_line: site.lines.own,
        };
        Case { finding, shares, objections, recycled: site.recycled, tail }
    }

    /// The steps of the memory that most of the site's growth is in, if it comes by steps.
    fn stairs(&self, shares: &[Share]) -> Option<&Stairs> {
        let main = shares.iter().max_by(|a, b| a.growth.value.total_cmp(&b.growth.value))?;
        self.pots.get(main.pot).filter(|pot| pot.grows)?.course.stairs.as_ref()
    }

    fn growth_objection(
        &self,
        domain: Domain,
        growth: &Estimate,
        shares: &[Share],
    ) -> Option<Objection> {
        if growth.value <= 0.0 {
            let counted = self.pots.iter().any(|pot| pot.domain == domain);
            let paused = |share: &Share| self.pots.get(share.pot).is_some_and(|pot| pot.paused);
            let why = if domain == Domain::Pymalloc && !counted {
                "the memory that it allocates from was counted too rarely to tell whether it grows"
            } else if shares.iter().any(paused) {
                "the memory that it allocates from grew in steps, too few to tell whether it goes on"
            } else {
                "the memory that it allocates from does not grow"
            };
            return Some(Objection::contrary(why.to_owned()));
        }
        let out_of_step = pace::out_of_step(shares, self.pots);
        if out_of_step > MAX_OUT_OF_STEP {
            return Some(Objection::contrary(format!(
                "{} of its staying blocks are of sizes that do not grow with it: they take the \
                 place of others",
                percent(out_of_step),
            )));
        }
        let part = growth.value / self.total_growth;
        (part < MIN_SHARE && growth.value < FAST).then(|| Objection {
            words: format!("it makes up {} of the growth", percent(part)),
            ground: Ground::Small,
        })
    }

    /// The pots that it takes part in, by its share of their growth.
    fn probability_rising(&self, shares: &[Share]) -> f64 {
        let total: f64 = shares.iter().map(|share| share.growth.value).sum();
        if total <= 0.0 {
            return 0.0;
        }
        let weighted = shares.iter().filter_map(|share| {
            let pot = self.pots.get(share.pot)?;
            Some(share.growth.value / total * pot.course.slope.probability_rising())
        });
        weighted.sum()
    }

    fn blocks_per_s(&self, share: &Share) -> f64 {
        let fixed = self.pots.get(share.pot).and_then(Pot::block_bytes);
        share.growth.value / fixed.unwrap_or(share.mean_size).max(1.0)
    }

    /// Bytes and blocks that it allocated and that live: by the counted growth where there is
    /// any, else what was seen of them, which is the least.
    fn live(&self, site: &SiteEvidence, shares: &[Share]) -> (f64, f64) {
        let (mut live_bytes, mut live_count) = (0.0, 0.0);
        for share in shares {
            let Some(pot) = self.pots.get(share.pot) else { continue };
            // A leak that began midway has leaked since then only.
            let began_s = pot.course.began_s;
            let late = began_s > self.duration_s / 3.0;
            let span = if late { self.duration_s - began_s } else { self.duration_s };
            live_bytes += share.growth.value * span;
            live_count += self.blocks_per_s(share) * span;
        }
        let alive = survival::followed(site)
            .filter(|block| block.fate.end == End::Alive)
            .map(|block| (block.fate.weight * block.fate.size.0 as f64, block.fate.weight));
        let (seen_bytes, seen_count) =
            alive.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        if live_bytes > 0.0 { (live_bytes, live_count) } else { (seen_bytes, seen_count) }
    }

    fn trend(&self, growth: &Estimate, shares: &[Share], stays: bool) -> Trend {
        if growth.value > 0.0 && stays {
            return if growth.value >= self.steep_from { Trend::Steep } else { Trend::Slow };
        }
        let main = shares.iter().max_by(|a, b| a.staying.total_cmp(&b.staying));
        match main.and_then(|share| self.pots.get(share.pot)).map(|pot| pot.course.trend) {
            Some(trend @ (Trend::Paused | Trend::Saturated | Trend::Sawtooth)) => trend,
            _ => Trend::Flat,
        }
    }

    fn reasons(&self, tail: &Tail, growth: &Estimate, shares: &[Share]) -> Vec<String> {
        let mut reasons = Vec::new();
        if tail.old > 0 {
            let lost = if tail.unknown > 0 {
                format!(" ({} could not be followed to the end)", number(tail.unknown as f64))
            } else {
                String::new()
            };
            reasons.push(format!(
                "{} of {} blocks older than {} are still alive, from {}{lost}",
                number(tail.alive as f64),
                number(tail.old as f64),
                seconds(tail.age_s),
                plural(tail.births, "burst"),
            ));
        }
        for share in shares.iter().filter(|share| share.growth.value > 0.0) {
            let Some(pot) = self.pots.get(share.pot) else { continue };
            let whole = match pot.block_bytes() {
                Some(block) => {
                    let blocks = |v: f64| v / block;
                    let growth = pot.growth();
                    let blocks = Estimate {
                        value: blocks(growth.value),
                        low: blocks(growth.low),
                        high: blocks(growth.high),
                    };
                    format!("live blocks of {block} bytes grow by {}", rate(blocks, number))
                }
                None => format!("its memory grows by {}", rate(pot.growth(), bytes)),
            };
            reasons.push(format!(
                "{whole}, and {} of what stays there is its own",
                percent(share.fraction.value)
            ));
        }
        if growth.value > 0.0 && tail.births > 0 {
            reasons.push(format!(
                "the youngest of its old survivors was born at {} of {}",
                seconds(tail.last_birth_s),
                seconds(self.duration_s),
            ));
        }
        reasons
    }
}

/// See [`Finding::lacks`].
fn lacks(objections: &[Objection], tail: &Tail, growth: &Estimate) -> Option<String> {
    let first = objections.first()?;
    let all = objections.iter().all(|objection| objection.ground == Ground::Lack);
    (all && tail.alive > 0 && growth.value > 0.0).then(|| first.words.clone())
}

/// How sure a leak is:
/// `√(lower bound of survival) · (1 − 2^(1 − births)) · P(growth > 0) · √seen`.
///
/// Each factor lies in 0..=1 and the product rises with each of them. The roots are for bounds
/// that are pessimistic already; every further independent birth halves the doubt that the
/// survivors were chance.
#[must_use]
pub fn confidence(survival_low: f64, births: usize, rising: f64, seen: f64) -> f64 {
    let births = 1.0 - (1.0 - births.min(64) as f64).min(0.0).exp2();
    let unit = |v: f64| if v.is_nan() { 0.0 } else { v.clamp(0.0, 1.0) };
    unit(survival_low).sqrt() * births * unit(rising) * unit(seen).sqrt()
}

#[cfg(test)]
#[path = "accuse_tests.rs"]
mod tests;
