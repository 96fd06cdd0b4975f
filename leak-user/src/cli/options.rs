//! What the user asked for; the rest of the program never sees the argument parser.

use std::path::PathBuf;
use std::time::Duration;

use super::filter::LineFilter;
use crate::heap::retention::Wanted;
use crate::sink::View;
use crate::units::{Bytes, Pid};

/// One call of the program.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// How much to log: 0 warnings, 1 information, 2 debugging, 3 and more everything.
    pub verbosity: u8,
}

/// What to do.
#[derive(Debug, Clone)]
pub enum Command {
    /// Observe a process and report.
    Trace(TraceOptions),
    /// Print the stacks of a process's threads.
    Dump(DumpOptions),
    /// Say what lies in a process's heap.
    Heap(HeapOptions),
    /// Say whether this machine (and a process on it) can be traced.
    Doctor(DoctorOptions),
}

/// How to observe a process, and where the report goes.
#[derive(Debug, Clone)]
pub struct TraceOptions {
    /// The process.
    pub pid: Pid,
    /// How long to observe, 1 s to 24 h.
    pub duration: Duration,
    /// How much longer, as long as nothing can be said.
    pub patience: Duration,
    /// Allowed share of the target's processor time, or of a core's where it takes less, 0.0001 to 0.5. Of no meaning
    /// with `exact`.
    pub budget: f64,
    /// What one burst may spend of it, 100 µs to 1 s. Of no meaning with `exact`.
    pub burst_most: Duration,
    /// Trace every allocation, whatever it costs.
    pub exact: bool,
    /// Which native frames to show.
    pub native: Native,
    /// Attach probes one by one, whatever the kernel can do.
    pub one_by_one: bool,
    /// Place no return probes, whatever the kernel can do.
    pub no_return_probes: bool,
    /// Follow its children, and theirs.
    pub children: bool,
    /// Neither accuse nor list a site that holds fewer live bytes than this.
    pub min_size: Bytes,
    /// Which lines may be accused or listed.
    pub lines: LineFilter,
    /// The table of sites that is asked for, as text.
    pub view: Option<View>,
    /// The report's form.
    pub format: Format,
    /// Where the report goes; standard output if None.
    pub output: Option<PathBuf>,
    /// End with [`super::ExitStatus::LeakFound`] if a line is accused.
    pub fail_on_leak: bool,
    /// No live line and no hints: the report, and errors.
    pub quiet: bool,
}

/// Which native frames of a stack to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Native {
    /// None.
    None,
    /// Those of extensions and libraries between a line and malloc or mmap.
    Top,
    /// All, also of what allocates small objects.
    Whole,
}

/// Which process's stacks to print, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpOptions {
    /// The process.
    pub pid: Pid,
    /// With compiled code's frames.
    pub native: bool,
    /// The dump's form.
    pub format: Format,
    /// Where it goes; standard output if None.
    pub output: Option<PathBuf>,
}

/// Which process's heap to read, and where it goes.
#[derive(Debug, Clone, PartialEq)]
pub struct HeapOptions {
    /// The process.
    pub pid: Pid,
    /// How many types the text lists.
    pub top: usize,
    /// Stop the process meanwhile.
    pub freeze: bool,
    /// Which objects' keepers to name, and into how many objects to look.
    pub why: Option<(Wanted, usize)>,
    /// Look again and again, so much time apart, and say what grows.
    pub watch: Option<Duration>,
    /// Find out what is allocated a second meanwhile, for this share of the process's time.
    pub rates: Option<f64>,
    /// For how long; None: until it is ended by hand or the process ends.
    pub duration: Option<Duration>,
    /// The report's form.
    pub format: HeapFormat,
    /// Where it goes; standard output if None.
    pub output: Option<PathBuf>,
}

/// What `doctor` is asked.
#[derive(Debug, Clone)]
pub struct DoctorOptions {
    /// The process to look at as well.
    pub pid: Option<Pid>,
    /// The report's form.
    pub format: Format,
}

/// The form of a heap's report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeapFormat {
    /// For people.
    Text,
    /// For programs: one object.
    Json,
    /// Chains for graphviz.
    Dot,
    /// Chains as a drawing.
    Svg,
}

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: one object.
    Json,
}
