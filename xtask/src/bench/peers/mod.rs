//! leaktrace beside other tools, on the same programs, in turns.

mod tool;

use super::awake::Awake;
use super::page::Page;
use super::plot::{self, Bar};
use super::requests::{Request, now, steady, within, written_until};
use super::{machine, statistics};
use anyhow::{Context as _, Result, bail};
use leak_tests::interpreter::Interpreter;
use leak_tests::program::Program;
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use tool::{ALL, Job, OUT, Tool, Way};

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Only these programs of tests/programs (repeatable)
    #[arg(long = "program", value_name = "NAME")]
    programs: Vec<String>,
    /// Only these tools, by the beginning of their names (repeatable); the untraced program always
    #[arg(long = "tool", value_name = "NAME")]
    tools: Vec<String>,
    /// Rounds, in each of which every tool has its turn
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Length of a measurement in seconds, from the tool's start
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

const INTRO: &str = "\
# Beside other tools

Written by `cargo xtask bench peers`. In each round every tool has its turn with a fresh process of the program; what it
costs is compared with the program untraced in the same round. Those that are attached are measured from
their start on, with what the attach takes, against the same process before, and that against the same two periods of
a process that nothing is attached to; those that start the program, or are a part of it, once it is warm.
The speed of a machine differs from one second to the next, so a request counts in units of a fixed piece of
work, timed after each request: its median in the same second. That piece is compiled code that allocates nothing. One
of Python would not do: a tool that is told of each call (memray) keeps the interpreter from its quick paths, and an
empty loop takes twice as long.

Speed is the untraced program's mean request time divided by the traced one's: the median over the rounds, with an
interval that holds it with 95 % probability. A tool that looks at malloc alone doesn't see Python's
small objects. memray is told to see them (`--trace-python-allocators`) where nothing else is said.

