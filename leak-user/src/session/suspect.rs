//! What would be said by now: the line that looks worst, and since when each line would be accused.

use std::collections::HashMap;

use super::{Session, SessionError};
use crate::{
    clock::thread_time,
    snapshot::suspect::Suspect,
    symbolize::stacks::line_of,
    units::Nanos,
    verdict::{
        self, Finding, Judgement, MIN_DURATION_S, Verdict,
        evidence::{End, Evidence, SiteId},
    },
};

/// It is judged anew each time that the observation has become longer by this part of what it was …
const LONGER: f64 = 0.1;

/// … but so rarely that it takes at most one part in so many of a core.
const CORE_SHARE: u64 = 400;

/// An answer is settled when it has been the same for so many seconds, and for this part of the observation …
const SETTLED_S: f64 = 10.0;
/// See [`SETTLED_S`].
const SETTLED_PART: f64 = 0.5;

/// … but not before so many seconds: what fills in the meantime is no leak.
const SETTLED_FROM_S: f64 = 20.0;

/// The judgements on the way.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// When the next is due, in seconds since the start.
    due_s: f64,
    worst: Option<Suspect>,
    since: HashMap<SiteId, f64>,
    /// Since when the same sites have been accused, and explain the growth.
    settled_since: Option<f64>,
}

impl Suspicion {
    /// Since when the site has been accused without a break, if it was on the way.
    pub(super) fn since(&self, site: SiteId) -> Option<f64> {
        self.since.get(&site).copied()
    }

    fn note(&mut self, now_s: f64, judgement: &Judgement) {
        let before = std::mem::take(&mut self.since);
        let accused = judgement.accused.iter().map(|finding| finding.site);
        self.since = accused.map(|id| (id, before.get(&id).copied().unwrap_or(now_s))).collect();
        let whole = judgement.verdict == Verdict::Leak && judgement.remainder().is_none();
        let same =
            before.len() == self.since.len() && before.keys().all(|id| self.since.contains_key(id));
        self.settled_since = whole.then(|| self.settled_since.filter(|_| same).unwrap_or(now_s));
    }

    /// Would more time hardly change the answer?
    pub(super) fn is_settled(&self, now_s: f64) -> bool {
        let long = SETTLED_S.max(SETTLED_PART * now_s);
        now_s >= SETTLED_FROM_S && self.settled_since.is_some_and(|since| now_s - since >= long)
    }
}

impl Session {
    /// The worst of the lines that would be accused by now.
    #[must_use]
    pub fn suspect(&self) -> Option<Suspect> {
        self.suspicion.worst.clone()
    }

    /// Judges what there is so far, if it is time.
    pub(super) fn judge_so_far(&mut self, time: Nanos) {
        let now_s = self.ledger.seconds(time);
        if now_s < self.suspicion.due_s.max(MIN_DURATION_S) {
            return;
        }
        let begun = thread_time();
        // Where it fails it is tried again.
        let Ok(evidence) = self.evidence(time) else { return };
        let judgement = verdict::judge(&evidence);
        let took = Nanos((thread_time().0 - begun.0).saturating_mul(CORE_SHARE));
        self.suspicion.due_s = now_s + (now_s * LONGER).max(took.seconds());
        self.suspicion.note(now_s, &judgement);
        let worst = judgement.accused.first();
        self.suspicion.worst = worst.and_then(|worst| self.described(worst, &evidence));
    }

    /// Can anything be said by now?
    pub(super) fn is_sure(&self, time: Nanos) -> Result<bool, SessionError> {
        Ok(verdict::judge(&self.evidence(time)?).verdict != Verdict::Inconclusive)
    }

    fn described(&self, worst: &Finding, evidence: &Evidence) -> Option<Suspect> {
        let frames = self.frames(worst.site)?;
        let leaf = line_of(&frames)?;
        let site = evidence.sites.iter().find(|site| site.id == worst.site)?;
        let alive = site.followed.iter().filter(|fate| fate.end == End::Alive).count();
        Some(Suspect {
            file: leaf.file.to_string(),
            line: leaf.line,
            function: leaf.function.to_string(),
            alive: alive as u64,
            followed: site.followed.len() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;
    use crate::verdict::evidence::Domain;
    use crate::verdict::{Estimate, Trend};

    fn judgement(sites: &[u32], unexplained: f64) -> Judgement {
        let evidence = Evidence { duration_s: 1.0, ..Evidence::default() };
        let accused = sites.iter().map(|site| Finding { site: SiteId(*site), ..finding() });
        Judgement {
            verdict: if sites.is_empty() { Verdict::NoLeak } else { Verdict::Leak },
            accused: accused.collect(),
            counted_growth: 1.0,
            unexplained,
            ..verdict::judge(&evidence)
        }
    }

    fn finding() -> Finding {
        Finding {
            site: SiteId(0),
            domain: Domain::Pymalloc,
            confidence: 0.9,
            trend: Trend::Steep,
            growth: Estimate::default(),
            blocks_per_s: 0.0,
            live_bytes: Bytes(0),
            live_count: 0,
            survival: 1.0,
            reasons: Vec::new(),
            cleared_if: None,
            lacks: None,
            own_line: None,
        }
    }

    #[test]
    fn an_accusation_that_was_dropped_begins_anew() {
        let mut suspicion = Suspicion::default();
        let (one, other) = (SiteId(1), SiteId(2));
        suspicion.note(4.0, &judgement(&[1, 2], 0.0));
        suspicion.note(5.0, &judgement(&[1], 0.0));
        suspicion.note(6.0, &judgement(&[1, 2], 0.0));
        assert_eq!((suspicion.since(one), suspicion.since(other)), (Some(4.0), Some(6.0)));
        suspicion.note(7.0, &judgement(&[], 0.0));
        assert_eq!(suspicion.since(one), None);
    }

    #[test]
    fn an_answer_that_stays_the_same_is_settled() {
        let mut suspicion = Suspicion::default();
        suspicion.note(5.0, &judgement(&[1], 0.0));
        suspicion.note(9.0, &judgement(&[1, 2], 0.0));
        assert!(!suspicion.is_settled(18.9));
        suspicion.note(19.5, &judgement(&[1, 2], 0.0));
        assert!(!suspicion.is_settled(19.5) && suspicion.is_settled(20.0));
        // One more line, or growth that nobody explains any more.
        let mut other =
            Suspicion { settled_since: suspicion.settled_since, ..Suspicion::default() };
        other.note(21.0, &judgement(&[1, 2], 0.5));
        assert!(!other.is_settled(60.0));
        suspicion.note(21.0, &judgement(&[1, 2, 3], 0.0));
        assert!(!suspicion.is_settled(31.0) && suspicion.is_settled(42.0));
        assert!(!Suspicion::default().is_settled(60.0));
    }
}
