//! Attaching many uprobes, and dropping them all at once.
//!
//! A breakpoint costs the target on every hit, gate open or not, so the time between the first attach
//! and the last drop matters. From Linux 6.6 on, probes are attached by links to many points
//! ([`super::multi`]), whose breakpoints come and go within milliseconds. Before, each hangs on a perf
//! event of its own. The kernel lets one after the other go, under a lock of the whole machine, and
//! takes some 80 ms for each; its program is gone at once, so that the hits in the meantime are not
//! counted, but they trap. Either way the probes are let go by processes of their own
//! ([`super::keeper`]).

use std::{
    os::fd::AsFd as _,
    rc::Rc,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    programs::{ProbeKind, Program},
};

use super::{
    error::{ProbeError, refused},
    keeper::{AttachError, Keeper, Link, Way},
    object::Object,
    plan::Probe,
};
use crate::units::Pid;

/// Attached probes, held by the keeper. Go when the keeper is told, or with it.
#[must_use]
pub struct Attached {
    keeper: Rc<Keeper>,
    lingers: bool,
}

/// A detach under way.
#[must_use]
pub struct Detaching {
    keeper: Rc<Keeper>,
    /// Since when, where breakpoints go one after the other.
    lingers: Option<Instant>,
}

/// Attaches all `probes` to the process; all or none.
///
/// # Errors
/// [`ProbeError`] of one that failed; nothing is attached then.
pub fn attach(
    object: &mut Object,
    keeper: &Rc<Keeper>,
    pid: Pid,
    probes: &[Probe],
) -> Result<Attached, ProbeError> {
    match &mut object.multi {
        Some(multi) => multi.attach(keeper, pid, probes)?,
        None => one_by_one(&object.ebpf, keeper, pid, probes)?,
    }
    Ok(Attached { keeper: Rc::clone(keeper), lingers: object.multi.is_none() })
}

fn one_by_one(ebpf: &Ebpf, keeper: &Keeper, pid: Pid, probes: &[Probe]) -> Result<(), ProbeError> {
    let mut links = Vec::new();
    for probe in probes {
        let Some(Program::UProbe(program)) = ebpf.program(probe.program) else {
            return Err(ProbeError::Missing(probe.program.to_owned()));
        };
        links.push(Link {
            way: Way::OneByOne,
            program: program.fd().map_err(refused(probe.program))?.as_fd(),
            at_return: matches!(program.kind(), ProbeKind::Return),
            pid,
            path: &probe.path,
            offsets: std::slice::from_ref(&probe.file_offset),
        });
    }
    keeper.attach(&links).map_err(|error| match error {
        AttachError::Keeper(error) => ProbeError::Keeper(error),
        AttachError::Refused { link, source } => {
            let program = probes.get(link).map_or("", |probe| probe.program).to_owned();
            ProbeError::Refused { program, source }
        }
    })
}

impl Attached {
    /// Removes every breakpoint at once; the kernel's own cleaning-up goes on in the background.
    pub fn detach(self) -> Detaching {
        self.keeper.release();
        Detaching { keeper: self.keeper, lingers: self.lingers.then(Instant::now) }
    }
}

impl Detaching {
    /// Waits until the kernel has let go of all of them.
    pub fn wait(&self) {
        while !self.keeper.is_released(Duration::from_secs(1)) {}
    }

    /// Has it ended? Then says for how long breakpoints stayed behind, in the mean of them.
    #[must_use]
    pub fn finished(&self) -> Option<Duration> {
        let lingered = self.lingers.map_or(Duration::ZERO, |since| since.elapsed() / 2);
        self.keeper.is_released(Duration::ZERO).then_some(lingered)
    }
}
