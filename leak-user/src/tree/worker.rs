//! One process of the tree, looked at and observed in a thread of its own.

use std::{
    io,
    sync::{Arc, atomic::AtomicBool, mpsc::Sender},
    thread::{self, JoinHandle},
};

use super::{
    Allows,
    members::{Cause, Outcome},
};
use crate::{
    probe::calibrate::Calibration,
    session::{Options, Session, SessionError, Status, report::Wanted},
    snapshot::{Snapshot, suspect::Suspect},
    target::{self, Target, TargetError, process},
    units::{Bytes, Pid},
};

/// What to do.
pub(super) struct Job {
    /// The process.
    pub pid: Pid,
    /// What is known of it already.
    pub target: Option<Target>,
    /// For its session.
    pub options: Options,
    /// As measured for another session.
    pub costs: Option<Calibration>,
    /// Set when the observation is over.
    pub over: Arc<AtomicBool>,
    /// Lines that may be accused or listed.
    pub allows: Arc<Allows>,
    /// Sites with fewer live bytes are left out.
    pub min_size: Bytes,
}

/// What is told while it goes on.
pub(super) enum Said {
    /// The session is open.
    Opened(Calibration),
    /// How it goes.
    Status(Status, Option<Suspect>),
}

/// How it went.
pub(super) enum Done {
    /// There is a report.
    Reported(Box<Snapshot>),
    /// There is none.
    Nothing(Outcome),
    /// The kernel refused.
    Failed(SessionError),
}

/// Starts it.
///
/// # Errors
/// Where no thread can be made.
pub(super) fn start(job: Job, tell: Sender<(Pid, Said)>) -> io::Result<JoinHandle<Done>> {
    thread::Builder::new().name(format!("observe {}", job.pid)).spawn(move || observe(job, &tell))
}

fn observe(job: Job, tell: &Sender<(Pid, Said)>) -> Done {
    let pid = job.pid;
    let gone = || Done::Nothing(Outcome::Nothing(Cause::EndedFirst));
    // What was known of it before may be of the program before.
    let Some(mark) = process::program_mark(pid) else { return gone() };
    let is_same = || process::program_mark(pid) == Some(mark);
    let target = match job.target.map_or_else(|| target::discover(pid), Ok) {
        Ok(target) => target,
        Err(_) if !is_same() => return gone(),
        Err(error) => {
            tracing::debug!(%pid, %error, "not observed");
            return Done::Nothing(outcome(&error));
        }
    };
    let mut session = match Session::open(target, job.options, job.costs) {
        Ok(session) => session,
        Err(_) if !is_same() => return gone(),
        Err(error) => return Done::Failed(error),
    };
    // From here on the session itself sees when the program is replaced.
    if !is_same() {
        return gone();
    }
    // Nobody listens any more: leaktrace is ending.
    let say = |said| drop(tell.send((pid, said)));
    say(Said::Opened(session.costs()));
    let ending = session.observe(&job.over, |session, status| {
        say(Said::Status(status, session.suspect()));
    });
    let wanted = Wanted { file: &*job.allows, min_size: job.min_size };
    match ending.and_then(|ending| session.report(ending, &wanted)) {
        Ok(report) => Done::Reported(Box::new(report)),
        Err(SessionError::EndedTooEarly(_)) => Done::Nothing(Outcome::Nothing(Cause::TooShort)),
        Err(_) if !is_same() => Done::Nothing(Outcome::Nothing(Cause::TooShort)),
        Err(error) => Done::Failed(error),
    }
}

/// What a process that can't be observed is.
pub(super) fn outcome(error: &TargetError) -> Outcome {
    match error {
        TargetError::NoSuchProcess { .. } => Outcome::Nothing(Cause::EndedFirst),
        TargetError::NotPython { .. } => Outcome::Again(Cause::NotPython),
        TargetError::OtherArchitecture { .. } => Outcome::Nothing(Cause::NotPython),
        TargetError::UnsupportedVersion { .. } => Outcome::Nothing(Cause::Unsupported),
        // An interpreter that is starting looks so.
        TargetError::Unreadable { .. } | TargetError::Inconsistent { .. } => {
            Outcome::Again(Cause::Unsupported)
        }
        TargetError::IsThread { .. } | TargetError::Forbidden { .. } | TargetError::ForeignProc => {
            Outcome::Nothing(Cause::Failed)
        }
    }
}
