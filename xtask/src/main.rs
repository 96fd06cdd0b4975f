//! Sets up, builds, tests and measures leaktrace: `cargo xtask --help`.

mod bench;
mod gpu_check;
mod setup;
mod step;
mod test;
mod trace;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Sets up, builds, tests and measures leaktrace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install what the build and the tests need; may be run again
    Setup {
        /// Build interpreters that no package is made of, too: without a GIL, and on musl; takes ten minutes
        #[arg(long)]
        built: bool,
    },
    /// Build leaktrace and run it; without --pid, on a bundled service that leaks
    Trace {
        /// Arguments of leaktrace
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run every check and test that can be run here
    Test {
        /// Judge only small objects end to end, not numpy arrays, maps and FastAPI
        #[arg(long)]
        fast: bool,
        /// Judge every program on every interpreter, not each on one
        #[arg(long, conflicts_with = "fast")]
        all: bool,
    },
    /// Check, on a machine with a GPU, what can only be shown there, and write the result under docs/
    GpuCheck(gpu_check::Options),
    /// Measure leaktrace and write the result under docs/
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Setup { built } => {
            setup::run()?;
            if built { setup::built::build() } else { Ok(()) }
        }
        Command::Trace { args } => trace::run(args),
        Command::Test { fast, all } => test::run(fast, all),
        Command::GpuCheck(options) => gpu_check::run(&options),
        Command::Bench(bench) => bench::run(bench),
    }
}
