//! `leaktrace dump`: the stacks of all threads, read from the process's memory.
//!
//! Threads are read one after the other while they run; each stack for itself is one that the thread had.

mod native;
mod stack;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::probe::error::ProbeError;
use crate::snapshot;
use crate::snapshot::dump::{Dump, Losses, SCHEMA, Target, Thread};
use crate::symbolize::{
    code::CodeCache,
    merge::PyStack,
    stacks::{Frame, PyFrame},
    unwind::NativeStack,
};
use crate::target::kernel::KernelError;
use crate::target::memory::{Memory, ReadError};
use crate::target::process::{self, Task};
use crate::target::python::Interpreter;
use crate::target::{self, Process, TargetError, frames, threads};
use crate::units::{Pid, Tid};
use native::Natives;
use stack::{Flaw, Stack};

/// Lists that change while they are read are read anew so often.
const TRIES: usize = 20;

/// A stack with a code object that can't be read is read anew so often.
const RESOLVE_TRIES: usize = 3;

/// A thread that runs is looked at again so often, where compiled code's frames are asked for: it may wait by then.
const ROUNDS: usize = 10;

/// What is said of a stack that was cut.
const NO_ROOM: &str = "there was no room for its outermost frames";

/// Bytes that the names of all frames may take.
const MAX_TEXT: usize = 64 << 20;

/// Bytes that all frames may take while they are read.
const MAX_HELD: usize = 256 << 20;

/// Threads whose registers are read before their stacks are.
const AT_A_TIME: usize = 16;

/// What a frame takes beside its names.
const FRAME_BYTES: usize = 64;

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Not a process whose stacks can be read.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// It ended meanwhile, or may not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Registers can't be read on this kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The kernel refused the program that reads them.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// leaktrace doesn't know by which ids the kernel knows the threads.
    #[error("from within a pid namespace, compiled code's frames can't be had")]
    Within,
}

/// A thread state, and what is known of its thread.
#[derive(Clone, Copy)]
struct State {
    thread: threads::Thread,
    interpreter: i64,
    holds_gil: Option<bool>,
}

/// What is to be read: a thread in an interpreter, or one without Python.
struct Subject {
    task: Task,
    state: Option<State>,
}

/// What was read.
struct Reading {
    of: Subject,
    /// Python's frames, innermost first.
    frames: Vec<Frame>,
    /// See [`PyStack`].
    calls_c: Vec<bool>,
    flaw: Option<Flaw>,
    native: Native,
    /// What of [`MAX_HELD`] it takes.
    held: usize,
}

/// The calls of compiled code at the time that Python's frames were read.
enum Native {
    NotAsked,
    Found(NativeStack),
    /// The thread ran, or ended, each time.
    Ran,
    /// It is in several interpreters: which of them called what can't be told.
    Several,
}

impl Native {
    /// Why it isn't there, or not to the thread's start.
    fn problem(&self) -> Option<String> {
        let problem = match self {
            Self::NotAsked | Self::Found(NativeStack { whole: true, .. }) => return None,
            Self::Found(_) => "its compiled code can't be followed to its start",
            Self::Ran => {
                "it ran each time that it was looked at: compiled code's frames are had of threads that wait"
            }
            Self::Several => {
                "it is in several interpreters: which of them called what compiled code can't be told"
            }
        };
        Some(problem.to_owned())
    }
}

impl Reading {
    /// Nothing runs in this interpreter.
    fn is_idle(&self) -> bool {
        self.of.state.is_some() && self.frames.is_empty() && self.flaw.is_none()
    }
}

/// Reads all threads' stacks. Nothing is stopped, attached or written. `native`: with compiled code's frames, of the
/// threads that wait; then a program of the kernel's reads their registers (Linux 5.15, root).
///
/// # Errors
/// [`DumpError`].
pub fn dump(pid: Pid, native: bool) -> Result<Dump, DumpError> {
    let Process { exe, cmdline, memory, interpreter, .. } = target::open(pid)?;
    let python = &interpreter?;
    let mut natives = if native { Some(Natives::open(pid, python)?) } else { None };
    let subjects = subjects(pid, &memory, python)?;
    let mut reader = Reader {
        memory: &memory,
        python,
        codes: CodeCache::new(python.layout, python.code_type),
        room: MAX_TEXT,
        held: MAX_HELD,
        losses: Losses::default(),
    };
    let readings = readings(subjects, &mut reader, natives.as_mut())?;
    let mut entries: BTreeMap<Tid, Vec<Reading>> = BTreeMap::new();
    for reading in readings {
        entries.entry(reading.of.task.tid).or_default().push(reading);
    }
    entries.values_mut().for_each(tidy);
    // By tid, but the main thread first: ids may have wrapped around.
    let main = entries.remove(&Tid(pid.0)).unwrap_or_default();
    let all = main.into_iter().chain(entries.into_values().flatten());
    let threads = all.map(|reading| reader.thread(reading, natives.as_mut())).collect();
    Ok(Dump {
        schema: SCHEMA.to_owned(),
        leaktrace: env!("CARGO_PKG_VERSION").to_owned(),
        target: Target { pid: pid.0, python: python.version.clone(), exe, cmdline },
        losses: reader.losses,
        threads,
    })
}

