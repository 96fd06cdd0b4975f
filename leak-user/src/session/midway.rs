//! What changes in the target while it is observed, and makes the plan anew.

use super::{Session, SessionError};
use crate::{
    probe::{
        budget::Kind,
        plan::{self, Returns},
    },
    target::{self, files::Files, malloc, process},
};

/// What has changed since the beginning.
#[derive(Debug, Default)]
pub(super) struct Midway {
    /// In sentences.
    unseen: Vec<String>,
}

impl Session {
    /// Python's allocator tables may hold other functions by now: tracemalloc was started, an extension has
    /// put itself in. They are found anew, and probed from the next burst on.
    pub(super) fn check_allocators(&mut self) -> Result<(), SessionError> {
        let Ok(python) = &self.target.python else { return Ok(()) };
        let before = &python.allocators;
        if !before.have_changed(&self.target.memory) {
            return Ok(());
        }
        // Half written, or the target has ended: looked at again next time.
        let Ok(target::Target { python: Ok(now), .. }) = target::discover(self.target.pid) else {
            return Ok(());
        };
        let after = now.allocators;
        tracing::debug!(before = ?before.hooks, after = ?after.hooks, "allocators changed");
        let same = before.object == after.object && before.memory == after.memory;
        if !same {
            self.midway.unseen.push(
                "what Python allocated before its allocators were replaced, midway".to_owned(),
            );
            if now.pymalloc.is_some() != python.pymalloc.is_some() {
                // The programs were loaded for what was there.
                self.midway.unseen.push(
                    "small Python objects since then: trace the process again to see them"
                        .to_owned(),
                );
            }
        }
        if let Ok(python) = &mut self.target.python {
            python.allocators = after;
        }
        if !same && !self.options.exact {
            self.plan_anew()?;
        }
        Ok(())
    }

    /// A seccomp filter may have been set since the last burst: no return probe may be placed then, on
    /// kernels where it could make the filter kill the target.
    pub(super) fn check_filter(&mut self, kind: Kind) -> Result<(), SessionError> {
        let matters = kind == Kind::Malloc && self.returns == Returns::Probes;
        if matters && Returns::harmless(self.target.pid) == Returns::Instructions {
            self.returns = Returns::Instructions;
            self.plan_anew()?;
        }
        Ok(())
    }

    fn plan_anew(&mut self) -> Result<(), SessionError> {
        self.plan = plan::plan(&self.target, self.returns)?;
        Ok(())
    }

    /// What was not seen for what has changed, and for what the target has loaded by the end.
    pub(super) fn unseen_midway(&self) -> Vec<String> {
        let mut unseen = self.midway.unseen.clone();
        // The target has ended: what it had loaded is not known any more.
        let mappings = process::mappings(self.target.pid).unwrap_or_default();
        let files = Files::new(self.target.pid, mappings);
        unseen.extend(malloc::others(&files, self.target.heap.as_ref()).map(|path| {
            format!("what {path} hands out: it has a malloc of its own beside the process's")
        }));
        unseen
    }
}
