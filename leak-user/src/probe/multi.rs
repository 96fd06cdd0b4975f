//! Attaching a program to many instructions by one link (Linux 6.6).
//!
//! A uprobe that hangs on a perf event is let go under a lock of the whole machine, and its breakpoint
//! stays in the target's code until its turn: 80 ms for each probe, in which the target traps for
//! nothing at every allocation. A link to many points removes all its breakpoints within the first
//! milliseconds, and a hit costs less. aya 0.14 can't make such links, so the uprobe programs are
//! loaded here, from the same object and onto the same maps.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use aya_obj::{Object, ProgramSection};
use nix::errno::Errno;

use super::{
    bpf,
    error::ProbeError,
    keeper::{AttachError, Keeper, Link, Way},
    plan::Probe,
};
use crate::units::Pid;

/// A loaded program.
struct Loaded {
    fd: OwnedFd,
    at_return: bool,
}

/// The uprobe programs, by name.
pub struct Multi {
    programs: HashMap<String, Loaded>,
}

impl Multi {
    /// Loads the uprobe programs of `object`, whose maps are `ebpf`'s. None where the kernel can't link
    /// to many points, or takes the process that it is told for a thread (6.6 to 6.9).
    ///
    /// # Errors
    /// [`ProbeError`] where the kernel refuses what it should know.
    pub fn load(object: &[u8], ebpf: &Ebpf) -> Result<Option<Self>, ProbeError> {
        let mut parsed = Object::parse(object).map_err(invalid)?;
        let Some(features) = aya::features().btf() else { return Ok(None) };
        let Some(types) = parsed.fixup_and_sanitize_btf(features).map_err(invalid)? else {
            return Ok(None);
        };
        let btf = bpf::load_btf(&types.to_bytes()).map_err(refused("type information"))?;
        let sections: HashSet<usize> =
            parsed.functions.keys().map(|(section, _)| *section).collect();
        let maps = std::mem::take(&mut parsed.maps);
        let known = maps.iter().filter_map(|(name, map)| {
            let fd = data(ebpf.map(name)?)?.fd().as_fd().as_raw_fd();
            Some((name.as_str(), fd, map))
        });
        parsed.relocate_maps(known, &sections).map_err(invalid)?;
        parsed.relocate_calls(&sections).map_err(invalid)?;

        let mut programs = HashMap::new();
        for (name, program) in &parsed.programs {
            let at_return = match program.section {
                ProgramSection::UProbe { .. } => false,
                ProgramSection::URetProbe { .. } => true,
                _ => continue,
            };
            let Some(function) = parsed.functions.get(&program.function_key()) else { continue };
            let fd = bpf::load_uprobe(program, function, btf.as_fd()).map_err(refused(name))?;
            if programs.is_empty() && !is_supported(fd.as_fd()) {
                return Ok(None);
            }
            programs.insert(name.clone(), Loaded { fd, at_return });
        }
        Ok(Some(Self { programs }))
    }

    /// Has the keeper attach all `probes` to the process: all or none.
    ///
    /// # Errors
    /// [`ProbeError`] of one that failed.
    pub fn attach(&self, keeper: &Keeper, pid: Pid, probes: &[Probe]) -> Result<(), ProbeError> {
        let mut points: BTreeMap<(&str, &Path), Vec<u64>> = BTreeMap::new();
        for probe in probes {
            points.entry((probe.program, &probe.path)).or_default().push(probe.file_offset);
        }
        let mut links = Vec::new();
        for ((name, path), offsets) in &points {
            let Some(program) = self.programs.get(*name) else {
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

/// Does the kernel know such links, and processes in them? Those that do refuse a directory as not
/// being a file, and a negative process before they look at anything else.
fn is_supported(program: BorrowedFd<'_>) -> bool {
    let error = |pid| {
        let link = bpf::link_uprobes(program, Path::new("/"), &[0], false, pid);
        link.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw)
    };
    error(0) == Some(Errno::EBADF) && error(bpf::NO_PID) == Some(Errno::EINVAL)
}

fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> ProbeError {
    ProbeError::Object(Box::new(error))
}

fn refused(program: &str) -> impl Fn(io::Error) -> ProbeError {
    move |source| ProbeError::Refused { program: program.to_owned(), source }
}