/// Reads each, those with compiled code's frames anew where the thread ran meanwhile.
fn readings<M: Memory>(
    mut due: Vec<Subject>,
    reader: &mut Reader<'_, M>,
    mut natives: Option<&mut Natives>,
) -> Result<Vec<Reading>, DumpError> {
    let mut done = Vec::with_capacity(due.len());
    let rounds = if natives.is_some() { ROUNDS } else { 1 };
    for last in (0..rounds).map(|round| round + 1 == rounds) {
        let mut left = std::mem::take(&mut due).into_iter();
        // Some at a time: a thread that waits for the GIL wakes every few milliseconds.
        loop {
            let some: Vec<Subject> = left.by_ref().take(AT_A_TIME).collect();
            if some.is_empty() {
                break;
            }
            let waits = match &mut natives {
                Some(natives) => natives.waits(some.iter().map(|subject| &subject.task))?,
                None => HashMap::new(),
            };
            for subject in some {
                let mut reading = reader.read(subject)?;
                let tid = reading.of.task.tid;
                if let Some(natives) = &mut natives {
                    let wait = waits.get(&tid);
                    let stack = wait.and_then(|wait| natives.stack(reader.memory, tid, *wait));
                    reading.native = stack.map_or(Native::Ran, Native::Found);
                }
                if matches!(reading.native, Native::Ran) && !last {
                    reader.held += reading.held;
                    due.push(reading.of);
                } else {
                    done.push(reading);
                }
            }
        }
        if due.is_empty() {
            break;
        }
    }
    Ok(done)
}

/// Drops the idle states of a thread that runs elsewhere; the newest interpreter first. Which of them called what
/// compiled code can't be told.
fn tidy(readings: &mut Vec<Reading>) {
    if readings.iter().any(|reading| !reading.is_idle()) {
        readings.retain(|reading| !reading.is_idle());
    } else {
        readings.truncate(1);
    }
    readings.sort_by_key(|reading| Reverse(reading.of.state.map(|state| state.interpreter)));
    if readings.len() > 1 {
        for reading in readings.iter_mut().filter(|one| !matches!(one.native, Native::NotAsked)) {
            reading.native = Native::Several;
        }
    }
}

/// All threads, in each interpreter where they have a state.
fn subjects(
    pid: Pid,
    memory: &impl Memory,
    python: &Interpreter,
) -> Result<Vec<Subject>, DumpError> {
    let (mut tasks, mut states) = states(pid, memory, python)?;
    // Who holds the GIL is read first, as soon as possible after it was seen to hold it.
    states.sort_by_key(|state| state.holds_gil != Some(true));
    // A thread may have ended between the two lists.
    let subject = |state: State| {
        let task = tasks.get(&state.thread.native)?.clone();
        Some(Subject { task, state: Some(state) })
    };
    let mut subjects: Vec<Subject> = states.into_iter().filter_map(subject).collect();
    for Subject { task, .. } in &subjects {
        tasks.remove(&task.inner);
    }
    subjects.extend(tasks.into_values().map(|task| Subject { task, state: None }));
    Ok(subjects)
}

/// The process's threads by the ids that it gives them itself, and the thread states of all its
/// interpreters.
fn states(
    pid: Pid,
    memory: &impl Memory,
    python: &Interpreter,
) -> Result<(HashMap<u32, Task>, Vec<State>), DumpError> {
    let mut last = "";
    for _ in 0..TRIES {
        let tasks: HashMap<u32, Task> =
            process::tasks(pid)?.into_iter().map(|task| (task.inner, task)).collect();
        match states_of(memory, python, &tasks) {
            Ok(states) => return Ok((tasks, states)),
            Err(what) => last = what,
        }
    }
    process::status(pid)?;
    Err(TargetError::Inconsistent { what: last.to_owned() }.into())
}

fn states_of(
    memory: &impl Memory,
    python: &Interpreter,
    tasks: &HashMap<u32, Task>,
) -> Result<Vec<State>, &'static str> {
    let layout = python.layout;
    let tasks: HashSet<u32> = tasks.keys().copied().collect();
    let mut states = Vec::new();
    for interpreter in threads::interpreters(memory, layout, python.runtime)? {
        let id = threads::interpreter_id(memory, layout, interpreter)
            .map_err(|_| "an interpreter's id can't be read")?;
        let threads = threads::threads(memory, layout, interpreter, &tasks)?;
        let holder = threads::gil_holder(memory, layout, python.runtime, interpreter).ok();
        states.extend(threads.into_iter().map(|thread| State {
            thread,
            interpreter: id,
            holds_gil: holder.map(|holder| holder == Some(thread.state)),
        }));
    }
    Ok(states)
}

/// Reads stacks and names their frames.
struct Reader<'a, M> {
    memory: &'a M,
    python: &'a Interpreter,
    codes: CodeCache,
    /// What is left of [`MAX_TEXT`] …
    room: usize,
    /// … and of [`MAX_HELD`].
    held: usize,
    losses: Losses,
}

