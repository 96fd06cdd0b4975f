//! `--children`: a process with all that descend from it, each Python among them observed by a session of
//! its own.
//!
//! The kernel keeps the tree ([`crate::probe::tree`]), so that no birth is missed. This is the supervisor: it
//! reads what became of whom, chooses whom to observe, and gathers the reports.

mod members;
mod reports;
mod worker;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    clock::now,
    probe::{calibrate::Calibration, error::ProbeError, tracefs, tree::TreeProbe},
    session::{Options, SessionError, Status},
    snapshot::{Snapshot, suspect::Suspect},
    target::{
        self, Target,
        kernel::{self, KernelError},
        process,
    },
    units::{Bytes, Nanos, Pid},
};
use members::{Cause, Members, Outcome};
use reports::{Kept, Reports};
use worker::{Done, Job, Said};

/// Processes observed side by side. Each session's programs see the end of every system call of the machine,
/// and hold some memory of the kernel's.
const SIDE_BY_SIDE: usize = 12;

/// Sessions that are being opened at a time: each keeps a core busy meanwhile.
const OPENING: usize = 2;

/// Sessions that may be opened one right after the other …
const STARTS: f64 = 24.0;

/// … and then so many a second: each takes leaktrace a part of a second's work.
const STARTS_PER_S: f64 = 0.5;

/// With less time left than this, an observation is not begun: nothing could be said.
const LEAST: Nanos = Nanos(3_000_000_000);

/// Processes that waited to the end and are looked at then, some 10 ms each.
const MOST_CLASSIFIED: usize = 64;

/// The supervisor comes by so often.
const ROUND: Nanos = Nanos(50_000_000);

/// … and tells how it goes so often.
const TELL_EVERY: Nanos = Nanos(250_000_000);

/// May a line of this file be accused or listed?
pub type Allows = dyn Fn(&str) -> bool + Send + Sync;

/// What the user asked for.
pub struct TreeOptions {
    /// For each session; `duration` is the whole observation's, and `patience` how much longer those may go on that can
    /// say nothing yet, as long as no other has found a leak.
    pub session: Options,
    /// Lines that may be accused or listed.
    pub allows: Arc<Allows>,
    /// Sites with fewer live bytes are left out.
    pub min_size: Bytes,
}

/// Why a tree can't be observed.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The kernel's type information can't be read.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Programs.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The process itself can't be observed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The kernel tells of births by the initial namespace's ids, which mean nothing here.
    #[error("process {0}'s children can't be followed from within a pid namespace")]
    PidNamespace(Pid),
    /// No thread can be made.
    #[error("no thread can be started")]
    Thread(#[source] std::io::Error),
}

/// What is told while observing.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeStatus {
    /// Processes that live.
    pub processes: usize,
    /// Of them, those being observed.
    pub observed: usize,
    /// Sums over those (the spent share: of the one that spent most).
    pub sum: Status,
    /// The line that looks worst.
    pub suspect: Option<Suspect>,
}

/// An observation of a tree.
pub struct Tree {
    root: Pid,
    /// The root as it was discovered, for its first session.
    target: Option<Target>,
    options: TreeOptions,
    probe: TreeProbe,
    members: Members,
    running: HashMap<Pid, Running>,
    reports: Reports,
    starts: Starts,
    costs: Option<Calibration>,
    over: Arc<AtomicBool>,
    tell: Sender<(Pid, Said)>,
    told: Receiver<(Pid, Said)>,
    /// Why a session could not go on: the first that failed, in words.
    failure: Option<String>,
    until: Nanos,
}

/// A process being observed.
struct Running {
    thread: JoinHandle<Done>,
    parent: Pid,
    /// When its program began, where that was seen.
    since: Option<Nanos>,
    opened: bool,
    status: Option<Status>,
    suspect: Option<Suspect>,
}

