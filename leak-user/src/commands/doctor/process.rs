//! What is known of one process before anything is placed on it.

use std::path::Path;

use super::check::{Check, Process, State};
use super::machine::{field, read, release, returns_by_syscall};
use super::points;
use super::{Instruments, programs};
use crate::cli::ExitStatus;
use crate::commands::limit::memory_limit;
use crate::target::{AllocatorKind, Heap, Python};
use crate::units::{Bytes, Pid};

/// All checks of a process.
pub(super) fn checks(root: &Path, pid: Pid, instruments: Instruments) -> Process {
    let Some(status) = read(root, &format!("proc/{pid}/status")) else {
        let check = Check::missing("process", format!("there is no process {pid}"))
            .advice("`pgrep -a python` lists those that run Python");
        let status = ExitStatus::Unsuitable;
        let (points, programs) = (Vec::new(), Vec::new());
        return Process { pid, checks: vec![check], points, programs, status };
    };
    let mut checks =
        vec![process(&status), limit(memory_limit(root, pid)), filter(&status, &release(root))];
    let mut end = ExitStatus::Done;
    let (mut points, mut verified) = (Vec::new(), Vec::new());
    match instruments.discover.map(|discover| discover(pid)) {
        Some(Ok(target)) => {
            match &target.python {
                Ok(found) => checks.extend(python(found)),
                Err(unknown) => {
                    let found = format!("CPython {}: {unknown}", target.version());
                    let advice = "growth is told by what compiled code maps and allocates";
                    checks.push(Check::note("Python", found).advice(advice));
                }
            }
            checks.push(heap(target.heap.as_ref()));
            checks.extend(target.python.as_ref().map(|p| coverage(p, target.heap.as_ref())).ok());
            let (check, found) = points::points(&target);
            let placed = check.state != State::Missing;
            if !placed {
                end = ExitStatus::Unsuitable;
            }
            checks.push(check);
            points = found;
            let verify = instruments.verify.filter(|_| placed);
            let (check, found) = programs::programs(&target, verify);
            if check.state == State::Missing {
                end = ExitStatus::Unavailable;
            }
            checks.push(check);
            checks.extend(programs::system_calls(&found));
            verified = found;
        }
        Some(Err(error)) => {
            let check = Check::missing("Python", error.message());
            checks.push(match error.way_out() {
                Some(way_out) => check.advice(way_out),
                None => check,
            });
            end = error.status();
        }
        None => checks.push(Check::note("Python", "not looked for by this build")),
    }
    Process { pid, checks, points, programs: verified, status: end }
}

fn process(status: &str) -> Check {
    let name = field(status, "Name").unwrap_or("?");
    let threads = match field(status, "Threads") {
        Some("1") => "1 thread".to_owned(),
        Some(threads) => format!("{threads} threads"),
        None => "an unknown number of threads".to_owned(),
    };
    // NSpid lists the id in each namespace of processes, from ours to its own.
    let inner = field(status, "NSpid").and_then(|ids| ids.split_whitespace().nth(1));
    let place = inner.map_or_else(String::new, |id| format!(", in a container as {id}"));
    Check::ok("process", format!("{name}, {threads}{place}"))
}

fn limit(limit: Option<Bytes>) -> Check {
    const NAME: &str = "memory limit";
    Check::ok(NAME, limit.map_or_else(|| "none seen".to_owned(), |limit| limit.to_string()))
}

fn filter(status: &str, release: &str) -> Check {
    const NAME: &str = "seccomp";
    match field(status, "Seccomp") {
        None | Some("0") => Check::ok(NAME, "no filter"),
        Some(_) if returns_by_syscall(release) => {
            Check::note(NAME, "filtered, on a kernel whose return probes may kill it").advice(
                "none are placed: probes on the heap cost more, so that fewer calls are seen",
            )
        }
        Some(_) => Check::ok(NAME, "filtered, which does not matter on this kernel"),
    }
}

fn python(python: &Python) -> [Check; 3] {
    let kind = match python.allocators.kind {
        AllocatorKind::Pymalloc => "pymalloc",
        AllocatorKind::Malloc => "malloc (PYTHONMALLOC=malloc)",
        AllocatorKind::Other => "one that is not known (mimalloc, or an extension's)",
    };
    let allocator = if python.allocators.hooks.is_empty() {
        Check::ok("allocator", kind)
    } else {
        Check::note(
            "allocator",
            format!("{kind}, behind {}", python.allocators.hooks.join(" and ")),
        )
    };
    [
        Check::ok("Python", format!("CPython {}, structures known", python.version)),
        Check::ok("module", format!("{}, _PyRuntime at {}", python.module.path, python.runtime)),
        allocator,
    ]
}

fn heap(heap: Option<&Heap>) -> Check {
    const NAME: &str = "C heap";
    match heap {
        Some(heap) => Check::ok(NAME, format!("{} ({})", heap.name, heap.path)),
        None => Check::note(NAME, "not found: what C code allocates is seen as a whole only"),
    }
}

fn coverage(python: &Python, heap: Option<&Heap>) -> Check {
    const NAME: &str = "coverage";
    let c = if heap.is_some() { "C heap too" } else { "not the C heap" };
    match (python.allocators.kind, python.pymalloc) {
        (AllocatorKind::Pymalloc, Some(_)) => Check::ok(
            NAME,
            format!("Python's allocations, checked against the allocator's own counts; {c}"),
        ),
        (AllocatorKind::Pymalloc, None) => Check::note(
            NAME,
            format!("Python's allocations, but the allocator's own counts were not found; {c}"),
        ),
        (AllocatorKind::Malloc, _) => Check::note(
            NAME,
            format!("Python's allocations, without counts to check them against; {c}"),
        ),
        (AllocatorKind::Other, _) => Check::new(
            NAME,
            State::Note,
            format!("Python's allocations, how many cannot be told; {c}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::CliError;
    use std::fs;

    fn with_process(status: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/7")).unwrap();
        fs::write(root.path().join("proc/7/status"), status).unwrap();
        root
    }

    #[test]
    fn no_such_process() {
        let root = tempfile::tempdir().unwrap();
        let process = checks(root.path(), Pid(7), Instruments::default());
        assert_eq!(process.status.code(), 4);
        assert_eq!(process.checks[0].found, "there is no process 7");
    }

    #[test]
    fn one_that_is_not_python() {
        let root = with_process("Name:\tbash\nNSpid:\t7\t1\nThreads:\t1\nSeccomp:\t2\n");
        let discover = |pid| {
            let reason = anyhow::anyhow!("process {pid} is not CPython");
            Err(CliError::new(ExitStatus::Unsuitable, reason).hint("give the interpreter's pid"))
        };
        let instruments = Instruments { discover: Some(discover), ..Instruments::default() };
        let process = checks(root.path(), Pid(7), instruments);
        assert_eq!(process.status.code(), 4);
        assert_eq!(process.checks[0].found, "bash, 1 thread, in a container as 1");
        let last = process.checks.last().unwrap();
        assert_eq!((last.state, last.found.as_str()), (State::Missing, "process 7 is not CPython"));
        assert_eq!(last.advice.as_deref(), Some("give the interpreter's pid"));
    }

    #[test]
    fn filters_matter_on_some_kernels() {
        assert_eq!(filter("Seccomp:\t2", "6.12.1").state, State::Note);
        assert_eq!(filter("Seccomp:\t2", "6.18.1").state, State::Ok);
        assert_eq!(filter("Seccomp:\t0", "6.12.1").state, State::Ok);
    }
}
