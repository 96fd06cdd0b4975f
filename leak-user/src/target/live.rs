//! Discovery against real interpreters: those installed by pyenv and by the system.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::memory::Memory;
use super::privileges::Capability;
use super::*;

/// Runs until its standard input closes, after one line of facts about itself.
const PROGRAM: &str = r#"
import os, sys, threading
if "fork" in sys.argv and os.fork():
    os._exit(0 if os.wait()[1] == 0 else 1)
if "tracemalloc" in sys.argv:
    import tracemalloc
    tracemalloc.start()
running = threading.Event()
def wait():
    running.set()
    threading.Event().wait()
thread = threading.Thread(target=wait, daemon=True)
thread.start()
running.wait()
kept = [object() for _ in range(20000)]
print(os.getpid(), sys.version.split()[0], id(kept[-1]), threading.get_ident(),
      threading.get_native_id(), thread.ident, thread.native_id, sys.getallocatedblocks(), flush=True)
sys.stdin.read()
"#;

/// An installed interpreter.
#[derive(Debug, Clone)]
pub struct Installed {
    pub path: PathBuf,
}

/// How the program is started.
#[derive(Debug, Default, Clone, Copy)]
pub struct Script {
    pub malloc: Option<&'static str>,
    pub argument: Option<&'static str>,
}

/// A running program and what it says of itself.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    facts: Vec<String>,
}

/// Those of the supported versions; says so where there is none.
pub fn interpreters() -> Vec<Installed> {
    installed(&[8, 9, 10, 11, 12, 13])
}

fn installed(minors: &[u8]) -> Vec<Installed> {
    let root = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv")));
    let versions = root.map(|root| root.join("versions")).and_then(|v| v.read_dir().ok());
    let mut folders: Vec<_> = versions.into_iter().flatten().flatten().map(|v| v.path()).collect();
    folders.push("/usr".into());
    let mut found = Vec::new();
    for minor in minors {
        let name = format!("bin/python3.{minor}");
        let before = found.len();
        found.extend(
            folders
                .iter()
                .map(|f| f.join(&name))
                .filter(|p| p.exists())
                .map(|path| Installed { path }),
        );
        if found.len() == before {
            println!("skipped: no CPython 3.{minor}");
        }
    }
    found
}

impl Installed {
    /// 3.11 (statics) built with its symbols, as pyenv builds it.
    pub fn has_statics_and_symbols(&self) -> bool {
        self.path.ends_with("python3.11") && !self.path.starts_with("/usr")
    }

    pub fn spawn(&self, script: &Script) -> Running {
        start(&mut Command::new(&self.path), script)
    }
}

fn start(command: &mut Command, script: &Script) -> Running {
    command.args(["-c", PROGRAM]).args(script.argument).env_remove("PYTHONMALLOC");
    command.envs(script.malloc.map(|name| ("PYTHONMALLOC", name)));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("an interpreter");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let facts: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    assert_eq!(facts.len(), 8, "{line}");
    Running { stdin: child.stdin.take(), child, facts }
}

impl Running {
    fn number(&self, index: usize) -> u64 {
        self.facts[index].parse().expect("a number")
    }

    pub fn pid(&self) -> Pid {
        Pid(self.number(0) as u32)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Already gone is as good.
        _ = self.child.wait();
    }
}

fn known(target: &Target) -> &Python {
    target.python.as_ref().expect("a version that is known")
}

/// Checks all that the program can tell us.
fn check(running: &Running, target: &Target) {
    assert_eq!(target.pid, running.pid());
    assert_eq!(known(target).version, running.facts[1]);
    assert_eq!(target.cmdline[1], "-c");
    let memory = target.memory;
    let slot = known(target).thread_slot;
    for (ident, native) in [(3, 4), (5, 6)] {
        let fs_base = Addr(running.number(ident));
        let state = tss::state(&memory, slot, fs_base).expect("a slot");
        if let Some(at) = known(target).layout.thread.native_thread_id {
            let id = memory.word(state.offset(at)).expect("a thread state");
            assert_eq!(id, running.number(native));
        }
    }
    let functions = [&known(target).allocators.object, &known(target).allocators.raw]
        .into_iter()
        .flat_map(|f| [&f.malloc, &f.calloc, &f.realloc, &f.free]);
    let heap = target.heap.as_ref().expect("a C library");
    for function in functions.chain(heap.entry_points.iter().map(|e| &e.function)) {
        assert!(function.code.len() >= 4, "{function:x?}");
        // Without probes the file and the memory agree.
        let mut live = vec![0; function.code.len()];
        memory.read(function.addr, &mut live).expect("code");
        assert_eq!(live, function.code);
        let mut file = vec![0; live.len()];
        let opened = std::fs::File::open(&function.open_path).expect("the file");
        std::os::unix::fs::FileExt::read_exact_at(&opened, &mut file, function.file_offset)
            .expect("code");
        assert_eq!(file, live);
    }
    assert!(heap.name.starts_with("glibc 2.") && heap.glibc, "{}", heap.name);
    assert!(heap.entry_points.iter().any(|entry_point| entry_point.role == Role::PosixMemalign));
    assert_eq!(memory.pointer(known(target).code_type.offset(8)), Ok(known(target).type_type));
}

