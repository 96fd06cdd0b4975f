//! `_Py_DebugOffsets`, with which `_PyRuntime` begins (3.13 and later): the interpreter itself says where its
//! structures keep most of what is read of them. A distribution may have patched them; then that goes before our row.
//! What it does not tell of stays the row's: allocators, pymalloc's state, the key of the thread's state, names of types.
//!
//! Source: `Include/internal/pycore_debug_offsets.h` of 3.13.0, 3.14.10 and 3.15.2. Fields are put in between from
//! version to version, so each has a row of its own.

use std::sync::{Mutex, PoisonError};

use leak_common::FRAME_BYTES;

use super::error::TargetError;
use super::layout::{self, Gil, Instr, Layout};
use super::memory::Memory;
use super::python::unsupported;
use crate::heap::types::HEAD as TYPE_HEAD;
use crate::symbolize::unicode::MAX_HEAD as STRING_HEAD;
use crate::units::{Addr, Pid};

/// What it begins with.
pub(super) const COOKIE: &[u8; 8] = b"xdebugpy";

/// Where the version (`PY_VERSION_HEX`) and `free_threaded` are.
const VERSION: usize = 8;
const FREE_THREADED: usize = 16;

/// The largest of them: 3.15's.
const MAX_SIZE: usize = 888;

/// A field of ours.
type Field = fn(&mut Layout) -> Option<&mut u64>;

/// Layouts that are not rows, kept at most: a tree's processes run few builds.
const MAX_KEPT: usize = 64;

/// Where a field of each structure can be at most. What reads them makes room for so much.
const RUNTIME: u64 = 4 << 10;
const INTERPRETER: u64 = 64 << 10;
const THREAD: u64 = 4 << 10;
/// The kernel side reads the frame's first ten words; smaller fields may lie further into the last.
const FRAME: u64 = FRAME_BYTES as u64 - 8;
const CODE: u64 = 512;
const OBJECT: u64 = 64;
const TYPE: u64 = TYPE_HEAD as u64 - 8;
const STRING: u64 = STRING_HEAD as u64 - 8;

/// Those that it tells of, where they can be at most, in the order of [`Row::places`].
const FIELDS: [(&str, u64, Field); 25] = [
    ("runtime_state.interpreters_head", RUNTIME, |l| Some(&mut l.runtime.interpreters_head)),
    ("interpreter_state.id", INTERPRETER, |l| Some(&mut l.interpreter.id)),
    ("interpreter_state.next", INTERPRETER, |l| Some(&mut l.interpreter.next)),
    ("interpreter_state.threads_head", INTERPRETER, |l| Some(&mut l.interpreter.threads_head)),
    ("interpreter_state.ceval_gil", INTERPRETER, |l| match &mut l.interpreter.gil {
        Gil::Pointer { at, .. } => Some(at),
        Gil::Current(_) => None,
    }),
    ("thread_state.next", THREAD, |l| Some(&mut l.thread.next)),
    ("thread_state.interp", THREAD, |l| Some(&mut l.thread.interp)),
    ("thread_state.current_frame", THREAD, |l| Some(&mut l.thread.current_frame)),
    ("thread_state.thread_id", THREAD, |l| Some(&mut l.thread.thread_id)),
    ("thread_state.native_thread_id", THREAD, |l| l.thread.native_thread_id.as_mut()),
    ("interpreter_frame.previous", FRAME, |l| Some(&mut l.frame.previous)),
    ("interpreter_frame.executable", FRAME, |l| Some(&mut l.frame.code)),
    ("interpreter_frame.instr_ptr", FRAME, |l| match &mut l.frame.instr {
        Instr::Pointer { at, .. } => Some(at),
        Instr::Index { .. } => None,
    }),
    ("interpreter_frame.owner", FRAME + 7, |l| l.frame.owner.as_mut()),
    ("code_object.filename", CODE, |l| Some(&mut l.code.filename)),
    ("code_object.qualname", CODE, |l| Some(&mut l.code.name)),
    ("code_object.linetable", CODE, |l| Some(&mut l.code.linetable)),
    ("code_object.firstlineno", CODE, |l| Some(&mut l.code.firstlineno)),
    ("code_object.co_code_adaptive", CODE, |l| match &mut l.frame.instr {
        Instr::Pointer { code_start, .. } => Some(code_start),
        Instr::Index { .. } => None,
    }),
    ("pyobject.ob_type", OBJECT, |l| Some(&mut l.object.class)),
    ("type_object.tp_name", TYPE, |l| Some(&mut l.types.name)),
    ("type_object.tp_flags", TYPE, |l| Some(&mut l.types.flags)),
    ("unicode_object.state", STRING, |l| Some(&mut l.unicode.state)),
    ("interpreter_frame.tlbc_index", FRAME + 4, |l| {
        l.frame.copies.as_mut().map(|copies| &mut copies.index)
    }),
    ("code_object.co_tlbc", CODE, |l| l.frame.copies.as_mut().map(|copies| &mut copies.array)),
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
            344, 360, 376, 392, 544, 0, 0,
        ],
    },
    Row {
        version: (3, 14),
        places: [
            40, 56, 64, 72, 120, 192, 200, 208, 216, 224, 256, 264, 272, 288, 320, 336, 344, 352,
            384, 408, 424, 440, 624, 304, 392,
        ],
    },
    Row {
        version: (3, 15),
        places: [
            40, 56, 64, 72, 120, 192, 200, 208, 240, 248, 320, 328, 336, 352, 384, 400, 408, 416,
            448, 472, 488, 504, 720, 368, 456,
        ],
    },
];

