//! What `/proc` says of a process as a whole.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::TargetError;
use super::maps::{self, Mapping};
use crate::units::{Bytes, Pid, Tid};

/// No file of `/proc` that is read here is longer in any honest process.
const MAX_FILE: u64 = 64 << 20;
/// `ARG_MAX` allows 2 MiB; a report has no use for more than this.
const MAX_CMDLINE: u64 = 64 << 10;
/// Threads looked at.
const MAX_TASKS: usize = 1 << 16;

/// A path under `/proc/PID`.
#[must_use]
pub fn proc_path(pid: Pid, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

fn read_up_to(path: &Path, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read(pid: Pid, name: &str) -> Result<String, TargetError> {
    read_up_to(&proc_path(pid, name), MAX_FILE).map_err(|e| TargetError::proc(pid, name, e))
}

/// A field of the text of `/proc/PID/status`, such as `Seccomp`.
#[must_use]
pub fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then(|| value.trim())
    })
}

/// The text of `/proc/PID/status`.
///
/// # Errors
/// [`TargetError::NoSuchProcess`], also for a process that has ended and was not yet reaped;
/// [`TargetError::IsThread`].
pub fn status(pid: Pid) -> Result<String, TargetError> {
    let status = read(pid, "status")?;
    if status_field(&status, "State").is_some_and(|state| state.starts_with(['Z', 'X'])) {
        return Err(TargetError::NoSuchProcess { pid });
    }
    match status_field(&status, "Tgid").and_then(|tgid| tgid.parse().ok()) {
        Some(process) if process != pid.0 => {
            Err(TargetError::IsThread { thread: pid, process: Pid(process) })
        }
        _ => Ok(status),
    }
}

/// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat` (proc(5)).
///
/// # Errors
/// [`TargetError::NoSuchProcess`].
pub fn start_ticks(pid: Pid) -> Result<u64, TargetError> {
    ticks_in(&read(pid, "stat")?)
        .ok_or_else(|| TargetError::inconsistent(format!("/proc/{pid}/stat has no start time")))
}

fn ticks_in(stat: &str) -> Option<u64> {
    stat_field(stat, 22)
}

/// A number of `/proc/PID/stat`, by its field's number in proc(5), from 3.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    // The second field is the name in parentheses, and may itself hold spaces and parentheses.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// Tells the program that a process runs from those that it ran before and will run: where its stack begins
/// (field 28), which differs by address space randomisation. None where it has ended.
#[must_use]
pub fn program_mark(pid: Pid) -> Option<u64> {
    stat_field(&read(pid, "stat").ok()?, 28)
}

