//! The interpreter: which mapped file holds it, its version, its runtime and its threads.
//!
//! Nothing is believed for its name alone: the structures must point to each other, and to the
//! process's threads, as they do in this version.

use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;

use super::debug_offsets;
use super::decode;
use super::error::TargetError;
use super::files::{Files, Loaded};
use super::frames;
use super::layout::{self, Layout};
use super::maps::Mapping;
use super::memory::{Memory, ProcessMemory};
use super::process;
use super::threads::{self, Thread};
use crate::units::{Addr, Pid};

/// Files looked into where neither a name nor the executable tells.
const MAX_FILES: usize = 256;
/// Frames followed on the search for one with a code object.
const MAX_FRAMES: usize = 64;
/// Reads of structures that the running target may be changing.
const TRIES: usize = 8;

/// The interpreter, validated.
#[derive(Debug)]
pub struct Interpreter {
    /// `3.11.7`.
    pub version: String,
    /// Where its structures are.
    pub layout: &'static Layout,
    /// The file that holds it.
    pub file: Rc<Loaded>,
    /// `_PyRuntime`.
    pub runtime: Addr,
    /// The main interpreter's `PyInterpreterState`.
    pub main: Addr,
    /// Its threads.
    pub threads: Vec<Thread>,
    /// `PyType_Type`.
    pub type_type: Addr,
    /// `PyCode_Type`.
    pub code_type: Addr,
    /// See [`Layout::free_listed`].
    pub free_listed: Vec<Addr>,
}

impl Interpreter {
    /// The code of its loop, in one part or more.
    #[must_use]
    pub fn interpreter_loop(&self) -> Vec<Range<Addr>> {
        self.file.code_parts("_PyEval_EvalFrameDefault")
    }
}

/// Finds the interpreter among the mapped files.
///
/// # Errors
/// [`TargetError`].
pub fn find(
    pid: Pid,
    files: &Files,
    memory: ProcessMemory,
    exe: &str,
) -> Result<Interpreter, TargetError> {
    let mut first_error = None;
    for mapping in candidates(files, exe) {
        let known = rank(mapping, exe) < 3;
        let examined = match files.open(mapping) {
            Ok(file) => examine(pid, file, memory),
            Err(e) if known => Err(e),
            Err(_) => Ok(None),
        };
        match examined {
            Ok(Some(interpreter)) => return Ok(interpreter),
            Ok(None) => {}
            Err(e) => _ = first_error.get_or_insert(e),
        }
    }
    Err(first_error.unwrap_or_else(|| TargetError::NotPython { pid, exe: exe.to_owned() }))
}

/// The likely files first: libpython, the executable, anything called python, the rest (a program
/// that embeds Python, or one started through the dynamic linker).
fn candidates<'a>(files: &'a Files, exe: &str) -> Vec<&'a Mapping> {
    let mut mappings: Vec<_> = files.with_code().take(MAX_FILES).collect();
    mappings.sort_by_key(|mapping| rank(mapping, exe));
    mappings
}

fn rank(mapping: &Mapping, exe: &str) -> u8 {
    let name = mapping.file_name();
    if name.starts_with("libpython3.") && name.contains(".so") {
        0
    } else if mapping.path == exe {
        1
    } else if name.starts_with("python") {
        2
    } else {
        3
    }
}

