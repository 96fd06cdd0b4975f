//! `_Py_DebugOffsets`, with which `_PyRuntime` begins (3.13 and later): the interpreter itself says where its
//! structures keep what is read of them. A distribution may have patched them; then that goes before our row.
//!
//! Source: `Include/internal/pycore_debug_offsets.h` of 3.13.0, 3.14.10 and 3.15.2. Fields are put in between from
//! version to version, so each has a row of its own.

use std::sync::{Mutex, PoisonError};

use super::error::TargetError;
use super::frames::MAX_FRAME_BYTES;
use super::layout::{self, Gil, Instr, Layout};
use super::memory::Memory;
use crate::units::{Addr, Pid};

/// What it begins with.
pub(super) const COOKIE: &[u8; 8] = b"xdebugpy";

/// Where the version (`PY_VERSION_HEX`) and `free_threaded` are.
const VERSION: usize = 8;
const FREE_THREADED: usize = 16;

/// The largest of them: 3.15's.
const MAX_SIZE: usize = 888;

/// No structure has a field beyond.
const MAX_OFFSET: u64 = 1 << 16;

/// A field of ours.
type Field = fn(&mut Layout) -> Option<&mut u64>;

/// Those that it tells of, in the order of [`Row::places`].
const FIELDS: [(&str, Field); 23] = [
    ("runtime_state.interpreters_head", |l| Some(&mut l.runtime.interpreters_head)),
    ("interpreter_state.id", |l| Some(&mut l.interpreter.id)),
    ("interpreter_state.next", |l| Some(&mut l.interpreter.next)),
    ("interpreter_state.threads_head", |l| Some(&mut l.interpreter.threads_head)),
    ("interpreter_state.ceval_gil", |l| match &mut l.interpreter.gil {
        Gil::Pointer { at, .. } => Some(at),
        Gil::Current(_) => None,
    }),
    ("thread_state.next", |l| Some(&mut l.thread.next)),
    ("thread_state.interp", |l| Some(&mut l.thread.interp)),
    ("thread_state.current_frame", |l| Some(&mut l.thread.current_frame)),
    ("thread_state.thread_id", |l| Some(&mut l.thread.thread_id)),
    ("thread_state.native_thread_id", |l| l.thread.native_thread_id.as_mut()),
    ("interpreter_frame.previous", |l| Some(&mut l.frame.previous)),
    ("interpreter_frame.executable", |l| Some(&mut l.frame.code)),
    ("interpreter_frame.instr_ptr", |l| match &mut l.frame.instr {
        Instr::Pointer { at, .. } => Some(at),
        Instr::Index { .. } => None,
    }),
    ("interpreter_frame.owner", |l| l.frame.owner.as_mut()),
    ("code_object.filename", |l| Some(&mut l.code.filename)),
    ("code_object.qualname", |l| Some(&mut l.code.name)),
    ("code_object.linetable", |l| Some(&mut l.code.linetable)),
    ("code_object.firstlineno", |l| Some(&mut l.code.firstlineno)),
    ("code_object.co_code_adaptive", |l| match &mut l.frame.instr {
        Instr::Pointer { code_start, .. } => Some(code_start),
        Instr::Index { .. } => None,
    }),
    ("pyobject.ob_type", |l| Some(&mut l.object.class)),
    ("type_object.tp_name", |l| Some(&mut l.types.name)),
    ("type_object.tp_flags", |l| Some(&mut l.types.flags)),
    ("unicode_object.state", |l| Some(&mut l.unicode.state)),
];

/// Where a version's has the values of [`FIELDS`], in bytes.
struct Row {
    version: (u8, u8),
    places: [usize; FIELDS.len()],
}

const ROWS: [Row; 3] = [
    Row {
        version: (3, 13),
        places: [
            40, 56, 64, 72, 112, 168, 176, 184, 192, 200, 232, 240, 248, 264, 280, 296, 304, 312,
            344, 360, 376, 392, 544,
        ],
    },
    Row {
        version: (3, 14),
        places: [
            40, 56, 64, 72, 120, 192, 200, 208, 216, 224, 256, 264, 272, 288, 320, 336, 344, 352,
            384, 408, 424, 440, 624,
        ],
    },
    Row {
        version: (3, 15),
        places: [
            40, 56, 64, 72, 120, 192, 200, 208, 240, 248, 320, 328, 336, 352, 384, 400, 408, 416,
            448, 472, 488, 504, 720,
        ],
    },
];