/// The processes that it made and that live, threads' children included (`/proc/PID/task/*/children`, which
/// needs `CONFIG_PROC_CHILDREN`); none where it has ended.
#[must_use]
pub fn children(pid: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(proc_path(pid, "task")).into_iter().flatten().flatten();
    let listed = tasks
        .take(MAX_TASKS)
        .filter_map(|task| read_up_to(&task.path().join("children"), MAX_FILE).ok());
    listed
        .flat_map(|list| {
            list.split_ascii_whitespace()
                .filter_map(|pid| pid.parse().ok().map(Pid))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// All that descend from a process by living parents (field 4 of `/proc/*/stat`), with their parents.
#[must_use]
pub fn descendants(root: Pid) -> Vec<(Pid, Pid)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut by_parent: HashMap<Pid, Vec<Pid>> = HashMap::new();
    for entry in processes {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid)
        else {
            continue;
        };
        let parent = read(pid, "stat").ok().and_then(|stat| stat_field(&stat, 4));
        if let Some(parent) = parent.and_then(|parent| u32::try_from(parent).ok()) {
            by_parent.entry(Pid(parent)).or_default().push(pid);
        }
    }
    let mut open = vec![root];
    let mut found = Vec::new();
    while let Some(parent) = open.pop() {
        // Taken out, so that no circle (ids reused while reading) is walked twice.
        for child in by_parent.remove(&parent).unwrap_or_default() {
            found.push((child, parent));
            open.push(child);
        }
    }
    found
}

/// The name of its main thread, which is that of its program unless it chose another; at most 15 bytes, empty
/// where it has ended.
#[must_use]
pub fn name(pid: Pid) -> String {
    read(pid, "comm").map_or_else(|_| String::new(), |name| name.trim_end_matches('\n').to_owned())
}

/// What it has resident (`/proc/PID/statm`); None where it has ended.
#[must_use]
pub fn resident(pid: Pid) -> Option<Bytes> {
    let text = read(pid, "statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Bytes(pages.saturating_mul(4096)))
}

/// Its arguments; the first 64 KiB of them.
///
/// # Errors
/// [`TargetError::NoSuchProcess`].
pub fn cmdline(pid: Pid) -> Result<Vec<String>, TargetError> {
    let text = read_up_to(&proc_path(pid, "cmdline"), MAX_CMDLINE)
        .map_err(|e| TargetError::proc(pid, "cmdline", e))?;
    Ok(arguments(&text))
}

fn arguments(text: &str) -> Vec<String> {
    let text = text.strip_suffix('\0').unwrap_or(text);
    if text.is_empty() { Vec::new() } else { text.split('\0').map(str::to_owned).collect() }
}

/// The path of its executable as the target sees it; None for a kernel thread.
///
/// # Errors
/// [`TargetError::Forbidden`], [`TargetError::NoSuchProcess`].
pub fn exe(pid: Pid) -> Result<Option<String>, TargetError> {
    match fs::read_link(proc_path(pid, "exe")) {
        Ok(path) => {
            let path = path.to_string_lossy();
            Ok(Some(path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned()))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound && is_kernel_thread(pid)? => Ok(None),
        Err(e) => Err(TargetError::proc(pid, "exe", e)),
    }
}

/// kthreadd and its children.
fn is_kernel_thread(pid: Pid) -> Result<bool, TargetError> {
    const KTHREADD: u32 = 2;
    let status = status(pid)?;
    let parent = status_field(&status, "PPid").and_then(|parent| parent.parse().ok());
    let no_memory = status_field(&status, "VmSize").is_none();
    Ok(no_memory && (pid.0 == KTHREADD || parent == Some(KTHREADD)))
}

/// What it has mapped.
///
/// # Errors
/// [`TargetError::Forbidden`], [`TargetError::NoSuchProcess`].
pub fn mappings(pid: Pid) -> Result<Vec<Mapping>, TargetError> {
    read(pid, "maps").map(|text| maps::parse(&text))
}

/// A thread of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id in this process's pid namespace.
    pub tid: Tid,
    /// Its id as the process itself numbers it (in the innermost pid namespace).
    pub inner: u32,
    /// Its name, at most 15 bytes.
    pub name: String,
}

/// Its threads.
///
/// # Errors
/// [`TargetError::NoSuchProcess`].
pub fn tasks(pid: Pid) -> Result<Vec<Task>, TargetError> {
    let tasks =
        fs::read_dir(proc_path(pid, "task")).map_err(|e| TargetError::proc(pid, "task", e))?;
    // One that ends meanwhile is left out.
    let tasks = tasks.take(MAX_TASKS).filter_map(|task| {
        let task = task.ok()?;
        let read = |name| read_up_to(&task.path().join(name), MAX_FILE).ok();
        let (status, name) = (read("status")?, read("comm")?);
        Some(Task {
            tid: Tid(task.file_name().to_str()?.parse().ok()?),
            inner: inner_id(&status)?,
            name: name.strip_suffix('\n').unwrap_or(&name).to_owned(),
        })
    });
    Ok(tasks.collect())
}

/// Has a thread ended, even if it is still listed (as a main thread is that has called `pthread_exit`)?
#[must_use]
pub fn thread_has_ended(pid: Pid, tid: Tid) -> bool {
    let path = proc_path(pid, "task").join(tid.0.to_string()).join("status");
    let Ok(status) = read_up_to(&path, MAX_FILE) else { return true };
    status_field(&status, "State").is_none_or(|state| state.starts_with(['Z', 'X']))
}

/// The ids of its threads as the process itself numbers them (in the innermost pid namespace).
///
/// # Errors
/// [`TargetError::NoSuchProcess`].
pub fn inner_thread_ids(pid: Pid) -> Result<Vec<u32>, TargetError> {
    fs::metadata(proc_path(pid, "task")).map_err(|e| TargetError::proc(pid, "task", e))?;
    Ok(task_statuses(pid).filter_map(|status| inner_id(&status)).collect())
}

/// The texts of `/proc/PID/task/TID/status` of its threads; none where the process is gone.
pub fn task_statuses(pid: Pid) -> impl Iterator<Item = String> {
    let tasks = fs::read_dir(proc_path(pid, "task")).into_iter().flatten();
    tasks.take(MAX_TASKS).filter_map(|task| {
        // A thread that has ended meanwhile has none.
        read_up_to(&task.ok()?.path().join("status"), MAX_FILE).ok()
    })
}

/// How often a thread was switched away, and how often it was switched to, where the kernel counts that
/// (`CONFIG_SCHED_INFO`); None where it runs, or is about to, or is gone. A thread of which it says the same twice
/// has not run in between, but for one that was about to wait the first time.
#[must_use]
pub fn switches_of_waiting(pid: Pid, tid: Tid) -> Option<(u64, u64)> {
    let read =
        |name: &str| read_up_to(&proc_path(pid, &format!("task/{}/{name}", tid.0)), MAX_FILE).ok();
    let status = read("status")?;
    let count = |name| status_field(&status, name)?.parse::<u64>().ok();
    let waits = status_field(&status, "State")?.starts_with(['S', 'D', 'T', 't', 'I']);
    let away = count("voluntary_ctxt_switches")?.wrapping_add(count("nonvoluntary_ctxt_switches")?);
    // Time run, time waited, how often.
    let to = read("schedstat").and_then(|text| text.split_whitespace().nth(2)?.parse().ok());
    waits.then_some((away, to.unwrap_or(0)))
}

/// The id by which a process or thread knows itself, from its status: the last of `NSpid`'s numbers, which go
/// from the reader's pid namespace inwards.
#[must_use]
pub fn inner_id(status: &str) -> Option<u32> {
    status_field(status, "NSpid")?.split_ascii_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_start_time() {
        let stat = "7 (a) R (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        assert_eq!(ticks_in(stat), Some(4242));
        assert_eq!(ticks_in("7 (a"), None);
    }

    #[test]
    fn children_and_their_children_are_found() {
        let mut shell = std::process::Command::new("sh");
        // Its line comes when the child has become the other program.
        let script = "sleep 60 & until grep -qx sleep /proc/$!/comm; do :; done; echo; wait";
        let shell = shell.args(["-c", script]);
        let mut shell = shell.stdout(std::process::Stdio::piped()).spawn().expect("a shell");
        let mut line = [0];
        shell.stdout.take().expect("its output").read_exact(&mut line).expect("its line");
        let (own, made) = (Pid(std::process::id()), Pid(shell.id()));
        let found = descendants(own);
        assert!(found.contains(&(made, own)), "{found:?}");
        let (sleep, _) = *found.iter().find(|(_, parent)| *parent == made).expect("its child");
        assert_eq!(children(made), [sleep]);
        assert!(resident(sleep) > Some(Bytes(0)));
        assert_ne!(program_mark(sleep), program_mark(made));
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(sleep.0.cast_signed()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .expect("its end");
        shell.wait().expect("the shell's end");
    }

    #[test]
    fn arguments_may_be_empty() {
        assert_eq!(arguments("python\0-c\0\0x\0"), ["python", "-c", "", "x"]);
        assert!(arguments("").is_empty());
    }

    #[test]
    fn status_fields() {
        let text = "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(status_field(text, "Seccomp"), Some("2"));
        assert_eq!(status_field(text, "CapEff"), None);
    }

    #[test]
    fn this_process() {
        let pid = Pid(std::process::id());
        assert!(start_ticks(pid).expect("own stat") > 0);
        assert!(inner_thread_ids(pid).expect("own tasks").contains(&pid.0));
        let tasks = tasks(pid).expect("own tasks");
        let main = tasks.iter().find(|task| task.tid == Tid(pid.0)).expect("the main thread");
        assert!(!main.name.is_empty() && !main.name.contains('\n'));
        assert_eq!(
            exe(pid).expect("own exe").as_deref(),
            std::env::current_exe().expect("own exe").to_str()
        );
    }
}
