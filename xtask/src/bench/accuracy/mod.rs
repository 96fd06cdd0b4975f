//! How often leaktrace names the right line: every service of the zoo, leaking and clean.

mod inside;
mod observed;

use super::page::Page;
use super::{machine, statistics};
use crate::setup::{peers, zoo::packages};
use anyhow::{Context as _, Result, bail};
use leak_tests::interpreter;
use leak_tests::zoo::{self, Specimen, Variant};
use observed::Run;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Only these programs of tests/zoo (repeatable)
    #[arg(long = "program", value_name = "NAME")]
    programs: Vec<String>,
    /// The interpreter of those that don't need another
    #[arg(long, value_name = "NAME", default_value = "py3.12")]
    python: String,
    /// Observations of each variant
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Their length in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// By which tool
    #[arg(long, value_enum, default_value = "leaktrace")]
    tool: Tool,
    /// Only the services as they are, or only their clean twins and the clean ones
    #[arg(long, value_enum)]
    variant: Option<Only>,
    /// Observations side by side
    #[arg(long, default_value_t = 2)]
    at_a_time: u32,
}

/// Which of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    Leaking,
    Clean,
}

impl Only {
    fn is(self, variant: Variant) -> bool {
        matches!((self, variant), (Self::Leaking, Variant::Leaking) | (Self::Clean, Variant::Clean))
    }
}

/// What observes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Tool {
    Leaktrace,
    Tracemalloc,
    Memray,
    Objgraph,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Leaktrace => "leaktrace",
            Self::Tracemalloc => "tracemalloc",
            Self::Memray => "memray",
            Self::Objgraph => "objgraph",
        }
    }
}

const INTRO: &str = "\
# Accuracy

Written by `cargo xtask bench accuracy`. Each service of tests/zoo is started anew for each observation, as it is and as
its clean twin. A verdict is right if it is `leak` for one that leaks and `no-leak` for a clean one. Ranks are those of
the first accused line that the program's source marks as leaking. Falsely accused are all accused lines that it doesn't
mark, of clean and of leaking ones. The time is that since which the right line was accused without a break, from the
observation's start. Growth is what is told of the right lines beside what resident memory grew by meanwhile; the interval
is that of their sum, 95 % as it is told, and right if it holds the growth of resident memory or comes to a twentieth of
it: pools have headers, and holes are filled. Reports of observations that were wrong are kept in target/accuracy.

The other tools run in the service itself (tests/peers/growth.py), give no verdict and accuse nobody. tracemalloc keeps 25
frames from the service's start on: two snapshots are compared, and the lines ranked by their growth between them.
memray is attached a second after the service is ready, with `trace_python_allocators`, and its lines are ranked by what
was allocated from then on and is still there (`--leaks`). objgraph compares two counts, and knows types, not lines: its
rank is that of the first type that piles up.
";

const COLUMNS: [&str; 16] = [
    "tool",
    "program",
    "variant",
    "observed",
    "runs",
    "verdict right",
    "rank 1",
    "rank 1 to 3",
    "lines falsely accused",
    "other verdicts",
    "accused after",
    "growth told / true",
    "true within the interval told",
    "type named",
    "spent",
    "machine",
];

/// Observes all that were asked for.
///
/// # Errors
/// What couldn't be installed, started, traced or written.
pub fn run(options: &Options) -> Result<()> {
    let specimens = if options.programs.is_empty() {
        zoo::all()?
    } else {
        options.programs.iter().map(|name| Specimen::open(name)).collect::<Result<_>>()?
    };
    let usual = match options.tool {
        Tool::Memray | Tool::Objgraph => peers::environment(&options.python)?,
        Tool::Leaktrace | Tool::Tracemalloc => interpreter::find(&options.python)
            .with_context(|| format!("{} isn't here", options.python))?,
    };
    let mut due = Vec::new();
    for specimen in specimens {
        let python = specimen.interpreter(&usual)?;
        let wanted = |variant: &&Variant| options.variant.is_none_or(|only| only.is(**variant));
        for variant in specimen.variants().iter().filter(wanted) {
            packages(&specimen, *variant, &python)?;
            due.push((specimen.clone(), *variant, python.clone()));
        }
    }
    due.reverse();
    let page = Page::open("accuracy.md", INTRO, &COLUMNS, 4)?;
    page.print_head();
    let (due, page) = (Mutex::new(due), Mutex::new(page));
    let worker = || -> Result<()> {
        loop {
            let next = lock(&due)?.pop();
            let Some((specimen, variant, python)) = next else { return Ok(()) };
            let runs = (1..=options.runs)
                .map(|number| match options.tool {
                    Tool::Leaktrace => {
                        observed::observe(&specimen, variant, &python, number, options.seconds)
                    }
                    tool => {
                        let name = tool.name();
                        inside::observe(name, &specimen, variant, &python, options.seconds)
                    }
                })
                .collect::<Result<Vec<_>>>()?;
            lock(&page)?.put(row(&specimen, variant, &runs, options))?;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..options.at_a_time).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(_) => bail!("an observation panicked"),
        })
    })?;
    let mut page = lock(&page)?;
    sum_up(&mut page, options.tool)?;
    page.sort_by_key(|row| (row[0].clone(), row[1] == ALL, row[1].clone(), row[2].clone()))
}