/// The layout of an interpreter that has them.
///
/// # Errors
/// [`TargetError::Inconsistent`] where `_PyRuntime` does not begin with them, or they can't be right;
/// [`TargetError::FreeThreaded`] without a GIL, where the rest of its layout is not known.
pub(super) fn layout_of(
    pid: Pid,
    memory: &impl Memory,
    runtime: Addr,
    hex: u32,
    version: &str,
) -> Result<&'static Layout, TargetError> {
    let mut said = [0; MAX_SIZE];
    memory.read(runtime, &mut said).map_err(|e| TargetError::read(pid, "_PyRuntime", e))?;
    if !said.starts_with(COOKIE.as_slice()) || word(&said, VERSION) != Some(hex.into()) {
        return Err(TargetError::inconsistent("_PyRuntime does not begin with its own version"));
    }
    let minor = ((hex >> 24) as u8, (hex >> 16) as u8);
    let row = if word(&said, FREE_THREADED) == Some(0) {
        layout::layout(minor)
            .ok_or_else(|| TargetError::inconsistent(format!("no layout of {version}")))?
    } else {
        layout::free_threaded(minor)
            .ok_or_else(|| TargetError::FreeThreaded { version: version.to_owned() })?
    };
    let layout = corrected(row, &said)?;
    if layout == *row {
        return Ok(row);
    }
    tracing::info!(
        "this build's structures are not those of {version}; what it says of them is taken"
    );
    Ok(kept(layout))
}

/// A row with what the interpreter says instead.
fn corrected(row: &Layout, said: &[u8]) -> Result<Layout, TargetError> {
    let mut layout = *row;
    let Some(Row { places, .. }) = ROWS.iter().find(|one| one.version == row.version) else {
        return Ok(layout);
    };
    for ((name, field), place) in FIELDS.iter().zip(places) {
        let Some(ours) = field(&mut layout) else { continue };
        let theirs = word(said, *place).filter(|value| *value < MAX_OFFSET);
        *ours = theirs.ok_or_else(|| {
            TargetError::inconsistent(format!("_Py_DebugOffsets has no {name} that can be"))
        })?;
    }
    if layout.frame.bytes() >= MAX_FRAME_BYTES {
        return Err(TargetError::inconsistent("_Py_DebugOffsets has frames that can't be"));
    }
    Ok(layout)
}

/// Kept for good, each once: layouts are few, and what is read by them is shared by all that reads.
fn kept(layout: Layout) -> &'static Layout {
    static KEPT: Mutex<Vec<&'static Layout>> = Mutex::new(Vec::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.iter().find(|known| ***known == layout) {
        return known;
    }
    let new: &'static Layout = Box::leak(Box::new(layout));
    kept.push(new);
    new
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::testing::FakeMemory;

    const RUNTIME: u64 = 0x10_0000;

    fn hex(version: (u8, u8)) -> u32 {
        u32::from(version.0) << 24 | u32::from(version.1) << 16 | 0xf0
    }

    /// What an interpreter of a row's kind says.
    fn said(layout: &Layout) -> FakeMemory {
        let mut memory = FakeMemory::default();
        memory.map(RUNTIME, 0x1000);
        memory.write(RUNTIME, COOKIE);
        memory.put(RUNTIME + VERSION as u64, hex(layout.version).into());
        memory.put(RUNTIME + FREE_THREADED as u64, layout.free_threaded.into());
        let row = ROWS.iter().find(|row| row.version == layout.version).unwrap();
        let mut layout = *layout;
        for ((_, field), place) in FIELDS.iter().zip(row.places) {
            memory.put(RUNTIME + place as u64, *field(&mut layout).unwrap());
        }
        memory
    }

    fn read(memory: &FakeMemory, version: (u8, u8)) -> Result<&'static Layout, TargetError> {
        layout_of(Pid(1), memory, Addr(RUNTIME), hex(version), "3")
    }

    #[test]
    fn a_plain_build_has_the_row_itself() {
        for version in [(3, 13), (3, 14), (3, 15)] {
            let row = layout::layout(version).unwrap();
            assert!(std::ptr::eq(read(&said(row), version).unwrap(), row), "{version:?}");
        }
        let row = layout::free_threaded((3, 13)).unwrap();
        assert!(std::ptr::eq(read(&said(row), (3, 13)).unwrap(), row));
        let unknown = Layout { free_threaded: true, ..*layout::layout((3, 14)).unwrap() };
        let refused = read(&said(&unknown), (3, 14));
        assert!(matches!(refused, Err(TargetError::FreeThreaded { .. })), "{refused:?}");
    }

    #[test]
    fn a_patched_build_goes_before_the_row() {
        let row = layout::layout((3, 14)).unwrap();
        let mut patched = *row;
        patched.thread.current_frame += 16;
        patched.code.linetable += 8;
        let memory = said(&patched);
        let found = read(&memory, (3, 14)).unwrap();
        assert_eq!(*found, patched);
        assert!(std::ptr::eq(read(&memory, (3, 14)).unwrap(), found), "kept once");
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let row = layout::layout((3, 15)).unwrap();
        for (place, value) in [(0, 1), (8, 7), (40, 1 << 16), (320, 1 << 40), (320, 200)] {
            let mut memory = said(row);
            memory.put(RUNTIME + place, value);
            let refused = read(&memory, (3, 15));
            assert!(
                matches!(refused, Err(TargetError::Inconsistent { .. })),
                "{place}: {refused:?}"
            );
        }
    }
}
