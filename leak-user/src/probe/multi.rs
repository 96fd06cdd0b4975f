//! Attaching a program to many instructions by one link (Linux 6.6).
//!
//! A uprobe that hangs on a perf event is let go under a lock of the whole machine, and its breakpoint
//! stays in the target's code until its turn: 80 ms for each probe, in which the target traps for
//! nothing at every allocation. A link to many points removes all its breakpoints within the first
//! milliseconds, and a hit costs less. aya 0.14 can't make such links, so the uprobe programs are
//! loaded here, from the same object and onto the same maps.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    panic::resume_unwind,
    path::Path,
    thread,
};

use aya::Ebpf;
use aya_obj::ProgramSection;
use nix::errno::Errno;

use super::{
    bpf::{self, Kind},
    error::ProbeError,
    keeper::{AttachError, Keeper, Link, Way},
    plan::Probe,
    relocated::{Relocated, refused},
};
use crate::units::Pid;

/// A loaded program.
struct Loaded {
    fd: OwnedFd,
    at_return: bool,
}

/// The uprobe programs. Each is verified when it is first attached: that takes the kernel some ten milliseconds
/// for each, and few targets need them all.
pub struct Multi {
    programs: Relocated,
    loaded: HashMap<String, Loaded>,
}

impl Multi {
    /// Makes the uprobe programs of `object`, whose maps are `ebpf`'s, ready to be loaded. None where the kernel
    /// can't link to many points, or takes the process that it is told for a thread (6.6 to 6.9).
    ///
    /// # Errors
    /// [`ProbeError`] where the kernel refuses what it should know.
    pub fn new(object: &[u8], ebpf: &Ebpf) -> Result<Option<Self>, ProbeError> {
        let Some(programs) = Relocated::new(object, ebpf)? else { return Ok(None) };
        let mut multi = Self { programs, loaded: HashMap::new() };
        let shortest = multi.all().min_by_key(|(_, instructions)| *instructions);
        let Some(shortest) = shortest.map(|(name, _)| name.to_owned()) else { return Ok(None) };
        multi.ensure([shortest.as_str()])?;
        let is_supported = multi.loaded.values().any(|program| is_supported(program.fd.as_fd()));
        Ok(is_supported.then_some(multi))
    }

    /// All programs, each with the number of its instructions.
    fn all(&self) -> impl Iterator<Item = (&str, usize)> {
        let uprobes = self.programs.programs();
        let uprobes = uprobes.filter(|(_, program, _)| at_return(program).is_some());
        uprobes.map(|(name, _, function)| (name, function.instructions.len()))
    }

    /// Has the kernel verify every program, needed or not.
    ///
    /// # Errors
    /// [`ProbeError`] of one that it refuses.
    pub fn ensure_all(&mut self) -> Result<(), ProbeError> {
        let names: Vec<String> = self.all().map(|(name, _)| name.to_owned()).collect();
        self.ensure(names.iter().map(String::as_str))
    }

    /// Has the kernel verify those programs that it has not yet, side by side.
    ///
    /// # Errors
    /// [`ProbeError`] of one that it refuses.
    pub fn ensure<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), ProbeError> {
        let names: BTreeSet<&str> = names.into_iter().collect();
        let programs = &self.programs;
        let missing = names.into_iter().filter(|name| !self.loaded.contains_key(*name));
        let made: Vec<_> = thread::scope(|scope| {
            let loads: Vec<_> =
                missing.map(|name| (name, scope.spawn(move || load(programs, name)))).collect();
            let ended = loads.into_iter().map(|(name, load)| (name.to_owned(), load.join()));
            ended
                .map(|(name, load)| (name, load.unwrap_or_else(|panic| resume_unwind(panic))))
                .collect()
        });
        for (name, loaded) in made {
            self.loaded.insert(name, loaded?);
        }
        Ok(())
    }

    /// Has the keeper attach all `probes` to the process: all or none.
    ///
    /// # Errors
    /// [`ProbeError`] of one that failed.
    pub fn attach(
        &mut self,
        keeper: &Keeper,
        pid: Pid,
        probes: &[Probe],
    ) -> Result<(), ProbeError> {
        self.ensure(probes.iter().map(|probe| probe.program))?;
        let mut points: BTreeMap<(&str, &Path), Vec<u64>> = BTreeMap::new();
        for probe in probes {
            points.entry((probe.program, &probe.path)).or_default().push(probe.file_offset);
        }
        let mut links = Vec::new();
        for ((name, path), offsets) in &points {
            let Some(program) = self.loaded.get(*name) else {
                return Err(ProbeError::Missing((*name).to_owned()));
            };
            let (program, at_return) = (program.fd.as_fd(), program.at_return);
            links.push(Link { way: Way::AtOnce, program, at_return, pid, path, offsets });
        }
        keeper.attach(&links).map_err(|error| match error {
            AttachError::Keeper(error) => ProbeError::Keeper(error),
            AttachError::Refused { link, source } => {
                let name = points.keys().nth(link).map_or("", |(name, _)| name);
                refused(name)(source)
            }
        })
    }
}

/// Does a program run where a function returns? None for those that are not uprobes.
fn at_return(program: &aya_obj::Program) -> Option<bool> {
    match program.section {
        ProgramSection::UProbe { .. } => Some(false),
        ProgramSection::URetProbe { .. } => Some(true),
        _ => None,
    }
}

fn load(programs: &Relocated, name: &str) -> Result<Loaded, ProbeError> {
    let mut known = programs.programs().filter(|(known, ..)| *known == name);
    let at_return = known.find_map(|(_, program, _)| at_return(program));
    let at_return = at_return.ok_or_else(|| ProbeError::Missing(name.to_owned()))?;
    Ok(Loaded { fd: programs.load(name, Kind::Uprobes, None)?, at_return })
}

/// Does the kernel know such links, and processes in them? Those that do refuse a directory as not
/// being a file, and a negative process before they look at anything else.
fn is_supported(program: BorrowedFd<'_>) -> bool {
    let error = |pid| {
        let link = bpf::link_uprobes(program, Path::new("/"), &[0], false, pid);
        link.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw)
    };
    error(0) == Some(Errno::EBADF) && error(bpf::NO_PID) == Some(Errno::EINVAL)
}
