//! Attaching many uprobes, and dropping them all at once.
//!
//! A breakpoint costs the target on every hit, gate open or not, so the time between the first
//! attach and the last drop matters. The kernel takes some 10 ms for each attach and over 100 ms for
//! each detach, but does the detach's visible part (removing the breakpoint) first: so probes are
//! attached side by side, and each link is dropped on a thread of its own that nobody waits for.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    thread::{self, JoinHandle},
};

use aya::{
    Ebpf,
    programs::{
        Program, UProbe,
        uprobe::{UProbeAttachLocation, UProbeLink, UProbeScope},
    },
};

use super::{error::ProbeError, plan::Probe};
use crate::units::Pid;

/// Attached probes. Dropping them detaches one after the other: call [`Attached::detach`].
#[must_use]
pub struct Attached {
    links: Vec<UProbeLink>,
}

/// A detach under way.
#[must_use]
pub struct Detaching {
    threads: Vec<JoinHandle<()>>,
}

/// Attaches all `probes` to the process; all or none.
///
/// # Errors
/// [`ProbeError::Program`] of the first that failed; those attached before are detached.
pub fn attach(ebpf: &mut Ebpf, pid: Pid, probes: &[Probe]) -> Result<Attached, ProbeError> {
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
    let mut attached = Attached { links: Vec::new() };
    let mut failure = None;
    for (program, (links, result)) in results {
        attached.links.extend(links);
        if let Err(source) = result {
            failure.get_or_insert(ProbeError::Program { program, source: Box::new(source) });
        }
    }
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
        let threads =
            self.links.into_iter().map(|link| thread::spawn(move || drop(link))).collect();
        Detaching { threads }
    }
}

impl Detaching {
    /// Waits until the kernel has let go of all of them.
    pub fn wait(self) {
        for thread in self.threads {
            // The threads only drop; one that panicked has nothing left to wait for.
            drop(thread.join());
        }
    }

    /// Has it ended?
    #[must_use]
    pub fn finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }
}