impl<M: Memory> Reader<'_, M> {
    /// Reads Python's frames.
    fn read(&mut self, of: Subject) -> Result<Reading, ReadError> {
        let mut tries = 1..=RESOLVE_TRIES;
        loop {
            let last = tries.next().is_none_or(|number| number == RESOLVE_TRIES);
            let stack = match of.state {
                Some(state) => stack::read(self.memory, self.python.layout, state.thread.state)?,
                None => Stack::default(),
            };
            let known: Option<Vec<Frame>> =
                stack.frames.iter().map(|frame| self.resolve(*frame)).collect();
            let frames = match known {
                Some(frames) => frames,
                // A code object that is gone: the thread has left it.
                None if !last => continue,
                None => stack.frames.iter().map(|frame| self.resolve_or_count(*frame)).collect(),
            };
            return Ok(self.held(of, frames, stack.calls_c, stack.flaw));
        }
    }

    /// Cuts what there is no room to hold.
    fn held(
        &mut self,
        of: Subject,
        mut frames: Vec<Frame>,
        mut calls_c: Vec<bool>,
        mut flaw: Option<Flaw>,
    ) -> Reading {
        let before = self.held;
        let fits = frames.iter().take_while(|frame| {
            let names = frame.python().map_or(0, |one| one.function.len() + one.file.len());
            let left = self.held.checked_sub(names + FRAME_BYTES);
            self.held = left.unwrap_or(self.held);
            left.is_some()
        });
        let fits = fits.count();
        if fits < frames.len() {
            frames.truncate(fits);
            calls_c.truncate(fits);
            flaw = Some(Flaw::NoRoom);
        }
        Reading { of, frames, calls_c, flaw, native: Native::NotAsked, held: before - self.held }
    }

    /// A thread as the dump shows it.
    fn thread(&mut self, reading: Reading, natives: Option<&mut Natives>) -> Thread {
        let Reading { of: Subject { task, state }, frames, calls_c, flaw, native, .. } = reading;
        let native_problem = native.problem();
        self.losses.native_stacks_missing += u64::from(native_problem.is_some());
        let depth = frames.len();
        let stack = match (natives, native) {
            (Some(natives), Native::Found(native)) => {
                let python = PyStack { frames: &frames, calls_c: &calls_c };
                natives.shown(&natives.merged(&native, python))
            }
            _ => frames.iter().filter_map(Frame::python).map(PyFrame::shown).collect(),
        };
        let (stack, problem) = self.judged(stack, depth, flaw);
        Thread {
            tid: task.tid.0,
            name: task.name,
            ident: state.map(|state| state.thread.fs_base.0),
            interpreter: state.map(|state| state.interpreter),
            holds_gil: state.map_or(Some(false), |state| state.holds_gil),
            stack,
            problem,
            native_problem,
        }
    }

    fn resolve(&mut self, frame: frames::Frame) -> Option<Frame> {
        let code = self.codes.resolve(self.memory, frame.code)?;
        let offset = frame.byte_offset(self.memory, &self.python.layout.frame).ok()?;
        Some(Frame::Python(Arc::new(PyFrame {
            function: Arc::clone(&code.function),
            file: Arc::clone(&code.file),
            line: code.line(offset),
        })))
    }

    fn resolve_or_count(&mut self, frame: frames::Frame) -> Frame {
        self.resolve(frame).unwrap_or_else(|| {
            self.losses.unresolved_frames += 1;
            Frame::Python(Arc::new(PyFrame { function: "?".into(), file: "?".into(), line: 0 }))
        })
    }

    /// Cuts what there is no room for; counts and says what is missing.
    fn judged(
        &mut self,
        mut frames: Vec<snapshot::Frame>,
        depth: usize,
        flaw: Option<Flaw>,
    ) -> (Vec<snapshot::Frame>, Option<String>) {
        let fits = frames.iter().take_while(|frame| {
            let module = frame.module.as_ref().map_or(0, String::len);
            let size = frame.function.len() + frame.file.len() + module + FRAME_BYTES;
            let left = self.room.checked_sub(size);
            self.room = left.unwrap_or(self.room);
            left.is_some()
        });
        let fits = fits.count();
        if fits < frames.len() {
            frames.truncate(fits);
            self.losses.stacks_truncated += 1;
            return (frames, Some(NO_ROOM.to_owned()));
        }
        let problem = match flaw {
            None => return (frames, None),
            Some(Flaw::Changed) => {
                self.losses.stacks_changed += 1;
                "it ran on each time that its stack was read: only the outer frames, which stayed, \
                 are known"
                    .to_owned()
            }
            Some(Flaw::Deep) => {
                self.losses.stacks_truncated += 1;
                format!("it has more than {depth} frames: the outermost are missing")
            }
            Some(Flaw::NoRoom) => {
                self.losses.stacks_truncated += 1;
                NO_ROOM.to_owned()
            }
            Some(Flaw::Unreadable) => {
                self.losses.stacks_unreadable += 1;
                "its frames could not be read".to_owned()
            }
        };
        (frames, Some(problem))
    }
}
