//! Attaching a program to many instructions by one link (Linux 6.6).
//!
//! A uprobe that hangs on a perf event is let go under a lock of the whole machine, and its breakpoint
//! stays in the target's code until its turn: 80 ms for each probe, in which the target traps for
//! nothing at every allocation. A link to many points removes all its breakpoints within the first
//! milliseconds, and a hit costs less. aya 0.14 can't make such links, so the uprobe programs are
//! loaded here, from the same object and onto the same maps.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    panic::resume_unwind,
    path::Path,
    thread,
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

/// The uprobe programs. Each is verified when it is first attached: that takes the kernel some ten milliseconds
/// for each, and few targets need them all.
pub struct Multi {
    object: Object,
    types: OwnedFd,
    /// What the programs' instructions refer to by number, held for as long as one may be loaded.
    _maps: Vec<OwnedFd>,
    loaded: HashMap<String, Loaded>,
}

impl Multi {
    /// Makes the uprobe programs of `object`, whose maps are `ebpf`'s, ready to be loaded. None where the kernel
    /// can't link to many points, or takes the process that it is told for a thread (6.6 to 6.9).
    ///
    /// # Errors
    /// [`ProbeError`] where the kernel refuses what it should know.
    pub fn new(object: &[u8], ebpf: &Ebpf) -> Result<Option<Self>, ProbeError> {
        let mut parsed = Object::parse(object).map_err(invalid)?;
        let Some(features) = aya::features().btf() else { return Ok(None) };
        let Some(types) = parsed.fixup_and_sanitize_btf(features).map_err(invalid)? else {
            return Ok(None);
        };
        let types = bpf::load_btf(&types.to_bytes()).map_err(refused("type information"))?;
        let sections: HashSet<usize> =
            parsed.functions.keys().map(|(section, _)| *section).collect();
        let maps = std::mem::take(&mut parsed.maps);
        let known = maps.iter().filter_map(|(name, map)| {
            let held = data(ebpf.map(name)?)?.fd().as_fd().try_clone_to_owned();
            Some(held.map(|held| (name.as_str(), held, map)))
        });
        let known: Vec<_> = known.collect::<Result<_, _>>().map_err(refused("maps"))?;
        let by_number = known.iter().map(|(name, held, map)| (*name, held.as_raw_fd(), *map));
        parsed.relocate_maps(by_number, &sections).map_err(invalid)?;
        parsed.relocate_calls(&sections).map_err(invalid)?;
        let held = known.into_iter().map(|(_, held, _)| held).collect();
        let mut multi = Self { object: parsed, types, _maps: held, loaded: HashMap::new() };

        let all = multi.names();
        let Some(shortest) = all.iter().min_by_key(|name| multi.instructions(name)) else {
            return Ok(None);
        };
        multi.ensure([shortest.as_str()])?;
        let is_supported = multi.loaded.values().any(|program| is_supported(program.fd.as_fd()));
        Ok(is_supported.then_some(multi))
    }

    /// The names of all programs.
    fn names(&self) -> Vec<String> {
        let programs = self.object.programs.iter();
        let uprobes = programs.filter(|(_, program)| at_return(program).is_some());
        uprobes.map(|(name, _)| name.clone()).collect()
    }

    fn instructions(&self, name: &str) -> usize {
        let function = self
            .object
            .programs
            .get(name)
            .and_then(|program| self.object.functions.get(&program.function_key()));
        function.map_or(usize::MAX, |function| function.instructions.len())
    }

    /// Has the kernel verify every program, needed or not.
    ///
    /// # Errors
    /// [`ProbeError`] of one that it refuses.
    pub fn ensure_all(&mut self) -> Result<(), ProbeError> {
        let names = self.names();
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
        let (object, types) = (&self.object, self.types.as_fd());
        let missing = names.into_iter().filter(|name| !self.loaded.contains_key(*name));
        let made: Vec<_> = thread::scope(|scope| {
            let loads: Vec<_> = missing
                .map(|name| (name, scope.spawn(move || load(object, types, name))))
                .collect();
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

fn load(object: &Object, types: BorrowedFd<'_>, name: &str) -> Result<Loaded, ProbeError> {
    let missing = || ProbeError::Missing(name.to_owned());
    let program = object.programs.get(name).ok_or_else(missing)?;
    let at_return = at_return(program).ok_or_else(missing)?;
    let function = object.functions.get(&program.function_key()).ok_or_else(missing)?;
    let fd = bpf::load_uprobe(program, function, types).map_err(refused(name))?;
    Ok(Loaded { fd, at_return })
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

/// What a map of the object is made of.
pub(super) fn data(map: &Map) -> Option<&MapData> {
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