/// pymalloc's state against `sys.getallocatedblocks()` and the address of an `object()`.
fn check_pymalloc(running: &Running, target: &Target, blocks: std::ops::RangeInclusive<f64>) {
    assert_eq!(known(target).allocators.kind, AllocatorKind::Pymalloc);
    let found = known(target).pymalloc.expect("pymalloc");
    let memory = target.memory;
    let array = memory.pointer(found.arenas).expect("arenas");
    let count = memory.half(found.maxarenas).expect("maxarenas");
    let object = running.number(2);
    let (mut live, mut holds_object) = (0_u64, false);
    for arena in (0..u64::from(count)).map(|index| array.offset(index * 48)) {
        let start = memory.word(arena).expect("an arena");
        if start == 0 {
            continue;
        }
        holds_object |= (start..start + found.arena_size).contains(&object);
        let carved = memory.word(arena.offset(8)).expect("an arena");
        let mut pool = start.next_multiple_of(found.pool_size);
        while pool < carved {
            live += u64::from(memory.half(Addr(pool)).expect("a pool"));
            pool += found.pool_size;
        }
    }
    assert!(holds_object);
    let share = live as f64 / running.number(7) as f64;
    println!("{} {}: {live} blocks, share {share:.4}", target.exe, known(target).version);
    if known(target).layout.interpreter.obmalloc != layout::Obmalloc::Statics {
        // `raw_allocated_blocks`: those that the C library serves.
        let raw = memory.word(found.usedpools.offset(1088)).expect("a count");
        assert!((live + raw).abs_diff(running.number(7)) < 100, "{live} + {raw}");
    }
    assert!(blocks.contains(&share), "{share}");
    let usable = found.usable_arenas.expect("usable_arenas");
    // NULL where all arenas are full.
    let usable = memory.pointer(usable).expect("usable_arenas");
    let into = usable.0.wrapping_sub(array.0);
    assert!(usable.is_null() || into < u64::from(count) * 48 && into.is_multiple_of(48));
}

fn discovered(running: &Running) -> Target {
    let target = discover(running.pid()).expect("a Python process");
    check(running, &target);
    target
}

/// All but the blocks over 512 bytes, which the C library serves.
const NEARLY_ALL: std::ops::RangeInclusive<f64> = 0.95..=1.01;

#[test]
fn default_allocators() {
    for python in interpreters() {
        let running = python.spawn(&Script::default());
        let target = discovered(&running);
        check_pymalloc(&running, &target, NEARLY_ALL);
        let allocators = &known(&target).allocators;
        assert_eq!(allocators.object, allocators.memory);
        assert_ne!(allocators.object, allocators.raw);
        assert!(allocators.hooks.is_empty(), "{:?}", allocators.hooks);
    }
}

#[test]
fn without_pymalloc() {
    for python in interpreters() {
        let running = python.spawn(&Script { malloc: Some("malloc"), ..Script::default() });
        let target = discovered(&running);
        let allocators = &known(&target).allocators;
        assert_eq!(allocators.kind, AllocatorKind::Malloc);
        assert_eq!((&allocators.object, &allocators.memory), (&allocators.raw, &allocators.raw));
        assert_eq!(known(&target).pymalloc, None);
    }
}

#[test]
fn mimalloc_is_another_allocator() {
    for python in interpreters().into_iter().filter(|p| p.path.ends_with("python3.13")) {
        let running = python.spawn(&Script { malloc: Some("mimalloc"), ..Script::default() });
        let target = discovered(&running);
        assert_eq!(known(&target).allocators.kind, AllocatorKind::Other);
        assert_eq!(known(&target).pymalloc, None);
    }
}

