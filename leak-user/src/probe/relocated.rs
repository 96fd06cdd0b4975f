//! The programs of an object, made ready for the kernel onto maps that aya has made: for loading them in ways that aya
//! has none for ([`super::multi`], [`super::verifier`]).

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use aya_obj::{Function, Object, Program};

use super::{
    bpf::{self, Kind},
    error::ProbeError,
};

/// The programs.
pub struct Relocated {
    object: Object,
    types: OwnedFd,
    /// What the programs' instructions refer to by number, held for as long as one may be loaded.
    _maps: Vec<OwnedFd>,
}

impl Relocated {
    /// Those of `object`, whose maps are `ebpf`'s. None where the kernel takes no type information.
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
        Ok(Some(Self { object: parsed, types, _maps: held }))
    }

    /// All programs: their names, what they are, and their instructions, those of the functions that they call included.
    pub fn programs(&self) -> impl Iterator<Item = (&str, &Program, &Function)> {
        self.object.programs.iter().filter_map(|(name, program)| {
            let function = self.object.functions.get(&program.function_key())?;
            Some((name.as_str(), program, function))
        })
    }

    /// Has the kernel verify a program. The verifier's figures go to `log`, as text, where one is given.
    ///
    /// # Errors
    /// [`ProbeError::Refused`].
    pub fn load(
        &self,
        name: &str,
        kind: Kind,
        log: Option<&mut [u8]>,
    ) -> Result<OwnedFd, ProbeError> {
        let mut programs = self.programs();
        let found = programs.find(|(known, ..)| *known == name);
        let (_, program, function) = found.ok_or_else(|| ProbeError::Missing(name.to_owned()))?;
        bpf::load(program, function, self.types.as_fd(), kind, log).map_err(refused(name))
    }
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

/// Says which program, or what else, the kernel has refused.
pub(super) fn refused(what: &str) -> impl Fn(io::Error) -> ProbeError {
    move |source| ProbeError::Refused { program: what.to_owned(), source }
}