/// None: the file holds no CPython.
fn examine(
    pid: Pid,
    file: Rc<Loaded>,
    memory: ProcessMemory,
) -> Result<Option<Interpreter>, TargetError> {
    let section = || file.elf.section(".PyRuntime").map(|a| Addr(a).offset(file.module.bias));
    let Some(runtime) = file.exported("_PyRuntime").or_else(section) else { return Ok(None) };
    let wrong = |what: &str| {
        let what = what.to_owned();
        move |e| TargetError::read(pid, &what, e)
    };
    let Some(hex) = hex_version(&file, &memory, runtime) else {
        return Err(unsupported(version_in_name(file.module.path.as_str())));
    };
    let version = version_text(hex);
    let minor = ((hex >> 24) as u8, (hex >> 16) as u8);
    let layout = if minor >= (3, 13) {
        debug_offsets::layout_of(pid, &memory, runtime, hex, &version)?
    } else {
        layout::layout(minor).ok_or_else(|| unsupported(version.clone()))?
    };
    let symbol = |name: &str| {
        file.symbol(name).ok_or_else(|| TargetError::inconsistent(format!("it has no {name}")))
    };
    let (type_type, code_type) = (symbol("PyType_Type")?, symbol("PyCode_Type")?);
    if memory.pointer(code_type.offset(layout.object.class)).map_err(wrong("PyCode_Type"))?
        != type_type
    {
        return Err(TargetError::inconsistent("PyCode_Type is not a type"));
    }
    let main = main_interpreter(pid, memory, layout, runtime)?;
    let threads = live_threads(pid, memory, layout, main)?;
    check_code(memory, layout, &threads, code_type)?;
    let free_listed = layout.free_listed.iter().filter_map(|name| file.symbol(name)).collect();
    Ok(Some(Interpreter {
        version,
        layout,
        file,
        runtime,
        main,
        threads,
        type_type,
        code_type,
        free_listed,
    }))
}

/// A version whose layout is not known.
pub(super) fn unsupported(version: String) -> TargetError {
    let known: Vec<_> =
        layout::known_versions().map(|(major, minor)| format!("{major}.{minor}")).collect();
    TargetError::UnsupportedVersion { version, known: known.join(", ") }
}

/// `PY_VERSION_HEX` from the constant `Py_Version` (3.11 and later) or, where it is hidden, from
/// `_Py_DebugOffsets` (3.13 and later); before 3.11 from the text that `Py_GetVersion` returns.
fn hex_version(file: &Loaded, memory: &impl Memory, runtime: Addr) -> Option<u32> {
    let in_file = || {
        let address = file.elf.symbol("Py_Version")?.address;
        file.elf.bytes(address, 4).try_into().ok().map(u32::from_le_bytes)
    };
    let in_runtime = || {
        let mut cookie = [0; 8];
        memory.read(runtime, &mut cookie).ok()?;
        (cookie == *debug_offsets::COOKIE).then(|| memory.half(runtime.offset(8)).ok())?
    };
    let in_text = || {
        let (address, code) = file.code("Py_GetVersion")?;
        decode::references(&code, address.0).into_iter().find_map(|reference| {
            let mut text = [0; 16];
            memory.read(Addr(reference.address), &mut text).ok()?;
            parse_version(&text)
        })
    };
    in_file().or_else(in_runtime).or_else(in_text).filter(|hex| hex >> 24 == 3)
}

/// `3.10.13 (main, …` or `3.9.0rc1` as `PY_VERSION_HEX`.
fn parse_version(text: &[u8]) -> Option<u32> {
    let end = text.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(text.len());
    let text = std::str::from_utf8(text.get(..end)?).ok()?.trim_end_matches('+');
    let (numbers, release) = match text.find(|c: char| c.is_ascii_lowercase()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let mut parts = numbers.split('.').map(|part| part.parse::<u8>().ok());
    let (major, minor, micro) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() {
        return None;
    }
    let serial = |digits: &str| digits.parse::<u8>().ok().filter(|serial| *serial < 16);
    let level = match release {
        "" => 0xf0,
        _ => {
            let (level, digits) = [(0xa0, "a"), (0xb0, "b"), (0xc0, "rc")]
                .into_iter()
                .find_map(|(level, name)| Some((level, release.strip_prefix(name)?)))?;
            level | serial(digits)?
        }
    };
    Some(u32::from_be_bytes([major, minor, micro, level]))
}

/// `PY_VERSION_HEX` as Python writes it: `3.13.0`, `3.13.0rc1`.
fn version_text(hex: u32) -> String {
    let (major, minor, micro) = (hex >> 24, hex >> 16 & 0xff, hex >> 8 & 0xff);
    let level = match hex >> 4 & 0xf {
        0xa => "a",
        0xb => "b",
        0xc => "rc",
        _ => return format!("{major}.{minor}.{micro}"),
    };
    format!("{major}.{minor}.{micro}{level}{}", hex & 0xf)
}

/// Where nothing else tells the version.
fn version_in_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let after = name.split_once("python").map_or("", |(_, after)| after);
    let digits: String = after.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    match digits.trim_matches('.') {
        "" => "unknown version".to_owned(),
        version => version.to_owned(),
    }
}

