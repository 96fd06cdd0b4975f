//! Does what a site allocates surely stay, and go on to?

use super::evidence::{Domain, End, SiteEvidence};
use super::stairs::Stairs;
use super::stats;
use super::survival::{self, Tail};
use super::words::{number, percent, plural, seconds};

/// Survivors must come from so many bursts: one or two lucky blocks accuse nobody, and a leak of
/// one in 5,000 allocations still shows three in twenty bursts nine times in ten.
const MIN_BIRTHS: usize = 3;

/// Share of the old that must live to the end. A leak's old blocks do not die; a little is left
/// for blocks that move (a list's body that is reallocated).
const MIN_SURVIVAL: f64 = 0.9;

/// Lower bound of that share. Three independent blocks that all stay reach 0.44, two 0.34.
const MIN_SURVIVAL_LOW: f64 = 0.4;

/// Where memory grows in steps, survivors must come from so many of them: what stays of one step may be a cache's.
const MIN_RISES: usize = 2;

/// Where a site that goes on would show its youngest survivor so early with less than this
/// probability, it has stopped: a cache that is full.
const STOPPED_P: f64 = 0.003;

/// So many of the blocks that die may be taken for alive, because their like took their place;
/// survivors that these explain with more than [`MISTAKEN_P`] prove nothing.
const MISTAKEN: f64 = 1.0 / 250.0;
/// The same of pymalloc's where none is found out later: in services that keep nothing, there was none among 44,000.
const SELDOM_MISTAKEN: f64 = 1.0 / 15_000.0;
/// See [`MISTAKEN`].
const MISTAKEN_P: f64 = 0.01;

/// A block that was taken for alive until it was so old and then was gone may have been a mistake for as long.
const FOUND_OUT_S: f64 = 1.0;

/// Where blocks that are old by the base age die, those of twice and four times that age are
/// asked: what lives for some seconds and then dies must not hide what stays behind.
const LATER_AGES: [f64; 2] = [2.0, 4.0];

/// What speaks against accusing a site.
#[derive(Debug, Clone, PartialEq)]
pub struct Objection {
    /// In words.
    pub words: String,
    /// What kind of reason it is.
    pub ground: Ground,
}

/// Why a site is not accused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// What is known speaks against it.
    Contrary,
    /// Too little is known: more of the kind would do.
    Lack,
    /// It is sure, but too small to be worth a name by itself.
    Small,
}

impl Objection {
    /// Too little is known.
    #[must_use]
    pub fn lack(words: String) -> Self {
        Self { words, ground: Ground::Lack }
    }

    /// What is known speaks against it.
    #[must_use]
    pub fn contrary(words: String) -> Self {
        Self { words, ground: Ground::Contrary }
    }
}

/// A site of which it is asked.
pub struct Asked<'a> {
    /// The site.
    pub site: &'a SiteEvidence,
    /// All bursts of its domain.
    pub bursts: &'a [f64],
    /// The steps of the memory that it allocates from, if that grows by steps.
    pub stairs: Option<&'a Stairs>,
    /// Length of the observation in seconds.
    pub duration_s: f64,
}