#[test]
fn behind_hooks() {
    for python in interpreters() {
        let plain = discovered(&python.spawn(&Script::default()));
        let debug = Script { malloc: Some("debug"), argument: None };
        let traced = Script { malloc: None, argument: Some("tracemalloc") };
        let both = Script { malloc: Some("debug"), argument: Some("tracemalloc") };
        for (script, hooks) in [
            (debug, vec!["debug hooks"]),
            (traced, vec!["tracemalloc"]),
            (both, vec!["tracemalloc", "debug hooks"]),
        ] {
            let running = python.spawn(&script);
            let target = discovered(&running);
            check_pymalloc(&running, &target, NEARLY_ALL);
            assert_eq!(known(&target).allocators.hooks, hooks);
            // The same functions as without hooks, wherever the file is mapped this time.
            let offset = |target: &Target| known(target).allocators.object.malloc.file_offset;
            assert_eq!(offset(&target), offset(&plain));
        }
    }
}

#[test]
fn a_forked_child() {
    for python in interpreters() {
        let running = python.spawn(&Script { malloc: None, argument: Some("fork") });
        assert_ne!(running.pid().0, running.child.id());
        check_pymalloc(&running, &discovered(&running), NEARLY_ALL);
    }
}

#[test]
fn a_deleted_executable_under_another_name() {
    if privileges::effective().unwrap_or(0) >> Capability::SysAdmin.bit() & 1 == 0 {
        println!("skipped: needs CAP_SYS_ADMIN");
        return;
    }
    for python in interpreters() {
        let folder = tempfile::tempdir().expect("a folder");
        let renamed = folder.path().join("my service");
        // By another process: what this one has open for writing, a test that forks may keep so.
        let copied = Command::new("cp").arg(&python.path).arg(&renamed).status();
        assert!(copied.expect("cp").success());
        let home = python.path.parent().and_then(Path::parent).expect("bin/python");
        // A copy still finds its library, by its own run path, but not its modules.
        let running = start(Command::new(&renamed).env("PYTHONHOME", home), &Script::default());
        std::fs::remove_file(&renamed).expect("deleted");
        let target = discovered(&running);
        assert_eq!(target.exe, renamed.to_str().expect("a plain name"));
        check_pymalloc(&running, &target, NEARLY_ALL);
    }
}

#[test]
fn a_busy_process() {
    for python in interpreters() {
        let mut command = Command::new(&python.path);
        command.args(["-c", "print(flush=True)\nwhile True: [str(i) for i in range(5000)]"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("an interpreter");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let results: Vec<_> = (0..10).map(|_| discover(Pid(child.id()))).collect();
        child.kill().and_then(|()| child.wait().map(drop)).expect("ended");
        for result in results {
            assert!(result.expect("found every time").pymalloc().is_some());
        }
    }
}

#[test]
fn what_is_not_python_is_refused() {
    // Beyond the largest pid that Linux gives out.
    assert!(matches!(discover(Pid(1 << 23)), Err(TargetError::NoSuchProcess { .. })));
    let mut sleep = Command::new("sleep").arg("60").spawn().expect("sleep");
    let pid = Pid(sleep.id());
    let refused = discover(pid);
    sleep.kill().expect("killed");
    assert!(matches!(refused, Err(TargetError::NotPython { .. })), "{refused:?}");
    // Ended, but not yet reaped.
    let ended = loop {
        match discover(pid) {
            Err(TargetError::NotPython { .. }) => std::thread::yield_now(),
            other => break other,
        }
    };
    assert!(matches!(ended, Err(TargetError::NoSuchProcess { .. })), "{ended:?}");
    sleep.wait().expect("reaped");
    // kthreadd; in a container process 2 may be anything or nothing.
    if std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n") {
        let kernel = discover(Pid(2)).expect_err("no program").to_string();
        assert!(kernel.contains("kernel thread"), "{kernel}");
    }
}

#[test]
fn an_older_version_is_said_by_its_name() {
    for python in installed(&[7]) {
        let mut command = Command::new(&python.path);
        command.args(["-c", "print(flush=True)\nimport sys\nsys.stdin.read()"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("an interpreter");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let found = discover(Pid(child.id())).expect("a Python process");
        drop(child.stdin.take());
        child.wait().expect("ended");
        assert!(
            matches!(&found.python, Err(TargetError::UnsupportedVersion { version, known })
                if version.starts_with("3.7") && known.contains("3.8")),
            "{found:?}"
        );
        assert!(found.heap.is_some(), "{found:?}");
    }
}

#[test]
fn a_thread_is_named_with_its_process() {
    for python in interpreters().into_iter().take(1) {
        let running = python.spawn(&Script::default());
        let thread = Pid(running.number(6) as u32);
        let refused = discover(thread).expect_err("not a process");
        assert!(
            matches!(refused, TargetError::IsThread { process, .. } if process == running.pid()),
            "{refused}"
        );
    }
}
