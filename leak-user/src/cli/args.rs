//! The grammar of the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use super::filter::LineFilter;
use super::options::{
    Command, DoctorOptions, DumpOptions, Format, HeapFormat, HeapOptions, Invocation, Native,
    TraceOptions,
};
use super::values;
use crate::heap::retention::Wanted;
use crate::sink::{By, View};
use crate::units::{Bytes, Pid};

/// An observation of no other length, and how much longer it may take as long as nothing can be said.
const USUAL: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(30);

const ABOUT: &str = "Names the line of a running Python service that leaks memory";

const LONG_ABOUT: &str = "Names the line of a running Python service that leaks memory.

leaktrace attaches to a live CPython process (3.8 to 3.15) through eBPF, watches what it allocates
in short bursts, follows what stays, and reports the lines whose memory only grows. No code runs in
the process, nothing is written into it, and it is never stopped.";

const AFTER_HELP: &str = "Examples:
  sudo leaktrace --pid 4242
  sudo leaktrace --pid 4242 --duration 5m --overhead 0.5%
  sudo leaktrace --pid $(pgrep -o gunicorn) --children
  sudo leaktrace --pid 4242 --format json -o report.json --fail-on-leak
  sudo leaktrace dump --pid 4242
  sudo leaktrace heap --pid 4242
  sudo leaktrace heap --pid 4242 --watch 5s
  sudo leaktrace heap --pid 4242 --why app.Embedding
  sudo leaktrace doctor --pid 4242

Exit codes:
   0  done
   1  failed
   2  wrong usage
   3  a privilege or a feature of the kernel is missing
   4  no such process, not Python, or not supported
   5  the process ended before there was enough to say
  10  a leak was found (with --fail-on-leak)

Privileges:
  root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE (and to read tracefs); `heap`, and
  `dump` without --native, need CAP_SYS_PTRACE alone.
  `leaktrace doctor` says what is missing on this machine.

Ctrl-C ends the observation early and prints the report.";

#[derive(Parser, Debug)]
#[command(
    name = "leaktrace",
    version,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_help = "`leaktrace --help` has examples, exit codes and the privileges needed.",
    after_long_help = AFTER_HELP,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    trace: TraceArgs,
    #[command(flatten)]
    verbosity: Verbosity,
}

#[derive(Subcommand, Debug)]
enum Sub {
    /// Print the Python stack of every thread of a process, without stopping it
    Dump(DumpArgs),
    /// Print how many objects of which type a process has, and what its allocator holds, without stopping it
    Heap(HeapArgs),
    /// Say whether this machine, and a process on it, can be traced
    Doctor(DoctorArgs),
}

#[derive(Args, Debug)]
struct Verbosity {
    /// Say more of what is done; twice for debugging, three times for all
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Args, Debug)]
struct TraceArgs {
    /// The process to observe
    #[arg(short, long, value_name = "PID", required = true, value_parser = values::pid)]
    pid: Option<Pid>,
    /// How long to observe, 1s to 24h [default: 30s, and as long as nothing can be said up to a minute, but for
    /// --exact]
    #[arg(short, long, value_name = "TIME", value_parser = values::duration)]
    duration: Option<Duration>,
    /// Share of the target's processor time that may be spent, or of a core's where it takes less, 0.01% to 50%
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = values::share)]
    overhead: f64,
    /// What one burst of probes may spend, and so one request may wait for it, 0.1ms to 1s
    #[arg(
        long, value_name = "TIME", default_value = "10ms", value_parser = values::burst_most,
        conflicts_with = "exact"
    )]
    burst_max: Duration,
    /// Trace every allocation, whatever it costs the target (its cost is printed first)
    #[arg(long, conflicts_with = "overhead")]
    exact: bool,
    /// Show compiled code's frames all the way, merged with Python's, and those of small objects as well;
    /// without it only those of extensions and libraries between a line and malloc or mmap
    #[arg(long)]
    native: bool,
    /// Take no native stacks, to see what they cost
    #[arg(long, hide = true, conflicts_with = "native")]
    no_native: bool,
    /// Follow its child processes too, and theirs, those there are and those to come: until the time is over or
    /// the last of them has ended
    #[arg(long, conflicts_with = "exact")]
    children: bool,
    /// Attach and drop probes one by one, as on kernels before 6.6
    #[arg(long, hide = true)]
    one_by_one: bool,
    /// Place no return probes, as on kernels where they could make a seccomp filter kill the target
    #[arg(long, hide = true)]
    no_return_probes: bool,
    /// Leave out lines that hold fewer live bytes, such as 4k
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = values::size)]
    min_size: Bytes,
    /// Accuse and list only lines of Python files like this; can be given again
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Neither accuse nor list lines of Python files like this; can be given again
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// List what is held by lines, functions, files, packages, types or whole stacks, the accused ones included (as text)
    #[arg(long, value_enum, value_name = "WHAT")]
    group_by: Option<ByArg>,
    /// With --group-by: count what is held for all that the stacks go through, not for what allocates alone
    #[arg(long, requires = "group_by")]
    cumulative: bool,
    /// With --group-by: how many rows
    #[arg(long, value_name = "N", default_value_t = View::TOP, requires = "group_by")]
    top: usize,
    /// Form of the report
    #[arg(long, value_enum, default_value = "text")]
    format: FormatArg,
    /// Write the report to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// End with exit code 10 if a leak is found
    #[arg(long)]
    fail_on_leak: bool,
    /// Print the report and errors only
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
}