impl Asked<'_> {
    /// The tail that says most, and what speaks against it: at the base age, unless blocks of that
    /// age die and later ones stay.
    #[must_use]
    pub fn telling_tail(&self, base: Tail) -> (Tail, Option<Objection>) {
        if base.survival.value < MIN_SURVIVAL {
            for times in LATER_AGES {
                let age = base.age_s * times;
                if age > self.duration_s / 2.0 {
                    break;
                }
                let tail = survival::tail(self.site, age, self.duration_s);
                if self.objection(&tail).is_none() {
                    return (tail, None);
                }
            }
        }
        (base, self.objection(&base))
    }

    fn objection(&self, tail: &Tail) -> Option<Objection> {
        if tail.births < MIN_BIRTHS {
            return Some(Objection::lack(format!(
                "its old blocks that are still alive come from {} only; fewer than {MIN_BIRTHS} \
                 may be chance",
                plural(tail.births, "burst"),
            )));
        }
        if tail.survival.value < MIN_SURVIVAL {
            return Some(Objection::contrary(format!(
                "what it allocates does not stay: {} of the old live to the end",
                percent(tail.survival.value),
            )));
        }
        if tail.survival.low < MIN_SURVIVAL_LOW {
            return Some(Objection::lack(format!(
                "too few of its old blocks could be followed: it is sure for {} of them only that \
                 they stay",
                percent(tail.survival.low),
            )));
        }
        // Blocks of a burst may be mistaken together: then as many more at once, and as many fewer bursts.
        let mistaken = mistaken(self.site) * tail.births as f64 / tail.alive.max(1) as f64;
        if stats::poisson_tail(mistaken, tail.births) > MISTAKEN_P {
            return Some(Objection::contrary(format!(
                "{} of its blocks are gone; the {} that seem to have stayed may be their \
                 like in their places",
                number(gone(self.site) as f64),
                number(tail.alive as f64),
            )));
        }
        if self.stairs.is_some_and(|stairs| self.rises_with(stairs, tail) < MIN_RISES) {
            let words = "memory grew in steps, and what stayed of it is from one of them only: it may have stopped";
            return Some(Objection::contrary(words.to_owned()));
        }
        let bursts = self.bursts_until_the_pause();
        (survival::still_born(tail, bursts, self.duration_s) < STOPPED_P).then(|| {
            Objection::contrary(format!(
                "nothing new of it stayed after {} of {}: it has stopped",
                seconds(tail.last_birth_s),
                seconds(self.duration_s),
            ))
        })
    }

    /// What would have to be seen for a site that surely stays not to be accused: so many of its old blocks freed, or
    /// nothing new of it that stays for so long.
    #[must_use]
    pub fn cleared_if(&self, tail: &Tail) -> String {
        let alive = tail.alive as f64;
        let spare = alive * (1.0 - MIN_SURVIVAL / tail.survival.value.max(MIN_SURVIVAL));
        // Fewer are enough where they are the oldest.
        let freed = (spare.floor() as usize + 1).min(tail.alive);
        let mut words = format!(
            "{} of these {} blocks were freed, or their memory stood still",
            number(freed as f64),
            number(alive),
        );
        if let Some(quiet_s) = self.quiet_s(tail) {
            words += &format!(", or nothing new of it stayed for another {}", seconds(quiet_s));
        }
        words
    }

    /// For so long bursts as frequent as before must find nothing new that stays before it is taken for full: see
    /// [`survival::still_born`].
    fn quiet_s(&self, tail: &Tail) -> Option<f64> {
        let every_s = self.duration_s / self.bursts.len() as f64;
        if self.stairs.is_some() || !every_s.is_finite() {
            return None;
        }
        let could_grow_old = self.bursts.partition_point(|at| at + tail.age_s <= self.duration_s);
        let until_last = self.bursts.partition_point(|at| *at <= tail.last_birth_s);
        let evidence = tail.independent.max(tail.births as f64);
        let needed = until_last as f64 * STOPPED_P.powf(-1.0 / evidence);
        Some((needed - could_grow_old as f64).ceil().max(1.0) * every_s)
    }

    /// In how many steps blocks of the tail that stayed were born.
    fn rises_with(&self, stairs: &Stairs, tail: &Tail) -> usize {
        stairs.rises_with(survival::births(self.site, tail))
    }

    /// In the pause after the last step nothing could have stayed.
    fn bursts_until_the_pause(&self) -> &[f64] {
        let Some(stairs) = self.stairs else { return self.bursts };
        let end = self.bursts.partition_point(|start| *start <= stairs.until_s);
        self.bursts.get(..end).unwrap_or(self.bursts)
    }
}

/// How many of its blocks may be taken for alive by mistake.
fn mistaken(site: &SiteEvidence) -> f64 {
    let found_out = survival::followed(site)
        .filter(|block| block.fate.end != End::Alive && block.age_s >= FOUND_OUT_S);
    let gone = gone(site) as f64;
    if site.domain != Domain::Pymalloc {
        return MISTAKEN * gone;
    }
    (found_out.count() as f64).clamp(SELDOM_MISTAKEN * gone, MISTAKEN * gone)
}

/// Blocks that died or were lost sight of.
fn gone(site: &SiteEvidence) -> usize {
    let followed = survival::followed(site).filter(|block| block.fate.end != End::Alive);
    followed.count() + usize::try_from(site.ended).unwrap_or(usize::MAX)
}
