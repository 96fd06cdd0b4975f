//! What a probe hit costs on this machine, measured on a throw-away process.
//!
//! That process is leaktrace itself, started again to call `free(NULL)` and read a word in a loop and to report how
//! long it took; probes are attached to it as they will be to the target, with the gate closed.

use std::{
    io::{self, BufRead, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    ptr,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{
    attach,
    classes::{self, Watch},
    keeper::Keeper,
    object::Object,
    plan::{self, Probe, Returns},
    turn::Turn,
};
use crate::{
    clock::thread_time,
    target::{files::Files, process},
    units::{Addr, Nanos, Pid, Tid},
};

/// The hidden argument that makes leaktrace the throw-away process.
pub const ARGUMENT: &str = "--calibration-loop";

/// Calls in one measurement: less than a millisecond with probes, 5 with a breakpoint on a word. Few, since leaktrace
/// runs beside its target, which is not yet seen meanwhile.
const CALLS: u32 = 500;

/// Measurements of each kind; the fastest counts, since all that disturbs makes it slower.
const ROUNDS: usize = 5;

/// Where other leaktraces have probes for longer than this, there is no more waiting for them to go.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a hit costs the target, the program's own time with a closed gate included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calibration {
    /// An entry probe on an emulated instruction.
    pub trap: Nanos,
    /// What sees a function's result, on top.
    pub return_trap: Nanos,
    /// A hardware breakpoint on a word of memory; what is usual where none can be set.
    pub breakpoint_trap: Nanos,
}

impl Calibration {
    /// Where it could not be measured: what is usual on a virtual machine, rounded up.
    pub const USUAL: Self =
        Self { trap: Nanos(1_000), return_trap: Nanos(1_000), breakpoint_trap: Nanos(10_000) };

    /// Measures, in about a tenth of a second from when no other leaktrace has probes, for which it waits three seconds
    /// at most.
    ///
    /// # Errors
    /// In words, where the process could not be started or probed.
    pub fn measure(
        object: &mut Object,
        keeper: &Rc<Keeper>,
        returns: Returns,
    ) -> Result<Self, String> {
        let mut dummy = Dummy::start().map_err(|e| format!("the throw-away process: {e}"))?;
        let free = dummy.free_function().ok_or("the throw-away process has no `free`")?;
        let entry = plan::probe("free_enter", &free);
        // Where the return address is still on top of the stack, which `free_enter` doesn't need.
        let returning = plan::probe("malloc_enter", &free);
        let exits = plan::exits(&free, &returning, returns).map_err(|e| e.to_string())?;
        let exits = exits.unwrap_or_default();
        // Another's return probe on `free` makes each hit on it as dear as with one's own.
        let turn = Turn::wait(object.places_at_once(), PATIENCE);
        if turn.is_none() {
            tracing::debug!("another leaktrace is at work: a hit may cost less than it seems");
        }
        // One on top of the other: letting go of each before the next would take the kernel longer than all the rest.
        let mut attached = Vec::new();
        let mut with = |dummy: &mut Dummy, probes: &[Probe]| -> Result<f64, String> {
            let added = attach::attach(object, keeper, dummy.pid(), probes);
            attached.push(added.map_err(|e| e.to_string())?);
            dummy.fastest()
        };
        let bare = dummy.fastest()?;
        let entered = with(&mut dummy, std::slice::from_ref(&entry));
        let returned = entered.clone().and_then(|_| with(&mut dummy, &exits));
        let (word, tid) = (dummy.word, Tid(dummy.pid().0));
        let watched = classes::set(object, &[Watch::Uses(word)], &[tid]).ok().and_then(|set| {
            let watched = dummy.fastest();
            drop(set);
            watched.ok()
        });
        // The last one's lets go of all, and the next leaktrace has its turn after that.
        if let Some(last) = attached.pop() {
            last.detach().wait();
        }
        drop(turn);
        let (entered, returned) = (entered?, returned?);
        let cost = |more: f64, less: f64| Nanos((more - less).max(1.0) as u64);
        Ok(Self {
            trap: cost(entered, bare),
            return_trap: cost(returned, entered),
            breakpoint_trap: watched.map_or(Self::USUAL.breakpoint_trap, |w| cost(w, returned)),
        })
    }
}

/// The throw-away process, seen from leaktrace.
struct Dummy {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
    free: Addr,
    word: Addr,
}

impl Dummy {
    fn start() -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (Some(ask), Some(answer)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let answer = BufReader::new(answer);
        let mut dummy = Self { child, ask, answer, free: Addr(0), word: Addr(0) };
        dummy.free = Addr(dummy.read()?);
        dummy.word = Addr(dummy.read()?);
        Ok(dummy)
    }

    fn read<T: std::str::FromStr>(&mut self) -> io::Result<T> {
        let mut line = String::new();
        self.answer.read_line(&mut line)?;
        line.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    /// The fastest of [`ROUNDS`].
    fn fastest(&mut self) -> Result<f64, String> {
        let times: io::Result<Vec<f64>> = (0..ROUNDS).map(|_| self.time()).collect();
        let times = times.map_err(|e| format!("the throw-away process: {e}"))?;
        Ok(times.into_iter().fold(f64::INFINITY, f64::min))
    }

    /// Mean time of a call in ns, of the process's own.
    fn time(&mut self) -> io::Result<f64> {
        self.ask.write_all(b"go\n")?;
        self.read()
    }

    fn free_function(&self) -> Option<crate::target::Function> {
        let mappings = process::mappings(self.pid()).ok()?;
        Files::new(self.pid(), mappings).function(self.free)
    }
}

impl Drop for Dummy {
    fn drop(&mut self) {
        // It ends by itself when its input ends; killed in case it hangs, and reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the loop reads.
static WORD: AtomicU64 = AtomicU64::new(0);

/// The throw-away process itself: says where `free` and the word that it reads are, then times its
/// calls for every line of its input.
///
/// # Errors
/// An I/O error on standard input or output.
pub fn calibration_loop() -> io::Result<()> {
    let free: unsafe extern "C" fn(*mut libc::c_void) = libc::free;
    println!("{}", free as usize);
    println!("{}", (&raw const WORD).addr());
    for line in io::stdin().lock().lines() {
        line?;
        let start = thread_time();
        for _ in 0..CALLS {
            // SAFETY: freeing NULL does nothing.
            unsafe { std::hint::black_box(free)(ptr::null_mut()) };
            std::hint::black_box(WORD.load(Ordering::Relaxed));
        }
        println!("{}", (thread_time().0 - start.0) as f64 / f64::from(CALLS));
    }
    Ok(())
}
