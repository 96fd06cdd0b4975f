//! `cargo xtask bench`: what leaktrace costs its target, and how often it is right.

mod accuracy;
mod awake;
mod bursts;
mod heap;
mod hits;
mod interpreters;
mod load;
pub mod machine;
mod micro;
mod overhead;
mod own_cost;
pub mod page;
mod peers;
mod phases;
mod plot;
mod rates;
mod requests;
mod resources;
mod stacks;
pub mod statistics;
mod verdict_time;
mod verdicts;
mod verifier;

use anyhow::{Result, bail};
use clap::Subcommand;
use leak_tests::interpreter::{self, Interpreter};
use leak_tests::program;

/// What to measure.
#[derive(Subcommand)]
pub enum Bench {
    /// Request times of services while traced and while not, in turns within one run; writes
    /// docs/overhead.md
    Overhead(overhead::Options),
    /// What other tools cost the same programs; writes docs/peers.md
    Peers(peers::Options),
    /// Processor time and memory that leaktrace itself takes; writes docs/own-cost.md
    OwnCost(own_cost::Options),
    /// A long observation of a service that idles, churns, leaks and forks in turns; writes docs/phases.md
    Phases(phases::Options),
    /// The probed instructions of each interpreter, and what a hit costs; writes docs/hits.md
    Hits(hits::Options),
    /// What each eBPF program takes the kernel's verifier; writes docs/verifier.md
    Verifier(verifier::Options),
    /// Time of leaktrace's own stages, each by itself, by the number of sites; writes docs/micro.md
    Micro,
    /// What native stacks cost a probe hit; writes docs/stacks.md
    Stacks(stacks::Options),
    /// What works with each interpreter, and py-spy's stacks beside ours; writes docs/interpreters.md
    Interpreters(interpreters::Options),
    /// How often the right line is named, and an innocent one, in all services of the zoo; writes docs/accuracy.md
    Accuracy(accuracy::Options),
    /// Verdicts on a few services, leaking and clean, on every interpreter; writes docs/verdicts.md
    Verdicts(verdicts::Options),
    /// How fast a large heap is counted; writes docs/heap.md
    Heap(heap::Options),
    /// How well it is told what is allocated a second; writes docs/rates.md
    Rates(rates::Options),
    /// Time to the first burst and to the right accusation; writes docs/verdict-time.md
    VerdictTime(verdict_time::Options),
}

/// Runs a benchmark on `$LEAKTRACE`, or else on what is built here first.
///
/// # Errors
/// What couldn't be built, started or written.
pub fn run(bench: Bench) -> Result<()> {
    if !leak_tests::skip::is_root() {
        bail!("tracing needs root; run `sudo -E cargo xtask bench …`");
    }
    crate::setup::run()?;
    let needs_leaktrace = !matches!(bench, Bench::Micro);
    if needs_leaktrace && std::env::var_os("LEAKTRACE").is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("LEAKTRACE", crate::step::build_leaktrace()?) };
    }
    match bench {
        Bench::Overhead(options) => overhead::run(&options),
        Bench::Peers(options) => peers::run(&options),
        Bench::OwnCost(options) => own_cost::run(&options),
        Bench::Phases(options) => phases::run(&options),
        Bench::Hits(options) => hits::run(&options),
        Bench::Verifier(options) => verifier::run(&options),
        Bench::Micro => micro::run(),
        Bench::Stacks(options) => stacks::run(&options),
        Bench::Interpreters(options) => interpreters::run(&options),
        Bench::Accuracy(options) => accuracy::run(&options),
        Bench::Verdicts(options) => verdicts::run(&options),
        Bench::Heap(options) => heap::run(&options),
        Bench::Rates(options) => rates::run(&options),
        Bench::VerdictTime(options) => verdict_time::run(&options),
    }
}

/// The named programs, or all.
fn programs(named: &[String]) -> Vec<String> {
    if named.is_empty() { program::NAMES.map(str::to_owned).to_vec() } else { named.to_vec() }
}

/// The named programs, or all that leak and all that are only there to be slowed down.
fn workloads(named: &[String]) -> Vec<String> {
    let all = program::NAMES.into_iter().chain(program::WORKLOADS);
    if named.is_empty() { all.map(str::to_owned).collect() } else { named.to_vec() }
}

/// The named interpreters, or all that are here and have the packages of the test programs.
fn interpreters(named: &[String]) -> Result<Vec<Interpreter>> {
    if named.is_empty() { Ok(interpreter::all()) } else { these(named) }
}

/// The named interpreters, or all that are here.
fn every_interpreter(named: &[String]) -> Result<Vec<Interpreter>> {
    if named.is_empty() {
        return Ok(known().filter_map(interpreter::find).collect());
    }
    these(named)
}

fn these(named: &[String]) -> Result<Vec<Interpreter>> {
    let find = |name: &String| {
        let known: Vec<_> = known().collect();
        interpreter::find(name)
            .ok_or_else(|| anyhow::anyhow!("{name} isn't here, or isn't one of {known:?}"))
    };
    named.iter().map(find).collect()
}

/// The names of all interpreters that a machine may have.
fn known() -> impl Iterator<Item = &'static str> {
    interpreter::EQUIPPED.into_iter().chain(interpreter::BARE).chain(interpreter::BUILT)
}
