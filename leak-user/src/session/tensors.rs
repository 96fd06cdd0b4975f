//! Watching torch's tensors for no more than they may cost.
//!
//! torch's allocator reports every block that it hands out and takes back: some hundred a second in a server, 50,000
//! in a training loop of small layers. Where following them all costs more than allowed, they are followed in windows.
//! A block whose end falls between two windows is taken for alive until its address is handed out again, which in a
//! loop it soon is.

use super::{Session, SessionError};
use crate::{
    gpu::{calls::Library, libraries},
    probe::{error::ProbeError, gpu::GpuProbes},
    units::Nanos,
};

/// They may take this part of the allowed share; the rest is for bursts.
const PART: f64 = 0.5;

/// How long a window lasts …
const WINDOW: Nanos = Nanos(250_000_000);

/// … unless it has cost so much before: many short ones tell growth sooner than few long ones.
const WINDOW_COST: Nanos = Nanos(4_000_000);

/// Where they are watched in windows, their cost is looked at so often.
const LOOK_EVERY: Nanos = Nanos(10_000_000);

/// The hook of torch's allocator.
pub(super) struct Tensors {
    probes: GpuProbes,
    state: State,
    /// For how long they have been watched.
    watched: Nanos,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Since then, when so much had been spent.
    Watched { since: Nanos, spent: Nanos },
    /// Until then.
    Resting { until: Nanos },
}

impl Tensors {
    /// Their hook, attached by `probes`.
    pub(super) fn new(probes: GpuProbes, now: Nanos) -> Self {
        let state = State::Watched { since: now, spent: Nanos(0) };
        Self { probes, state, watched: Nanos(0) }
    }

    /// Are they watched now?
    pub(super) fn are_watched(&self) -> bool {
        matches!(self.state, State::Watched { .. })
    }

    /// The share of an observation of this length in which they were watched; all of it until the first rest.
    pub(super) fn watched_share(&self, now: Nanos, start: Nanos) -> f64 {
        let current = match self.state {
            State::Watched { since, .. } => now.0.saturating_sub(since.0),
            State::Resting { .. } => 0,
        };
        let watched = Nanos(self.watched.0 + current).seconds();
        (watched / Nanos(now.0.saturating_sub(start.0)).seconds().max(1e-9)).min(1.0)
    }
}

/// How long to rest after a window, that none may cost more than `allowed` of the time; None: not at all.
fn rest(window: Nanos, spent: Nanos, allowed: f64) -> Option<Nanos> {
    let costs = spent.seconds() / window.seconds();
    (costs > allowed).then(|| Nanos((window.0 as f64 * (costs / allowed - 1.0)) as u64))
}

impl Session {
    /// Attaches the hook where torch's core lies by now.
    fn attach_tensors(&mut self) -> Result<(), ProbeError> {
        let Some(tensors) = &mut self.gpu.tensors else { return Ok(()) };
        let loads = libraries::loaded(self.modules.files()).into_iter();
        let core = loads.into_iter().find(|loads| loads.library == Library::Torch);
        let calls = core.map(|core| core.calls()).unwrap_or_default();
        if calls.is_empty() {
            return Err(ProbeError::Missing("torch's library".to_owned()));
        }
        let (object, tables, pid) = (&mut self.object, &mut self.gpu.tables, self.target.pid);
        tensors.probes.attach(object, tables, pid, &calls, true)
    }

    /// When tensors are to be looked at again.
    pub(super) fn tensors_wait(&self) -> Nanos {
        let watched = self.gpu.tensors.as_ref().is_some_and(Tensors::are_watched);
        if watched && self.ledger.devices.in_windows { LOOK_EVERY } else { Nanos(u64::MAX) }
    }

    /// Begins a window or ends one, if it is time; `spent`: what watching tensors has cost so far.
    pub(super) fn watch_tensors(&mut self, time: Nanos, spent: Nanos) -> Result<(), SessionError> {
        let Some(state) = self.gpu.tensors.as_ref().map(|tensors| tensors.state) else {
            return Ok(());
        };
        match state {
            State::Watched { since, spent: before } => {
                let window = Nanos(time.0.saturating_sub(since.0));
                let spent_in_it = Nanos(spent.0.saturating_sub(before.0));
                if window < WINDOW && spent_in_it < WINDOW_COST {
                    return Ok(());
                }
                let rest = rest(window, spent_in_it, PART * self.options.overhead);
                if rest.is_some() {
                    self.ledger.devices.in_windows = true;
                    self.look_at_gpus(time)?;
                }
                let Some(tensors) = &mut self.gpu.tensors else { return Ok(()) };
                tensors.watched.0 += window.0;
                tensors.state = match rest {
                    None => State::Watched { since: time, spent },
                    Some(rest) => {
                        tensors.probes.detach();
                        tracing::debug!(
                            window_ms = window.seconds() * 1e3,
                            spent_ms = spent_in_it.seconds() * 1e3,
                            rest_ms = rest.seconds() * 1e3,
                            "tensors rest"
                        );
                        State::Resting { until: Nanos(time.0.saturating_add(rest.0)) }
                    }
                };
            }
            State::Resting { until } if time >= until => {
                if let Err(error) = self.attach_tensors() {
                    self.gpu.tensors = None;
                    self.gpu.unseen.push(format!(
                        "torch's tensors from {:.1} s on: {error}",
                        self.ledger.seconds(time)
                    ));
                } else if let Some(tensors) = &mut self.gpu.tensors {
                    tensors.state = State::Watched { since: time, spent };
                }
            }
            State::Resting { .. } => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_little_is_watched_all_the_time() {
        let window = Nanos(250_000_000);
        assert_eq!(rest(window, Nanos(0), 0.005), None);
        assert_eq!(rest(window, Nanos(1_250_000), 0.005), None);
    }

    #[test]
    fn what_costs_ten_times_as_much_rests_nine_times_as_long() {
        let window = Nanos(250_000_000);
        let rest = rest(window, Nanos(12_500_000), 0.005).unwrap();
        assert!((rest.seconds() - 2.25).abs() < 1e-6, "{rest:?}");
    }
}