/// The layout of an interpreter that has them.
///
/// # Errors
/// [`TargetError::Inconsistent`] where `_PyRuntime` does not begin with them, or they can't be right;
/// [`TargetError::UnsupportedVersion`] where the rest of its layout is not known.
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
    let has_gil = word(&said, FREE_THREADED) == Some(0);
    let row = if has_gil { layout::layout(minor) } else { layout::free_threaded(minor) };
    let row = row.ok_or_else(|| unsupported(version.to_owned()))?;
    let layout = corrected(row, &said)?;
    if layout == *row {
        return Ok(row);
    }
    tracing::info!(
        "this build's structures are not those of {version}; what it says of them is taken"
    );
    kept(layout).ok_or_else(|| TargetError::inconsistent("too many processes say different things"))
}

/// A row with what the interpreter says instead.
fn corrected(row: &Layout, said: &[u8]) -> Result<Layout, TargetError> {
    let mut layout = *row;
    let Some(Row { places, .. }) = ROWS.iter().find(|one| one.version == row.version) else {
        return Ok(layout);
    };
    for ((name, most, field), place) in FIELDS.iter().zip(places) {
        let Some(ours) = field(&mut layout) else { continue };
        let theirs = word(said, *place).filter(|value| *value <= *most);
        *ours = theirs.ok_or_else(|| {
            TargetError::inconsistent(format!("_Py_DebugOffsets has no {name} that can be"))
        })?;
    }
    // The kernel side takes whole words out of a frame.
    let frame = layout.frame;
    let instr = if let Instr::Pointer { at, .. } = frame.instr { at } else { 0 };
    if [frame.code, frame.previous, instr].iter().any(|at| !at.is_multiple_of(8)) {
        return Err(TargetError::inconsistent("_Py_DebugOffsets has frames that can't be"));
    }
    Ok(layout)
}

/// Kept for good, each once: layouts are few, and all that reads a process shares its.
fn kept(layout: Layout) -> Option<&'static Layout> {
    static KEPT: Mutex<Vec<&'static Layout>> = Mutex::new(Vec::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.iter().find(|known| ***known == layout) {
        return Some(known);
    }
    if kept.len() == MAX_KEPT {
        return None;
    }
    let new: &'static Layout = Box::leak(Box::new(layout));
    kept.push(new);
    Some(new)
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::testing::FakeMemory;

    const AT: u64 = 0x10_0000;

    fn hex(version: (u8, u8)) -> u32 {
        u32::from(version.0) << 24 | u32::from(version.1) << 16 | 0xf0
    }

    /// What an interpreter of a row's kind says.
    fn said(layout: &Layout) -> FakeMemory {
        let mut memory = FakeMemory::default();
        memory.map(AT, 0x1000);
        memory.write(AT, COOKIE);
        memory.put(AT + VERSION as u64, hex(layout.version).into());
        memory.put(AT + FREE_THREADED as u64, layout.free_threaded.into());
        let row = ROWS.iter().find(|row| row.version == layout.version).unwrap();
        let mut layout = *layout;
        for ((_, _, field), place) in FIELDS.iter().zip(row.places) {
            if let Some(value) = field(&mut layout) {
                memory.put(AT + place as u64, *value);
            }
        }
        memory
    }

    fn read(memory: &FakeMemory, version: (u8, u8)) -> Result<&'static Layout, TargetError> {
        layout_of(Pid(1), memory, Addr(AT), hex(version), "3")
    }

    #[test]
    fn a_plain_build_has_the_row_itself() {
        for version in [(3, 13), (3, 14), (3, 15)] {
            let row = layout::layout(version).unwrap();
            assert!(std::ptr::eq(read(&said(row), version).unwrap(), row), "{version:?}");
            let row = layout::free_threaded(version).unwrap();
            assert!(
                std::ptr::eq(read(&said(row), version).unwrap(), row),
                "{version:?} without a GIL"
            );
        }
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
        for (place, value) in
            [(0, 1), (8, 7), (40, 1 << 16), (320, 1 << 40), (320, 80), (328, 20), (408, 600)]
        {
            let mut memory = said(row);
            memory.put(AT + place, value);
            let refused = read(&memory, (3, 15));
            assert!(
                matches!(refused, Err(TargetError::Inconsistent { .. })),
                "{place}: {refused:?}"
            );
        }
    }
}
