//! Stacks as leaktrace sees them and as the interpreter itself does (`programs/stacks.py`).

use crate::interpreter::Interpreter;
use crate::leaktrace;
use crate::program;
use crate::target::Target;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::Duration;

/// Frames that the kernel side follows (`leak_common::MAX_FRAMES`).
pub const WALKED: usize = 128;

/// Mappings smaller than the program's are not looked for.
const MIN_SIZE: &str = "200k";

/// Between two rounds of mappings: leaktrace samples them where there are more than 100 a second.
const PACE: Duration = Duration::from_secs(1);

/// One frame: function, file, line.
pub type Frame = (String, String, u64);

/// A thread's stack in one interpreter, as that interpreter sees it.
#[derive(Debug, Clone)]
pub struct Truth {
    /// What kind of stack it is.
    pub kind: String,
    /// Its id, as this process sees it.
    pub tid: u64,
    /// Python's id of it, where it is known.
    pub ident: Option<u64>,
    /// The interpreter.
    pub interpreter: i64,
    /// Does it map memory in its innermost frame when told to?
    pub maps: bool,
    /// From the innermost frame outwards.
    pub stack: Vec<Frame>,
}

/// How many frames were as they should be.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// Frames that the interpreter tells of.
    pub frames: usize,
    /// Those of them that were found, in the right place.
    pub equal: usize,
    /// What was not as it should be, a line each.
    pub differences: Vec<String>,
}

impl Comparison {
    /// `2480 of 2480`.
    pub fn counts(&self) -> String {
        format!("{} of {}", self.equal, self.frames)
    }

    /// Is all as it should be, and is there anything?
    pub fn is_whole(&self) -> bool {
        self.frames > 0 && self.equal == self.frames && self.differences.is_empty()
    }

    /// Compares one stack, innermost frame first; None where the thread was not found.
    pub(crate) fn add(&mut self, kind: &str, truth: &[Frame], found: Option<&[Frame]>) {
        self.frames += truth.len();
        let Some(found) = found else {
            self.differences.push(format!("{kind}: not found"));
            return;
        };
        self.equal += truth.iter().zip(found).filter(|(truth, found)| truth == found).count();
        if truth != found {
            let at = truth.iter().zip(found).position(|(truth, found)| truth != found);
            let at = at.unwrap_or(truth.len().min(found.len()));
            self.differences.push(format!(
                "{kind}: frame {at} of {} is {:?}, found {:?} of {}",
                truth.len(),
                truth.get(at),
                found.get(at),
                found.len()
            ));
        }
    }
}

/// Starts a program that says its threads' stacks once it is ready.
///
/// # Errors
/// If it doesn't come up.
pub fn start(python: &Interpreter, program: &str) -> Result<(Target, Vec<Truth>)> {
    start_with(python, program, &[])
}

/// The same with arguments.
///
/// # Errors
/// If it doesn't come up.
pub fn start_with(
    python: &Interpreter,
    program: &str,
    args: &[&str],
) -> Result<(Target, Vec<Truth>)> {
    let target = Target::start(python, &program::directory().join(program), args)?;
    let truth = truth(&target, target.pid())?;
    Ok((target, truth))
}

/// What a program said of its threads. `pid` is its process, which may be in another pid namespace.
///
/// # Errors
/// If it said no such thing.
pub fn truth(target: &Target, pid: u32) -> Result<Vec<Truth>> {
    let said: Value = serde_json::from_str(target.ready())?;
    let ids = thread_ids(pid)?;
    let thread = |thread: &Value| {
        let inner = thread["tid"].as_u64().context("no tid")?;
        Ok(Truth {
            kind: thread["kind"].as_str().unwrap_or("thread").to_owned(),
            tid: *ids.get(&inner).with_context(|| format!("no thread {inner} in {pid}"))?,
            ident: None,
            interpreter: thread["interpreter"].as_i64().unwrap_or(0),
            maps: thread["maps"].as_bool().unwrap_or(false),
            stack: frames(&thread["stack"]),
        })
    };
    said["threads"].as_array().context("no threads")?.iter().map(thread).collect()
}

/// The process's threads: the id that it knows each by → the one that we know it by.
fn thread_ids(pid: u32) -> Result<HashMap<u64, u64>> {
    let mut ids = HashMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let numbers = line.context("no NSpid")?.split_whitespace().map(str::parse);
        let numbers: Vec<u64> = numbers.collect::<Result<_, _>>()?;
        if let (Some(ours), Some(theirs)) = (numbers.first(), numbers.last()) {
            ids.insert(*theirs, *ours);
        }
    }
    Ok(ids)
}

/// The Python frames of a stack of a report.
pub fn frames(stack: &Value) -> Vec<Frame> {
    let text = |value: &Value| value.as_str().unwrap_or("no text").to_owned();
    let stack = stack.as_array().map_or(&[][..], Vec::as_slice);
    stack
        .iter()
        .filter(|frame| frame["kind"] != "native")
        .map(|frame| {
            (text(&frame["function"]), text(&frame["file"]), frame["line"].as_u64().unwrap_or(0))
        })
        .collect()
}

/// Runs `leaktrace dump --format json`.
///
/// # Errors
/// If it fails or prints no dump.
pub fn dump(pid: u32) -> Result<Value> {
    dumped(&["dump", "--pid", &pid.to_string(), "--format", "json"])
}

/// The same with compiled code's frames.
///
/// # Errors
/// As [`dump`].
pub fn dump_native(pid: u32) -> Result<Value> {
    dumped(&["dump", "--native", "--pid", &pid.to_string(), "--format", "json"])
}