![What is left of a program's speed](peers.svg)
";

/// The picture's.
const TITLE: &str = "What is left of a program's speed (1 = untraced)";

const COLUMNS: [&str; 9] = [
    "program",
    "tool",
    "names sites",
    "rounds",
    "speed",
    "95 % interval",
    "median ratio",
    "p99 ratio",
    "machine",
];

/// A program's requests in one round under one tool: mean, median and 99th percentile.
#[derive(Debug, Clone, Copy)]
struct Figures {
    mean: f64,
    median: f64,
    tail: f64,
}

/// One turn of a tool: the program before it came, if it did, and under it.
#[derive(Debug, Clone, Copy)]
struct Turn {
    before: Figures,
    under: Figures,
}

impl Turn {
    /// How many times as long requests are as they are `untraced`.
    fn ratio(&self, untraced: &Self, way: &Way, figure: impl Fn(&Figures) -> f64) -> f64 {
        let (under, plain) = (figure(&self.under), figure(&untraced.under));
        match way {
            Way::Attach(_) => under / figure(&self.before) / (plain / figure(&untraced.before)),
            Way::Not | Way::Variable(..) | Way::Launcher(_) => under / plain,
        }
    }
}

/// What became of a tool's turns.
#[derive(Default)]
struct Turns {
    /// Those that went well, by round.
    done: BTreeMap<usize, Turn>,
    /// Why others did not.
    failed: Vec<String>,
}

/// The interpreter that all is measured on.
const PYTHON: &str = "py3.11";

/// A tool that has failed as often, and never worked, gets no more turns.
const GIVE_UP: usize = 2;

/// Measures each tool on each program.
///
/// # Errors
/// What couldn't be started or written. A tool that fails has that in its row.
pub fn run(options: &Options) -> Result<()> {
    let python = crate::setup::peers::environment(PYTHON)?;
    crate::setup::peers::say_what_is_missing();
    let _awake = Awake::start()?;
    let mut page = Page::open("peers.md", INTRO, &COLUMNS, 2)?;
    page.print_head();
    let is_asked = |tool: &&Tool| {
        let named = options.tools.iter().any(|name| tool.name.starts_with(name.as_str()));
        options.tools.is_empty() || matches!(tool.way, Way::Not) || named
    };
    let tools: Vec<&Tool> = ALL.iter().filter(is_asked).collect();
    for name in super::workloads(&options.programs) {
        let program = Program::open(&name)?;
        let mut turns: Vec<Turns> = tools.iter().map(|_| Turns::default()).collect();
        for round in 0..options.rounds {
            for place in 0..tools.len() {
                let which = (round + place) % tools.len();
                let (tool, turns) = (tools[which], &mut turns[which]);
                if turns.done.is_empty() && turns.failed.len() >= GIVE_UP {
                    continue;
                }
                match measure(tool, &program, &python, options.seconds) {
                    Ok(turn) => drop(turns.done.insert(round, turn)),
                    Err(error) if matches!(tool.way, Way::Not) => return Err(error),
                    Err(error) => turns.failed.push(format!("{error:#}")),
                }
            }
        }
        let (untraced, others) = turns.split_first().context("no tools")?;
        for (tool, turns) in tools.iter().skip(1).zip(others) {
            let sites = if tool.tells_sites { "yes" } else { "no" };
            let identity = [&name, tool.name, sites].map(str::to_owned);
            let row = summarise(&tool.way, &untraced.done, turns)?;
            page.put(identity.into_iter().chain(row).chain([machine::describe()]).collect())?;
        }
    }
    plot::write("peers.svg", TITLE, &bars(page.rows()))
}

/// The rows as bars, without those of tools that failed.
fn bars(rows: &[Vec<String>]) -> Vec<Bar> {
    let bar = |row: &Vec<String>| {
        let [program, tool, _, _, speed, interval, ..] = row.as_slice() else { return None };
        let bar = Bar::read(program.clone(), tool.clone(), speed, interval)?;
        Some(Bar { stands_out: tool == "leaktrace", ..bar })
    };
    rows.iter().filter_map(bar).collect()
}

fn summarise(way: &Way, untraced: &BTreeMap<usize, Turn>, turns: &Turns) -> Result<Vec<String>> {
    let mut rounds = turns.done.len().to_string();
    if let Some(reason) = turns.failed.last() {
        let reason: String = reason.lines().last().unwrap_or(reason).chars().take(100).collect();
        rounds += &format!(", {} failed ({reason})", turns.failed.len());
    }
    if turns.done.is_empty() {
        return Ok([&rounds, "", "", "", ""].map(str::to_owned).to_vec());
    }
    let ratios = |figure: fn(&Figures) -> f64| -> Vec<f64> {
        let both = turns.done.iter().filter_map(|(round, turn)| Some((turn, untraced.get(round)?)));
        both.map(|(turn, untraced)| turn.ratio(untraced, way, figure)).collect()
    };
    let middle = |mut ratios: Vec<f64>| statistics::median(&mut ratios).context("no rounds");
    let mut speeds: Vec<f64> = ratios(|one| one.mean).into_iter().map(f64::recip).collect();
    let (low, high) = statistics::median_interval(&mut speeds).context("no rounds")?;
    Ok(vec![
        rounds,
        format!("{:.3}", middle(speeds)?),
        format!("{low:.3} to {high:.3}"),
        format!("{:.3}", middle(ratios(|one| one.median))?),
        format!("{:.3}", middle(ratios(|one| one.tail))?),
    ])
}

/// One turn of a tool.
fn measure(tool: &Tool, program: &Program, python: &Interpreter, seconds: u32) -> Result<Turn> {
    let folder = tempfile::tempdir()?;
    let (times, out) = (folder.path().join("times"), folder.path().join("out"));
    let mut command = Command::new(&python.path);
    match tool.way {
        Way::Variable(name, value) => drop(command.env(name, value)),
        Way::Launcher(arguments) => {
            let file = |argument: &&str| match *argument {
                OUT => out.clone().into_os_string(),
                other => other.into(),
            };
            command.args(arguments.iter().map(file));
        }
        Way::Not | Way::Attach(_) => {}
    }
    command.arg(&program.path).arg("--times").arg(&times);
    let mut running = program.spawn(python, &mut command)?;
    let begun = now()?;
    let period = Duration::from_secs(u64::from(seconds));
    thread::sleep(period);
    let middle = now()?;
    let attached = match tool.way {
        Way::Attach(command) => {
            let pid = running.target.pid();
            let job = Job { pid, seconds, out: &out, python: &python.path };
            Some(Attached::start(command(&job)?)?)
        }
        Way::Not | Way::Variable(..) | Way::Launcher(_) => None,
    };
    thread::sleep(period);
    let end = now()?;
    let requests = written_until(&times, end, Duration::from_secs(60));
    if let Some(status) = running.target.ended()? {
        bail!("the program has ended: {status}");
    }
    let requests = requests?;
    // A tool that came to nothing costs nothing.
    attached.map_or(Ok(()), Attached::end)?;
    let before = figures(&within(&requests, (begun, middle)))?;
    Ok(Turn { before, under: figures(&within(&requests, (middle, end)))? })
}

fn figures(requests: &[Request]) -> Result<Figures> {
    let mut lengths = steady(requests);
    let mean = statistics::mean(&lengths).context("no requests")?;
    let mut at = |share| statistics::quantile(&mut lengths, share).context("no requests");
    Ok(Figures { mean, median: at(0.5)?, tail: at(0.99)? })
}

/// A tool at work; it, and what it has started, is killed when dropped.
struct Attached(Child);

impl Attached {
    fn start(mut command: Command) -> Result<Self> {
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't run {}", command.get_program().display()))?;
        Ok(Self(child))
    }

    /// Ends it.
    ///
    /// # Errors
    /// What it said, if it had failed before.
    fn end(mut self) -> Result<()> {
        let Some(status) = self.0.try_wait()? else { return Ok(()) };
        if status.success() {
            return Ok(());
        }
        let mut said = String::new();
        if let Some(mut errors) = self.0.stderr.take() {
            std::io::Read::read_to_string(&mut errors, &mut said)?;
        }
        bail!("it ended: {status} {}", said.trim())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        // It may have ended by itself.
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tools_have_no_bars() {
        let row = |cells: [&str; 9]| cells.map(str::to_owned).to_vec();
        let rows = [
            row(["small", "leaktrace", "yes", "10", "0.99", "0.98 to 1.00", "1", "1", "m"]),
            row(["small", "other", "yes", "0", "it ended", "", "", "", "m"]),
        ];
        let bars = bars(&rows);
        assert_eq!(bars.len(), 1);
        assert!(bars[0].stands_out);
        assert_eq!(bars[0].value, 0.99);
    }

    #[test]
    fn what_is_attached_is_compared_with_the_same_process_before() {
        let figures = |mean| Figures { mean, median: mean, tail: mean };
        let turn = |before, under| Turn { before: figures(before), under: figures(under) };
        // This process is twice as slow as the other from its start, and both slow down by a tenth.
        let (untraced, traced) = (turn(1.0, 1.1), turn(2.0, 2.2 * 1.5));
        let attach = ALL.iter().find(|tool| matches!(tool.way, Way::Attach(_))).unwrap();
        let ratio = traced.ratio(&untraced, &attach.way, |one| one.mean);
        assert!((ratio - 1.5).abs() < 1e-9, "{ratio}");
        let ratio = traced.ratio(&untraced, &Way::Variable("A", "1"), |one| one.mean);
        assert!((ratio - 3.0).abs() < 1e-9, "{ratio}");
    }
}
