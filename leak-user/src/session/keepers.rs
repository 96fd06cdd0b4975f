//! Who keeps alive what the accused lines have allocated: read from the heap when the observation is over.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Session;
use crate::{
    heap::{
        report::HeapError,
        retention::{Case, Kept, Survivor, kept_by},
        surroundings::Surroundings,
    },
    verdict::{Judgement, evidence::SiteId},
};

/// Lines that are looked into, the worst first.
const MOST_LINES: usize = 32;

/// Survivors of a line that are.
const MOST_SURVIVORS: usize = 16;

/// How long the search may go on. A heap of ten million objects takes a second a pass, some passes a step.
const PATIENCE: Duration = Duration::from_secs(10);

impl Session {
    /// The chains by line, of those that were found; and what was not seen, if the search did not come to its end.
    pub(super) fn keepers(&self, judgement: &Judgement) -> (HashMap<SiteId, Kept>, Option<String>) {
        let lines = judgement.accused.iter().chain(&judgement.small);
        let sites: Vec<SiteId> = lines.take(MOST_LINES).map(|finding| finding.site).collect();
        let lines = self.ledger.living(&sites, MOST_SURVIVORS);
        if self.target_ended || lines.iter().all(Vec::is_empty) {
            return (HashMap::new(), None);
        }
        let what = "who keeps alive what the accused lines allocated";
        match self.search_keepers(&lines) {
            Ok((found, complete)) => {
                let unseen = format!(
                    "{what}, of all of them: the search ended early, after {} s or for want of room (leaktrace heap \
                     --why TYPE takes its time)",
                    PATIENCE.as_secs()
                );
                (sites.into_iter().zip(found).collect(), (!complete).then_some(unseen))
            }
            Err(error) => (HashMap::new(), Some(format!("{what}: {error}"))),
        }
    }

    fn search_keepers(&self, lines: &[Vec<Survivor>]) -> Result<(Vec<Kept>, bool), HeapError> {
        let (pid, memory) = (self.target.pid, &self.target.memory);
        // Without an interpreter there are no objects.
        let Ok(python) = &self.target.python else { return Ok((Vec::new(), true)) };
        let around = Surroundings::of(pid, memory, python)?;
        let case = Case {
            memory,
            heap: around.heap(python),
            roots: &around.roots(pid, memory, python)?,
            code_type: python.code_type,
            until: Some(Instant::now() + PATIENCE),
            frozen: false,
        };
        Ok(kept_by(&case, lines)?)
    }
}
