//! What would be said by now: the line that looks worst, and since when each line would be accused.

use std::collections::HashMap;

use super::{Session, SessionError};
use crate::{
    clock::thread_time,
    snapshot::suspect::Suspect,
    symbolize::stacks::line_of,
    units::Nanos,
    verdict::{
        self, Finding, MIN_DURATION_S, Verdict,
        evidence::{End, Evidence, SiteId},
    },
};

/// It is judged anew each time that the observation has become longer by this part of what it was …
const LONGER: f64 = 0.1;

/// … but so rarely that it takes at most one part in so many of a core.
const CORE_SHARE: u64 = 400;

/// The judgements on the way.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// When the next is due, in seconds since the start.
    due_s: f64,
    worst: Option<Suspect>,
    since: HashMap<SiteId, f64>,
}

impl Suspicion {
    /// Since when the site has been accused without a break, if it was on the way.
    pub(super) fn since(&self, site: SiteId) -> Option<f64> {
        self.since.get(&site).copied()
    }

    fn note(&mut self, now_s: f64, accused: impl Iterator<Item = SiteId>) {
        let before = std::mem::take(&mut self.since);
        self.since = accused.map(|id| (id, before.get(&id).copied().unwrap_or(now_s))).collect();
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
        let accused = verdict::judge(&evidence).accused;
        let took = Nanos((thread_time().0 - begun.0).saturating_mul(CORE_SHARE));
        self.suspicion.due_s = now_s + (now_s * LONGER).max(took.seconds());
        self.suspicion.note(now_s, accused.iter().map(|finding| finding.site));
        self.suspicion.worst = accused.first().and_then(|worst| self.described(worst, &evidence));
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

    #[test]
    fn an_accusation_that_was_dropped_begins_anew() {
        let mut suspicion = Suspicion::default();
        let (one, other) = (SiteId(1), SiteId(2));
        suspicion.note(4.0, [one, other].into_iter());
        suspicion.note(5.0, [one].into_iter());
        suspicion.note(6.0, [one, other].into_iter());
        assert_eq!((suspicion.since(one), suspicion.since(other)), (Some(4.0), Some(6.0)));
        suspicion.note(7.0, [].into_iter());
        assert_eq!(suspicion.since(one), None);
    }
}