#[derive(Args, Debug)]
struct DumpArgs {
    /// The process to look at
    #[arg(short, long, value_name = "PID", value_parser = values::pid)]
    pid: Pid,
    /// Show compiled code's frames too, merged with Python's: of the threads that wait, since nobody is stopped
    #[arg(long)]
    native: bool,
    /// Form of the dump; text is that of Python's faulthandler
    #[arg(long, value_enum, default_value = "text")]
    format: FormatArg,
    /// Write the dump to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    verbosity: Verbosity,
}

#[derive(Args, Debug)]
struct HeapArgs {
    /// The process to look at
    #[arg(short, long, value_name = "PID", value_parser = values::pid)]
    pid: Pid,
    /// How many types to list, as text
    #[arg(long, value_name = "N", default_value_t = 25)]
    top: usize,
    /// Stop the process while its heap is read, so that all of it is of one moment; it runs on whatever happens to leaktrace
    #[arg(long, conflicts_with = "watch")]
    freeze: bool,
    /// Say who keeps objects alive: those of a type (app.Embedding, or Embedding), or the one at an address (0x7f…)
    #[arg(long, value_name = "TYPE|ADDRESS", value_parser = values::wanted, conflicts_with = "watch")]
    why: Option<Wanted>,
    /// Into how many objects of the type to look, picked by chance
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = values::samples, requires = "why")]
    samples: usize,
    /// Look again and again, so much time apart (5s, 1m), and print which types grow; as JSON, one line a look
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    watch: Option<Duration>,
    /// Say as well how much of each type is allocated a second; observes the process with probes, as a trace does
    #[arg(long, requires = "watch")]
    rates: bool,
    /// With --rates: share of the process's time that may be spent, or of a core's where it takes less, 0.01% to 50%
    #[arg(
        long, value_name = "SHARE", default_value = "1%", value_parser = values::share, requires = "rates"
    )]
    overhead: f64,
    /// For how long to watch; without it until Ctrl-C or the process's end
    #[arg(long, value_name = "TIME", value_parser = values::duration, requires = "watch")]
    duration: Option<Duration>,
    /// Form of the report
    #[arg(long, value_enum, default_value = "text")]
    format: HeapFormatArg,
    /// Write the report to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    verbosity: Verbosity,
}

#[derive(Args, Debug)]
struct DoctorArgs {
    /// A process to look at as well
    #[arg(short, long, value_name = "PID", value_parser = values::pid)]
    pid: Option<Pid>,
    /// Form of the report
    #[arg(long, value_enum, default_value = "text")]
    format: FormatArg,
    #[command(flatten)]
    verbosity: Verbosity,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
enum FormatArg {
    /// For people
    Text,
    /// For programs: one object
    Json,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Text => Self::Text,
            FormatArg::Json => Self::Json,
        }
    }
}

#[derive(ValueEnum, Debug, Clone, Copy)]
enum ByArg {
    /// Lines of code
    Line,
    /// Functions
    Function,
    /// Files
    File,
    /// Installed packages, the standard library, own code
    Package,
    /// Types of what is alive
    Type,
    /// Stacks
    Traceback,
}