fn lock<T>(shared: &Mutex<T>) -> Result<std::sync::MutexGuard<'_, T>> {
    shared.lock().map_err(|_| anyhow::anyhow!("another observation panicked"))
}

fn expected(variant: Variant) -> &'static str {
    match variant {
        Variant::Leaking => "leak",
        Variant::Clean => "no-leak",
    }
}

fn name_of(variant: Variant) -> &'static str {
    match variant {
        Variant::Leaking => "leaking",
        Variant::Clean => "clean",
    }
}

fn row(specimen: &Specimen, variant: Variant, runs: &[Run], options: &Options) -> Vec<String> {
    let count = |is: &dyn Fn(&Run) -> bool| runs.iter().filter(|run| is(run)).count().to_string();
    let of_leaking = |cell: String| if variant == Variant::Leaking { cell } else { "-".to_owned() };
    let mut others: BTreeMap<&str, u32> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.verdict != expected(variant)) {
        *others.entry(&run.verdict).or_default() += 1;
    }
    let others: Vec<String> =
        others.into_iter().map(|(said, times)| format!("{times} {said}")).collect();
    let middle = |figure: &dyn Fn(&Run) -> Option<f64>| {
        statistics::median(&mut runs.iter().filter_map(figure).collect::<Vec<_>>())
    };
    let told = |figure: Option<f64>, unit: &str| {
        figure.map_or("-".to_owned(), |figure| format!("{figure:.2}{unit}"))
    };
    let accused: usize = runs.iter().map(|run| run.falsely_accused).sum();
    let spent = middle(&|run| Some(100.0 * run.spent));
    let types = if specimen.truth.types.is_empty() {
        "-".to_owned()
    } else {
        of_leaking(count(&|run| run.names_type))
    };
    let of_verdicts =
        |cell: String| if options.tool == Tool::Leaktrace { cell } else { "-".to_owned() };
    vec![
        options.tool.name().to_owned(),
        specimen.name.clone(),
        name_of(variant).to_owned(),
        format!("{} s, {} at a time", options.seconds, options.at_a_time),
        runs.len().to_string(),
        of_verdicts(count(&|run| run.verdict == expected(variant))),
        of_leaking(count(&|run| run.rank == Some(1))),
        of_leaking(count(&|run| run.rank.is_some_and(|rank| rank <= 3))),
        of_verdicts(accused.to_string()),
        of_verdicts(others.join(", ")),
        of_leaking(told(middle(&|run| run.accused_after), " s")),
        of_leaking(told(middle(&|run| run.growth), "")),
        of_verdicts(of_leaking(count(&|run| run.within))),
        of_verdicts(types),
        of_verdicts(told(spent, " %")),
        machine::describe(),
    ]
}

/// The last two rows: all programs, leaking and clean.
fn sum_up(page: &mut Page, tool: Tool) -> Result<()> {
    for variant in [Variant::Leaking, Variant::Clean] {
        let of_variant = |row: &&Vec<String>| {
            row[0] == tool.name() && row[1] != ALL && row[2] == name_of(variant)
        };
        let rows: Vec<Vec<String>> = page.rows().iter().filter(of_variant).cloned().collect();
        // What a tool doesn't give, it doesn't give none of.
        let sum = |column: usize| -> String {
            let counts = rows.iter().filter_map(|row| row[column].parse::<u32>().ok());
            counts.reduce(|sum, count| sum + count).map_or("-".to_owned(), |sum| sum.to_string())
        };
        let middle = |column: usize, unit: &str| {
            let figures =
                rows.iter().filter_map(|row| row[column].trim_end_matches(unit).parse().ok());
            statistics::median(&mut figures.collect::<Vec<f64>>())
                .map_or("-".to_owned(), |figure| format!("{figure:.2}{unit}"))
        };
        let of_leaking =
            |cell: String| if variant == Variant::Leaking { cell } else { "-".to_owned() };
        page.put(vec![
            tool.name().to_owned(),
            ALL.to_owned(),
            name_of(variant).to_owned(),
            format!("{} programs", rows.len()),
            sum(4),
            sum(5),
            of_leaking(sum(6)),
            of_leaking(sum(7)),
            sum(8),
            String::new(),
            middle(10, " s"),
            middle(11, ""),
            of_leaking(sum(12)),
            of_leaking(sum(13)),
            middle(14, " %"),
            machine::describe(),
        ])?;
    }
    Ok(())
}

/// The rows that sum up.
const ALL: &str = "all";
