//! leaktrace beside other tools, on the same programs, in turns.

mod plot;
mod tool;

use super::awake::Awake;
use super::page::Page;
use super::requests::{now, steady, within, written_until};
use super::{machine, statistics};
use anyhow::{Context as _, Result, bail};
use leak_tests::interpreter::Interpreter;
use leak_tests::program::Program;
use leak_tests::target::Target;
use plot::Bar;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
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
their start on, with what the attach takes; those that start the program, or are a part of it, once it is warm.
The speed of a machine differs from one second to the next, so a request counts in units of a fixed piece of
Python that allocates nothing, timed after each request: its median in the same second.

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

/// What one tool did to a program in one round: mean, median and 99th percentile of its requests.
#[derive(Debug, Clone, Copy)]
struct Figures {
    mean: f64,
    median: f64,
    tail: f64,
}

/// Measures each tool on each program.
///
/// # Errors
/// What couldn't be started or written. A tool that fails has that in its row.
pub fn run(options: &Options) -> Result<()> {
    let python = crate::setup::peers::environment()?;
    let _awake = Awake::start()?;
    let mut page = Page::open("peers.md", INTRO, &COLUMNS, 2)?;
    page.print_head();
    let is_asked = |tool: &&Tool| {
        let named = options.tools.iter().any(|name| tool.name.starts_with(name.as_str()));
        options.tools.is_empty() || matches!(tool.way, Way::Not) || named
    };
    let tools: Vec<&Tool> = ALL.iter().filter(is_asked).collect();
    for name in super::programs(&options.programs) {
        let program = Program::open(&name)?;
        let mut seen: BTreeMap<&str, Vec<Figures>> = BTreeMap::new();
        let mut failed: BTreeMap<&str, String> = BTreeMap::new();
        for round in 0..options.rounds {
            for turn in 0..tools.len() {
                let tool = tools[(round + turn) % tools.len()];
                if failed.contains_key(tool.name) {
                    continue;
                }
                match measure(tool, &program, &python, options.seconds) {
                    Ok(figures) => seen.entry(tool.name).or_default().push(figures),
                    Err(error) if matches!(tool.way, Way::Not) => return Err(error),
                    Err(error) => drop(failed.insert(tool.name, format!("{error:#}"))),
                }
            }
        }
        let plain = seen.get(ALL[0].name).cloned().unwrap_or_default();
        for tool in tools.iter().filter(|tool| !matches!(tool.way, Way::Not)) {
            let row = match failed.get(tool.name) {
                Some(reason) => blank(reason),
                None => summarise(&plain, seen.get(tool.name).map_or(&[], Vec::as_slice))?,
            };
            let sites = if tool.tells_sites { "yes" } else { "no" };
            let identity = [&name, tool.name, sites].map(str::to_owned);
            page.put(identity.into_iter().chain(row).chain([machine::describe()]).collect())?;
        }
    }
    let picture = plot::svg(TITLE, &bars(page.rows()));
    Ok(fs::write(crate::step::root().join("docs/peers.svg"), picture)?)
}

/// The rows as bars, without those of tools that failed.
fn bars(rows: &[Vec<String>]) -> Vec<Bar> {
    let bar = |row: &Vec<String>| {
        let [program, tool, _, _, speed, interval, ..] = row.as_slice() else { return None };
        let ends = interval.split_once(" to ");
        Some(Bar {
            group: program.clone(),
            name: tool.clone(),
            value: speed.parse().ok()?,
            interval: ends.and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?))),
            stands_out: tool == "leaktrace",
        })
    };
    rows.iter().filter_map(bar).collect()
}

/// The row of a tool that failed.
fn blank(reason: &str) -> Vec<String> {
    let reason = reason.lines().last().unwrap_or(reason).chars().take(120).collect();
    let mut row = vec!["0".to_owned(), reason];
    row.extend(["", "", ""].map(str::to_owned));
    row
}

fn summarise(plain: &[Figures], traced: &[Figures]) -> Result<Vec<String>> {
    let ratios = |figure: &dyn Fn(&Figures) -> f64| -> Vec<f64> {
        traced.iter().zip(plain).map(|(traced, plain)| figure(traced) / figure(plain)).collect()
    };
    let middle = |mut ratios: Vec<f64>| statistics::median(&mut ratios).context("no rounds");
    let mut speeds: Vec<f64> = ratios(&|one| one.mean).into_iter().map(f64::recip).collect();
    let (low, high) = statistics::median_interval(&mut speeds).context("no rounds")?;
    Ok(vec![
        traced.len().to_string(),
        format!("{:.3}", middle(speeds)?),
        format!("{low:.3} to {high:.3}"),
        format!("{:.3}", middle(ratios(&|one| one.median))?),
        format!("{:.3}", middle(ratios(&|one| one.tail))?),
    ])
}

/// One turn of a tool.
fn measure(tool: &Tool, program: &Program, python: &Interpreter, seconds: u32) -> Result<Figures> {
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
    let attached = match tool.way {
        Way::Attach(command) => {
            let pid = running.target.pid();
            let job = Job { pid, seconds, out: &out, python: &python.path };
            Some(Attached::start(command(&job)?)?)
        }
        _ => None,
    };
    thread::sleep(Duration::from_secs(u64::from(seconds)));
    let end = now()?;
    let figures = figures(&times, (begun, end), &mut running.target);
    // A tool that came to nothing costs nothing.
    attached.map_or(Ok(()), Attached::end)?;
    figures
}

fn figures(times: &Path, period: (i64, i64), target: &mut Target) -> Result<Figures> {
    let requests = written_until(times, period.1, Duration::from_secs(60));
    if let Some(status) = target.ended()? {
        bail!("the program has ended: {status}");
    }
    let mut lengths = steady(&within(&requests?, period));
    let mean = lengths.iter().sum::<f64>() / lengths.len() as f64;
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
        assert_eq!((bars[0].value, bars[0].interval), (0.99, Some((0.98, 1.0))));
    }
}