impl Tree {
    /// Has the kernel keep the tree from now on. Makes tracefs available to this process, so it must be called
    /// before other threads are started.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn open(root: Target, options: TreeOptions) -> Result<Self, TreeError> {
        if root.kernel_id.namespace.is_some() {
            return Err(TreeError::PidNamespace(root.pid));
        }
        tracefs::ensure()?;
        let probe = TreeProbe::open(&kernel::task_layout()?.fields)?;
        let (tell, told) = channel();
        let start = now();
        let mut tree = Self {
            root: root.pid,
            target: Some(root),
            until: Nanos(start.0.saturating_add(options.session.duration.0)),
            options,
            probe,
            members: Members::new(),
            running: HashMap::new(),
            reports: Reports::default(),
            starts: Starts { left: STARTS, at: start },
            costs: None,
            over: Arc::new(AtomicBool::new(false)),
            tell,
            told,
            failure: None,
        };
        tree.enlist()?;
        Ok(tree)
    }

    /// Makes the root and all that descend from it members. A child born meanwhile to one that is none yet is
    /// found the next time round.
    fn enlist(&mut self) -> Result<(), TreeError> {
        let own = Pid(std::process::id());
        let mut open = vec![(self.root, Pid(0))];
        while !open.is_empty() {
            let mut new = false;
            for (pid, parent) in open {
                // leaktrace may be one itself; a zombie has nothing resident.
                if pid == own || !self.probe.add(pid)? {
                    continue;
                }
                new = true;
                if process::resident(pid).is_none_or(|rss| rss.0 == 0) && pid != self.root {
                    self.probe.forget(pid);
                    continue;
                }
                self.members.found(pid, parent, process::name(pid), now());
            }
            open = if new { process::descendants(self.root) } else { Vec::new() };
        }
        Ok(())
    }

    /// Observes until the time is over, `stop` is set, or no process of the tree lives any more; then judges.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn observe(
        mut self,
        stop: &AtomicBool,
        mut tell: impl FnMut(&TreeStatus),
    ) -> Result<Snapshot, TreeError> {
        let mut tell_due = Nanos(0);
        let result = loop {
            let time = now();
            self.read();
            if let Err(error) = self.gather(false) {
                break Err(error);
            }
            let is_empty = self.members.alive() == 0 && self.running.is_empty();
            if stop.load(Ordering::Relaxed) || is_empty || self.is_over(time) {
                break Ok(());
            }
            if let Err(error) = self.start_next(time) {
                break Err(error);
            }
            if time >= tell_due {
                tell_due = Nanos(time.0 + TELL_EVERY.0);
                tell(&self.status(time));
            }
            self.probe.wait(ROUND);
        };
        self.over.store(true, Ordering::Relaxed);
        self.classify_waiting();
        let gathered = self.gather(true);
        self.read();
        result.and(gathered)?;
        self.write_up()
    }

    /// Is the time over? Sessions that are sure end by themselves then.
    fn is_over(&self, time: Nanos) -> bool {
        let is_told = self.running.is_empty() || self.reports.has_leak();
        is_over(time, self.until, self.options.session.patience, is_told)
    }

    /// Takes in what the kernel and the sessions tell.
    fn read(&mut self) {
        for event in self.probe.drain() {
            tracing::debug!(?event, "tree");
            self.members.note(event);
        }
        while let Ok((pid, said)) = self.told.try_recv() {
            let Some(running) = self.running.get_mut(&pid) else { continue };
            match said {
                Said::Opened(costs) => {
                    running.opened = true;
                    self.costs = Some(costs);
                }
                Said::Status(status, suspect) => {
                    (running.status, running.suspect) = (Some(status), suspect);
                }
            }
        }
    }

    /// Takes in the sessions that have ended, or waits for all.
    fn gather(&mut self, all: bool) -> Result<(), TreeError> {
        let ended = self.running.extract_if(|_, running| all || running.thread.is_finished());
        let ended: Vec<(Pid, Running)> = ended.collect();
        let mut fatal = None;
        for (pid, running) in ended {
            let done =
                running.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let outcome = match done {
                Done::Reported(snapshot) => {
                    let ended = snapshot.target.ended.then(|| self.ended(pid));
                    let (parent, born) = (running.parent, running.since);
                    self.reports.keep(Kept { parent, born, ended, snapshot }, self.root);
                    Outcome::Reported
                }
                Done::Nothing(outcome) => outcome,
                Done::Failed(error) if pid == self.root => {
                    fatal = Some(error);
                    Outcome::Nothing(Cause::Failed)
                }
                Done::Failed(error) => {
                    tracing::warn!("process {pid} could not be observed: {error}");
                    self.failure.get_or_insert_with(|| error.to_string());
                    Outcome::Nothing(Cause::Failed)
                }
            };
            if !running.opened && outcome != Outcome::Reported {
                self.starts.give_back();
            }
            self.members.finish(pid, outcome, now());
        }
        fatal.map_or(Ok(()), |error| Err(error.into()))
    }

    /// When a process that has ended did so: by the kernel's word, if that was read already.
    fn ended(&self, pid: Pid) -> Nanos {
        self.members.get(pid).and_then(members::Member::ended).unwrap_or_else(now)
    }

    /// Starts to look at the process that is due and most urgent, if there is room.
    fn start_next(&mut self, time: Nanos) -> Result<(), TreeError> {
        let due: Vec<Pid> = self.members.due(time).collect();
        if due.is_empty()
            || self.until.0.saturating_sub(time.0)
                < LEAST.0.min(self.options.session.duration.0 / 2)
        {
            return Ok(());
        }
        // The first alone: what it measures is for all.
        let at_once = if self.costs.is_some() { OPENING } else { 1 };
        let opening = self.running.values().filter(|running| !running.opened).count();
        let has_room = self.running.len() < SIDE_BY_SIDE;
        if opening >= at_once || !has_room || !self.starts.take(time) {
            self.members.wait(due);
            return Ok(());
        }
        let Some(next) = self.most_urgent(&due) else { return Ok(()) };
        self.members.wait(due.into_iter().filter(|pid| *pid != next));
        let job = Job {
            pid: next,
            target: if next == self.root { self.target.take() } else { None },
            options: Options {
                duration: Nanos(self.until.0.saturating_sub(time.0)),
                ..self.options.session
            },
            costs: self.costs,
            over: Arc::clone(&self.over),
            allows: Arc::clone(&self.options.allows),
            min_size: self.options.min_size,
        };
        let member = self.members.get(next);
        let (parent, since) =
            member.map_or((Pid(0), None), |member| (member.parent, member.since()));
        let thread = worker::start(job, self.tell.clone()).map_err(TreeError::Thread)?;
        let running = Running { thread, parent, since, opened: false, status: None, suspect: None };
        self.running.insert(next, running);
        self.members.begin(next, time);
        Ok(())
    }

    fn most_urgent(&mut self, due: &[Pid]) -> Option<Pid> {
        if due.contains(&self.root) {
            return Some(self.root);
        }
        due.iter().copied().max_by_key(|pid| {
            let rss = process::resident(*pid).unwrap_or_default();
            self.members.urgency(*pid, rss)
        })
    }

    /// Says of those that still wait at the end whether they are Python at all.
    fn classify_waiting(&mut self) {
        for pid in self.members.waiting().into_iter().take(MOST_CLASSIFIED) {
            if let Err(error) = target::discover(pid)
                && let Outcome::Again(cause) | Outcome::Nothing(cause) = worker::outcome(&error)
                && cause != Cause::EndedFirst
            {
                self.members.take_for(pid, cause);
            }
        }
    }

    fn status(&self, time: Nanos) -> TreeStatus {
        let mut sum = Status {
            left: Nanos(self.until.0.saturating_sub(time.0)),
            bursts: 0,
            spent: 0.0,
            rss: Bytes(0),
            growth: None,
        };
        for status in self.running.values().filter_map(|running| running.status) {
            sum.bursts += status.bursts;
            sum.spent = status.spent.max(sum.spent);
            sum.left = status.left.max(sum.left);
            sum.rss.0 += status.rss.0;
            sum.growth = match (sum.growth, status.growth) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
        }
        let growth = |running: &&Running| {
            running.status.and_then(|status| status.growth).unwrap_or(f64::NEG_INFINITY)
        };
        let suspects = self.running.values().filter(|running| running.suspect.is_some());
        let worst = suspects.max_by(|a, b| growth(a).total_cmp(&growth(b)));
        TreeStatus {
            processes: self.members.alive(),
            observed: self.running.len(),
            sum,
            suspect: worst.and_then(|running| running.suspect.clone()),
        }
    }

    fn write_up(self) -> Result<Snapshot, TreeError> {
        let counts = self.probe.counts()?;
        // Records of ends and replaced programs are lost too; the births among them are those that the
        // records don't account for.
        let unreported = counts.born.saturating_sub(self.members.born());
        let sums = self.members.close(unreported);
        self.reports
            .write_up(self.root, sums, self.failure.as_deref())
            .ok_or_else(|| SessionError::EndedTooEarly(self.root).into())
    }
}

/// Is the observation of a tree over that ends at `until`, or a `patience` later as long as nothing can be told?
fn is_over(time: Nanos, until: Nanos, patience: Nanos, is_told: bool) -> bool {
    let latest = Nanos(until.0.saturating_add(patience.0));
    time >= if is_told { until } else { latest }
}

/// How many sessions may be opened.
struct Starts {
    left: f64,
    at: Nanos,
}

impl Starts {
    fn take(&mut self, now: Nanos) -> bool {
        let elapsed = Duration::from_nanos(now.0.saturating_sub(self.at.0)).as_secs_f64();
        self.at = now;
        self.left = (self.left + elapsed * STARTS_PER_S).min(STARTS);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }

    /// It was not opened.
    fn give_back(&mut self) {
        self.left = (self.left + 1.0).min(STARTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_on_as_long_as_nothing_can_be_told_but_not_for_ever() {
        let until = |patience, is_told| {
            (0..200).find(|time| is_over(Nanos(*time), Nanos(30), Nanos(patience), is_told))
        };
        assert_eq!(until(30, true), Some(30));
        assert_eq!(until(30, false), Some(60));
        // Its length was asked for.
        assert_eq!([true, false].map(|is_told| until(0, is_told)), [Some(30); 2]);
    }
}