impl From<ByArg> for By {
    fn from(by: ByArg) -> Self {
        match by {
            ByArg::Line => Self::Line,
            ByArg::Function => Self::Function,
            ByArg::File => Self::File,
            ByArg::Package => Self::Package,
            ByArg::Type => Self::Type,
            ByArg::Traceback => Self::Traceback,
        }
    }
}

#[derive(ValueEnum, Debug, Clone, Copy)]
enum HeapFormatArg {
    /// For people
    Text,
    /// For programs: one object
    Json,
    /// With --why: for graphviz
    Dot,
    /// With --why: a drawing
    Svg,
}

impl From<HeapFormatArg> for HeapFormat {
    fn from(format: HeapFormatArg) -> Self {
        match format {
            HeapFormatArg::Text => Self::Text,
            HeapFormatArg::Json => Self::Json,
            HeapFormatArg::Dot => Self::Dot,
            HeapFormatArg::Svg => Self::Svg,
        }
    }
}

/// Parses the command line of this process. Ends the process on `--help` and `--version` (0) and on
/// an error (2).
#[must_use]
pub fn parse() -> Invocation {
    try_parse(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

fn try_parse<I, T>(arguments: I) -> Result<Invocation, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    let cli = Cli::try_parse_from(arguments)?;
    match cli.command {
        Some(Sub::Dump(dump)) => Ok(Invocation {
            command: Command::Dump(DumpOptions {
                pid: dump.pid,
                native: dump.native,
                format: dump.format.into(),
                output: dump.output,
            }),
            verbosity: dump.verbosity.verbose,
        }),
        Some(Sub::Heap(args)) => {
            let verbosity = args.verbosity.verbose;
            Ok(Invocation { command: Command::Heap(heap(args)?), verbosity })
        }
        Some(Sub::Doctor(doctor)) => Ok(Invocation {
            command: Command::Doctor(DoctorOptions {
                pid: doctor.pid,
                format: doctor.format.into(),
            }),
            verbosity: doctor.verbosity.verbose,
        }),
        None => Ok(Invocation {
            command: Command::Trace(trace(cli.trace)?),
            verbosity: cli.verbosity.verbose,
        }),
    }
}

fn heap(args: HeapArgs) -> Result<HeapOptions, clap::Error> {
    if matches!(args.format, HeapFormatArg::Dot | HeapFormatArg::Svg) && args.why.is_none() {
        let text = "--format dot and --format svg draw chains: they need --why";
        // With the usage of the subcommand.
        let mut command = Cli::command();
        command.build();
        let command = command.find_subcommand("heap").cloned().unwrap_or(command);
        return Err(command.clone().error(ErrorKind::MissingRequiredArgument, text));
    }
    Ok(HeapOptions {
        pid: args.pid,
        top: args.top,
        freeze: args.freeze,
        why: args.why.map(|wanted| (wanted, args.samples)),
        watch: args.watch,
        rates: args.rates.then_some(args.overhead),
        duration: args.duration,
        format: args.format.into(),
        output: args.output,
    })
}

fn trace(args: TraceArgs) -> Result<TraceOptions, clap::Error> {
    let wrong = |kind, text: String| Cli::command().error(kind, text);
    let lines = LineFilter::new(&args.include, &args.exclude)
        .map_err(|error| wrong(ErrorKind::ValueValidation, error.to_string()))?;
    let pid = args
        .pid
        .ok_or_else(|| wrong(ErrorKind::MissingRequiredArgument, "--pid is needed".to_owned()))?;
    Ok(TraceOptions {
        pid,
        duration: args.duration.unwrap_or(USUAL),
        patience: if args.duration.is_some() || args.exact { Duration::ZERO } else { PATIENCE },
        budget: args.overhead,
        burst_most: args.burst_max,
        exact: args.exact,
        native: match (args.native, args.no_native) {
            (true, _) => Native::Whole,
            (_, true) => Native::None,
            _ => Native::Top,
        },
        one_by_one: args.one_by_one,
        no_return_probes: args.no_return_probes,
        children: args.children,
        min_size: args.min_size,
        lines,
        view: args.group_by.map(|by| View {
            by: by.into(),
            cumulative: args.cumulative,
            top: args.top,
        }),
        format: args.format.into(),
        output: args.output,
        fail_on_leak: args.fail_on_leak,
        quiet: args.quiet,
    })
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
