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
    collections::HashMap,
    num::NonZeroU32,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use aya::programs::{
    Program, UProbe,
    uprobe::{UProbeAttachLocation, UProbeLink, UProbeScope},
};

use super::{
    error::{ProbeError, refused},
    keeper::{self, Keeper},
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
/// [`ProbeError::Program`] of the first that failed; those attached before are detached.
pub fn attach(
    object: &mut Object,
    keeper: &Rc<Keeper>,
    pid: Pid,
    probes: &[Probe],
) -> Result<Attached, ProbeError> {
    if let Some(multi) = &object.multi {
        let links = multi.attach(pid, probes)?;
        let fds: Vec<_> = links.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
        keeper.hold(&fds).map_err(ProbeError::Keeper)?;
        return Ok(Attached { keeper: Rc::clone(keeper), lingers: false });
    }
    let ebpf = &mut object.ebpf;
    let before = keeper::open_links().map_err(ProbeError::Keeper)?;
    let mut by_program: HashMap<&str, Vec<&Probe>> = HashMap::new();
    for probe in probes {
        by_program.entry(probe.program).or_default().push(probe);
    }
    let mut results = Vec::new();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (name, program) in ebpf.programs_mut() {
            if let (Some(points), Program::UProbe(program)) = (by_program.remove(name), program) {
                threads.push((name, scope.spawn(move || attach_program(program, pid, &points))));
            }
        }
        for (name, thread) in threads {
            let result = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            results.push((name.to_owned(), result));
        }
    });
    if let Some(missing) = by_program.keys().next() {
        return Err(ProbeError::Missing((*missing).to_owned()));
    }
    let mut links = Vec::new();
    let mut failure = None;
    for (program, (attached, result)) in results {
        links.extend(attached);
        if let Err(source) = result {
            failure.get_or_insert(refused(&program)(source));
        }
    }
    // aya does not tell a link's descriptor: they are those that were not there before.
    let mut new = keeper::open_links().map_err(ProbeError::Keeper)?;
    new.retain(|fd| !before.contains(fd));
    keeper.hold(&new).map_err(ProbeError::Keeper)?;
    // The keeper has them: closing this process's own descriptors detaches nothing.
    drop(links);
    let attached = Attached { keeper: Rc::clone(keeper), lingers: true };
    match failure {
        None => Ok(attached),
        Some(error) => {
            attached.detach().wait();
            Err(error)
        }
    }
}

type AttachResult = (Vec<UProbeLink>, Result<(), aya::programs::ProgramError>);

fn attach_program(program: &mut UProbe, pid: Pid, points: &[&Probe]) -> AttachResult {
    let Some(pid) = NonZeroU32::new(pid.0) else { return (Vec::new(), Ok(())) };
    let mut links = Vec::new();
    let mut one = |probe: &Probe| {
        let point = UProbeAttachLocation::AbsoluteOffset(probe.file_offset);
        let id = program.attach(point, &probe.path, UProbeScope::OneProcess(pid))?;
        links.push(program.take_link(id)?);
        Ok(())
    };
    let result = points.iter().try_for_each(|probe| one(probe));
    (links, result)
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