fn dumped(arguments: &[&str]) -> Result<Value> {
    let outcome = leaktrace::run(arguments)?;
    if outcome.code != Some(0) {
        bail!("{outcome:?}");
    }
    outcome.report()
}

/// Did the dump give the whole of a thread's stack?
pub fn is_whole(thread: &Value) -> bool {
    thread["problem"].is_null()
}

/// Is every stack in the dump as it should be, and no other?
pub fn compare_dump(truth: &[Truth], dump: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    let threads = dump["threads"].as_array().map_or(&[][..], Vec::as_slice);
    for thread in truth {
        let entries: Vec<&Value> = threads
            .iter()
            .filter(|entry| {
                entry["tid"] == thread.tid && entry["interpreter"] == thread.interpreter
            })
            .collect();
        let found = entries.first().map(|entry| frames(&entry["stack"]));
        comparison.add(&thread.kind, &thread.stack, found.as_deref());
        if entries.len() > 1 {
            comparison.differences.push(format!("{}: {} times", thread.kind, entries.len()));
        }
    }
    let known = |entry: &Value| truth.iter().any(|thread| entry["tid"] == thread.tid);
    for entry in threads.iter().filter(|entry| !known(entry) || !is_whole(entry)) {
        comparison.differences.push(format!("not as it should be: {entry}"));
    }
    comparison
}

/// The threads with the stacks that the dump shows for them.
pub fn as_dumped(truth: &[Truth], dump: &Value) -> Vec<Truth> {
    let threads = dump["threads"].as_array().map_or(&[][..], Vec::as_slice);
    let dumped = |thread: &Truth| {
        let of_thread = |entry: &&Value| {
            entry["tid"] == thread.tid && entry["interpreter"] == thread.interpreter
        };
        let entry = threads.iter().find(of_thread).unwrap_or(&Value::Null);
        let (ident, stack) = (entry["ident"].as_u64(), frames(&entry["stack"]));
        Truth { ident, stack, ..thread.clone() }
    };
    truth.iter().map(dumped).collect()
}

/// The lines of a program whose every line that calls one of its functions names it
/// (`programs/busy_stacks.py`): so a stack of it is either possible or not.
#[derive(Debug)]
pub struct Possible {
    file: &'static str,
    lines: Vec<String>,
}

impl Possible {
    /// Reads the program.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn open(file: &'static str) -> Result<Self> {
        let text = fs::read_to_string(program::directory().join(file))?;
        Ok(Self { file, lines: text.lines().map(str::to_owned).collect() })
    }

    /// What of a stack, or of its outer part, can't be.
    pub fn contradiction(&self, stack: &[Frame]) -> Option<String> {
        let outermost = ["<module>", "_bootstrap", "Thread._bootstrap"];
        if let Some((function, _, line)) = stack.last()
            && !outermost.contains(&function.as_str())
        {
            return Some(format!("nothing called {function}, line {line}"));
        }
        stack.windows(2).find_map(|pair| {
            let [(callee, callee_file, _), (_, file, line)] = pair else { return None };
            // Lines of the library aren't written so.
            if ![file, callee_file].iter().all(|file| file.ends_with(self.file)) {
                return None;
            }
            let text = self.lines.get(usize::try_from(*line).ok()?.checked_sub(1)?);
            let calls = text.is_some_and(|text| text.contains(&format!("{callee}(")));
            (!calls).then(|| format!("{callee} called from line {line}: {text:?}"))
        })
    }
}

/// Observes the program while its threads map memory, and returns the report.
///
/// # Errors
/// If leaktrace or the program fails.
pub fn observe_mappings(target: &mut Target, seconds: u32) -> Result<Value> {
    let (pid, duration) = (target.pid().to_string(), format!("{seconds}s"));
    let arguments =
        ["--pid", &pid, "--duration", &duration, "--format", "json", "--min-size", MIN_SIZE];
    let outcome = thread::scope(|scope| {
        let observation = scope.spawn(|| leaktrace::run(&arguments));
        while !observation.is_finished() {
            target.tell("map\n")?;
            target.line(Duration::from_secs(60))?;
            thread::sleep(PACE);
        }
        observation.join().unwrap_or_else(|_| bail!("the observation panicked"))
    })?;
    if outcome.code != Some(0) {
        bail!("{outcome:?}");
    }
    outcome.report()
}

/// Is there a site of mappings for each stack that maps memory, as far as the kernel side walks?
pub fn compare_sites(truth: &[Truth], report: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    let sites: Vec<Vec<Frame>> = ["leaks", "sites"]
        .iter()
        .filter_map(|list| report[*list].as_array())
        .flatten()
        .filter(|site| site["domain"] == "mmap")
        .map(|site| frames(&site["stack"]))
        .collect();
    for thread in truth.iter().filter(|thread| thread.maps) {
        let expected = &thread.stack[..thread.stack.len().min(WALKED)];
        // Where none is equal, the one that agrees in most frames tells what is wrong.
        let agreement = |site: &&Vec<Frame>| {
            let outer = site.iter().rev().zip(expected.iter().rev());
            let inner = site.iter().zip(expected);
            let outer = outer.take_while(|(one, other)| one == other).count();
            (*site == expected, outer + inner.take_while(|(one, other)| one == other).count())
        };
        let nearest = sites.iter().max_by_key(agreement);
        comparison.add(&thread.kind, expected, nearest.map(Vec::as_slice));
    }
    comparison
}