/// `interpreters.main` follows `interpreters.head`, and the list that begins there leads to it.
fn main_interpreter(
    pid: Pid,
    memory: ProcessMemory,
    layout: &Layout,
    runtime: Addr,
) -> Result<Addr, TargetError> {
    let read = |addr| memory.pointer(addr).map_err(|e| TargetError::read(pid, "interpreters", e));
    let head = runtime.offset(layout.runtime.interpreters_head);
    let main = read(head.offset(8))?;
    if main.is_null() {
        return Err(TargetError::inconsistent("it has no main interpreter"));
    }
    let listed =
        threads::interpreters(&memory, layout, runtime).map_err(TargetError::inconsistent)?;
    if listed.contains(&main) {
        Ok(main)
    } else {
        Err(TargetError::inconsistent("the main interpreter is not in the list of interpreters"))
    }
}

/// The thread states of the main interpreter, each of a thread that the process has.
fn live_threads(
    pid: Pid,
    memory: ProcessMemory,
    layout: &Layout,
    main: Addr,
) -> Result<Vec<Thread>, TargetError> {
    let mut last = None;
    for _ in 0..TRIES {
        let tasks: HashSet<u32> = process::inner_thread_ids(pid)?.into_iter().collect();
        match threads::threads(&memory, layout, main, &tasks) {
            Ok(threads) => {
                let live: Vec<_> =
                    threads.into_iter().filter(|thread| tasks.contains(&thread.native)).collect();
                if !live.is_empty() {
                    return Ok(live);
                }
                last = Some("no thread state belongs to a thread of the process");
            }
            Err(what) => last = Some(what),
        }
    }
    process::status(pid)?;
    Err(TargetError::inconsistent(last.unwrap_or("no thread states")))
}

/// Where a thread runs Python code, the frame must lead to a code object.
fn check_code(
    memory: ProcessMemory,
    layout: &Layout,
    threads: &[Thread],
    code_type: Addr,
) -> Result<(), TargetError> {
    let mut saw_frame = false;
    for _ in 0..TRIES {
        for thread in threads.iter().take(MAX_FRAMES) {
            match innermost_code(&memory, layout, thread.state) {
                Some(code) if memory.pointer(code.offset(layout.object.class)) == Ok(code_type) => {
                    return Ok(());
                }
                Some(_) => saw_frame = true,
                None => {}
            }
        }
    }
    if saw_frame {
        Err(TargetError::inconsistent("no frame leads to a code object"))
    } else {
        Ok(())
    }
}

fn innermost_code(memory: &impl Memory, layout: &Layout, state: Addr) -> Option<Addr> {
    let innermost = memory.pointer(frames::current(memory, layout, state).ok()?).ok()?;
    let mut links = frames::links(memory, layout, innermost, MAX_FRAMES).map_while(Result::ok);
    links.find_map(|(_, link)| link.frame).map(|frame| frame.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_python_writes_them() {
        assert_eq!(version_text(0x030b_07f0), "3.11.7");
        assert_eq!(version_text(0x030d_00c2), "3.13.0rc2");
        assert_eq!(version_text(0x030c_00a1), "3.12.0a1");
        for (text, hex) in [
            ("3.8.18 (default, Nov", 0x0308_12f0),
            ("3.9.2+", 0x0309_02f0),
            ("3.10.0rc2", 0x030a_00c2),
        ] {
            assert_eq!(parse_version(text.as_bytes()), Some(hex), "{text}");
        }
        for text in ["", "3.9", "3.9.x", "GCC 12.2.0x", "3.10.0.1", "300.1.2", "3.1.0c99"] {
            assert_eq!(parse_version(text.as_bytes()), None, "{text}");
        }
        assert_eq!(version_in_name("/usr/lib/libpython3.10.so.1.0"), "3.10");
        assert_eq!(version_in_name("/usr/bin/python3.9"), "3.9");
        assert_eq!(version_in_name("/opt/app/server"), "unknown version");
    }
}
