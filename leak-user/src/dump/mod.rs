//! `leaktrace dump`: the Python stacks of all threads, read from the process's memory.
//!
//! Threads are read one after the other while they run; each stack for itself is one that the thread had.

mod stack;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::snapshot::dump::{Dump, Losses, SCHEMA, Target, Thread};
use crate::snapshot::{Frame, FrameKind};
use crate::symbolize::code::CodeCache;
use crate::target::memory::{Memory, ReadError};
use crate::target::process::{self, Task};
use crate::target::python::Interpreter;
use crate::target::{self, Process, TargetError, frames, threads};
use crate::units::{Addr, Pid, Tid};
use stack::Flaw;

/// Lists that change while they are read are read anew so often.
const TRIES: usize = 20;

/// A stack with a code object that can't be read is read anew so often.
const RESOLVE_TRIES: usize = 3;

/// Bytes that the names of all frames may take.
const MAX_TEXT: usize = 64 << 20;

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
}

/// A thread state, and what is known of its thread.
struct State {
    thread: threads::Thread,
    interpreter: i64,
    holds_gil: Option<bool>,
}

/// Reads all threads' stacks. Nothing is stopped, attached or written.
///
/// # Errors
/// [`DumpError`].
pub fn dump(pid: Pid) -> Result<Dump, DumpError> {
    let Process { exe, cmdline, memory, interpreter, .. } = target::open(pid)?;
    let python = &interpreter?;
    let (tasks, mut states) = states(pid, &memory, python)?;
    // Who holds the GIL is read first, as soon as possible after it was seen to hold it.
    states.sort_by_key(|state| state.holds_gil != Some(true));
    let mut reader = Reader {
        memory: &memory,
        python,
        codes: CodeCache::new(python.layout, python.code_type),
        room: MAX_TEXT,
        losses: Losses::default(),
    };
    let mut entries: BTreeMap<Tid, Vec<Thread>> = BTreeMap::new();
    for state in states {
        // It may have ended between the two lists.
        let Some(task) = tasks.get(&state.thread.native) else { continue };
        entries.entry(task.tid).or_default().push(reader.thread(&state, task)?);
    }
    for task in tasks.values() {
        entries.entry(task.tid).or_insert_with(|| vec![without_python(task)]);
    }
    entries.values_mut().for_each(tidy);
    // By tid, but the main thread first: ids may have wrapped around.
    let main = entries.remove(&Tid(pid.0)).unwrap_or_default();
    Ok(Dump {
        schema: SCHEMA.to_owned(),
        leaktrace: env!("CARGO_PKG_VERSION").to_owned(),
        target: Target { pid: pid.0, python: python.version.clone(), exe, cmdline },
        losses: reader.losses,
        threads: main.into_iter().chain(entries.into_values().flatten()).collect(),
    })
}

/// Drops the idle states of a thread that runs elsewhere; the newest interpreter first.
fn tidy(entries: &mut Vec<Thread>) {
    let idle = |entry: &Thread| entry.stack.is_empty() && entry.problem.is_none();
    if entries.iter().any(|entry| !idle(entry)) {
        entries.retain(|entry| !idle(entry));
    } else {
        entries.truncate(1);
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.interpreter));
}

fn without_python(task: &Task) -> Thread {
    Thread {
        tid: task.tid.0,
        name: task.name.clone(),
        ident: None,
        interpreter: None,
        holds_gil: Some(false),
        stack: Vec::new(),
        problem: None,
    }
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
    room: usize,
    losses: Losses,
}

impl<M: Memory> Reader<'_, M> {
    fn thread(&mut self, state: &State, task: &Task) -> Result<Thread, ReadError> {
        let (stack, problem) = self.stack(state.thread.state)?;
        Ok(Thread {
            tid: task.tid.0,
            name: task.name.clone(),
            ident: Some(state.thread.fs_base.0),
            interpreter: Some(state.interpreter),
            holds_gil: state.holds_gil,
            stack,
            problem,
        })
    }

    fn stack(&mut self, state: Addr) -> Result<(Vec<Frame>, Option<String>), ReadError> {
        let mut tries = 1..=RESOLVE_TRIES;
        loop {
            let last = tries.next().is_none_or(|number| number == RESOLVE_TRIES);
            let stack = stack::read(self.memory, self.python.layout, state)?;
            let known: Option<Vec<Frame>> =
                stack.frames.iter().map(|frame| self.resolve(*frame)).collect();
            let frames = match known {
                Some(frames) => frames,
                // A code object that is gone: the thread has left it.
                None if !last => continue,
                None => stack.frames.iter().map(|frame| self.resolve_or_count(*frame)).collect(),
            };
            return Ok(self.judged(frames, stack.flaw));
        }
    }

    fn resolve(&mut self, frame: frames::Frame) -> Option<Frame> {
        let code = self.codes.resolve(self.memory, frame.code)?;
        Some(Frame {
            kind: FrameKind::Python,
            function: code.function.to_string(),
            file: code.file.to_string(),
            line: code.line(frame.byte_offset),
            module: None,
            source: None,
        })
    }

    fn resolve_or_count(&mut self, frame: frames::Frame) -> Frame {
        self.resolve(frame).unwrap_or_else(|| {
            self.losses.unresolved_frames += 1;
            let unknown = || "?".to_owned();
            let (function, file) = (unknown(), unknown());
            Frame { kind: FrameKind::Python, function, file, line: 0, module: None, source: None }
        })
    }

    /// Cuts what there is no room for; counts and says what is missing.
    fn judged(
        &mut self,
        mut frames: Vec<Frame>,
        flaw: Option<Flaw>,
    ) -> (Vec<Frame>, Option<String>) {
        let fits = frames.iter().take_while(|frame| {
            let size = frame.function.len() + frame.file.len() + FRAME_BYTES;
            let left = self.room.checked_sub(size);
            self.room = left.unwrap_or(self.room);
            left.is_some()
        });
        let fits = fits.count();
        if fits < frames.len() {
            frames.truncate(fits);
            self.losses.stacks_truncated += 1;
            return (frames, Some("there was no room for its outermost frames".to_owned()));
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
                format!("it has more than {} frames: the outermost are missing", frames.len())
            }
            Some(Flaw::Unreadable) => {
                self.losses.stacks_unreadable += 1;
                "its frames could not be read".to_owned()
            }
        };
        (frames, Some(problem))
    }
}
