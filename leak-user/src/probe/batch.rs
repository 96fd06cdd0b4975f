//! Reads hash maps many entries at a time: one system call for hundreds of them, where aya takes two or three for
//! each.

use std::{
    marker::PhantomData,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Pod,
    maps::{HashMap, MapError},
    sys::SyscallError,
};

use super::{bpf, error::ProbeError, object::Object, relocated};

/// Entries read by one call; more than any bucket of a map holds, which is read whole or not at all.
const ROOM: usize = 1024;

/// A hash map of the object that is read as a whole.
pub(super) struct Batches<K, V> {
    map: OwnedFd,
    name: &'static str,
    entry: PhantomData<(K, V)>,
}

impl<K: Pod, V: Pod> Batches<K, V> {
    /// The map of this name; to be called before it is taken out of the object.
    ///
    /// # Errors
    /// [`ProbeError`] where there is none, or one of other keys or values.
    pub fn of(object: &Object, name: &'static str) -> Result<Self, ProbeError> {
        let missing = || ProbeError::Missing(name.to_owned());
        let map = object.ebpf.map(name).ok_or_else(missing)?;
        HashMap::<_, K, V>::try_from(map)
            .map_err(|source| ProbeError::Map { map: name, source })?;
        let map = relocated::data(map).ok_or_else(missing)?.fd().as_fd().try_clone_to_owned();
        let map = map.map_err(|source| ProbeError::Refused { program: name.to_owned(), source })?;
        Ok(Self { map, name, entry: PhantomData })
    }

    /// Every entry, left where it is.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn read(&self, each: impl FnMut((K, V))) -> Result<(), ProbeError> {
        self.entries(false, each)
    }

    /// Takes every entry out.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn take(&self, each: impl FnMut((K, V))) -> Result<(), ProbeError> {
        self.entries(true, each)
    }

    fn entries(&self, take: bool, mut each: impl FnMut((K, V))) -> Result<(), ProbeError> {
        let (mut keys, mut values) = (Vec::with_capacity(ROOM), Vec::with_capacity(ROOM));
        let mut place = None;
        loop {
            // SAFETY: `of` has seen that the map's keys and values are these.
            let read = unsafe {
                bpf::read_entries(self.map.as_fd(), take, &mut place, &mut keys, &mut values)
            };
            let more = read.map_err(|io_error| ProbeError::Map {
                map: self.name,
                source: MapError::SyscallError(SyscallError { call: "bpf", io_error }),
            })?;
            keys.drain(..).zip(values.drain(..)).for_each(&mut each);
            if !more {
                return Ok(());
            }
        }
    }
}
