//! `leaktrace --pid PID`: observe, judge, report.

use std::{path::Path, sync::Arc, time::Duration};

use super::{limit, stop};
use crate::{
    cli::{self, CliError, ExitStatus, TraceOptions, output::Output},
    session::{Native, Options, Session, Status, report::Wanted},
    sink::live::{LiveLine, Progress},
    snapshot::{Snapshot, suspect::Suspect},
    target::{self, Target, privileges},
    tree::{Tree, TreeOptions},
    units::Nanos,
};

/// Observes a process, or a process tree, and reports.
///
/// # Errors
/// Whatever ends the observation, with its exit code.
pub fn run(options: &TraceOptions) -> Result<ExitStatus, CliError> {
    let output = Output::open(options.output.as_deref())?;
    privileges::check()?;
    let target = target::discover(options.pid)?;
    if let Err(unknown) = &target.python {
        tracing::warn!("{unknown}; its lines are not seen, its growth is");
    }
    let limit = limit::memory_limit(Path::new("/"), options.pid);
    let session_options = Options {
        duration: nanos(options.duration),
        patience: nanos(options.patience),
        // Tracing everything may cost all of it.
        overhead: if options.exact { 1.0 } else { options.budget },
        burst_most: nanos(options.burst_most),
        exact: options.exact,
        one_by_one: options.one_by_one,
        native: match options.native {
            cli::Native::None => Native::None,
            cli::Native::Top => Native::Top,
            cli::Native::Whole => Native::Whole,
        },
        no_return_probes: options.no_return_probes,
        children: options.children,
        turnover: false,
    };
    let mut snapshot = if options.children {
        observe_tree(target, session_options, options)?
    } else {
        observe(target, session_options, options)?
    };
    snapshot.memory.limit_bytes = limit.map(|bytes| bytes.0);
    let sink = output.sink(options.format, options.view);
    output.write(&sink.render(&snapshot)?)?;
    Ok(ExitStatus::of_report(&snapshot, options.fail_on_leak))
}

fn nanos(time: Duration) -> Nanos {
    Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// The process alone. The probes go before the report is written: a reader of a pipe may take its time.
fn observe(
    target: Target,
    session_options: Options,
    options: &TraceOptions,
) -> Result<Snapshot, CliError> {
    let mut session = Session::open(target, session_options, None)?;
    // Not before: the session may have to change what all of the process's threads see.
    let stop = stop::on_signal();
    if options.exact {
        warn_of_cost(&mut session, options.quiet)?;
    }
    let mut live = LiveLine::new(options.quiet);
    let ending = session.observe(&stop, |session, status| {
        live.update(&progress(status, session.suspect(), options));
    })?;
    live.clear();
    let wanted = Wanted { file: &|file| options.lines.allows(file), min_size: options.min_size };
    Ok(session.report(ending, &wanted)?)
}

/// The process with its children, and theirs.
fn observe_tree(
    target: Target,
    session_options: Options,
    options: &TraceOptions,
) -> Result<Snapshot, CliError> {
    let mut live = LiveLine::new(options.quiet);
    let lines = options.lines.clone();
    let tree_options = TreeOptions {
        session: session_options,
        allows: Arc::new(move |file: &str| lines.allows(file)),
        min_size: options.min_size,
    };
    let tree = Tree::open(target, tree_options)?;
    let stop = stop::on_signal();
    let snapshot = tree.observe(&stop, |status| {
        let suspect = status.suspect.clone();
        let processes = Some((status.observed, status.processes));
        live.update(&Progress { processes, ..progress(status.sum, suspect, options) });
    })?;
    live.clear();
    Ok(snapshot)
}

fn progress(status: Status, suspect: Option<Suspect>, options: &TraceOptions) -> Progress {
    Progress {
        left: Duration::from_nanos(status.left.0),
        processes: None,
        bursts: status.bursts,
        spent: status.spent,
        budget: (!options.exact).then_some(options.budget),
        rss: status.rss,
        growth: status.growth,
        suspect,
    }
}

fn warn_of_cost(session: &mut Session, quiet: bool) -> Result<(), CliError> {
    let cost = session.expected_cost()?;
    if let (Some(cost), false) = (cost, quiet) {
        eprintln!(
            "tracing every allocation: the process makes about {:.0} allocator calls a second and \
             will spend about {:.0} % of its time in probes (if it never waits, it will run {:.1} \
             times slower)",
            cost.calls_per_s,
            100.0 * cost.share,
            cost.slowdown
        );
    }
    Ok(())
}
