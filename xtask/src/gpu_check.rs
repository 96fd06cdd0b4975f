//! What only a machine with a GPU can show: leaks of real libraries named by line, and sums that agree with torch's own
//! and with the driver's.

mod programs;
mod speed;

use crate::bench::{machine, page::Page};
use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// How to check.
#[derive(clap::Args)]
pub struct Options {
    /// The Python that has torch and CuPy
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Only these programs of `tests/programs` (repeatable)
    #[arg(long = "program", value_name = "NAME")]
    programs: Vec<String>,
    /// Length of each observation in seconds
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(8..))]
    seconds: u32,
    /// Pairs of periods, with leaktrace and without, of the training loop
    #[arg(long, default_value_t = 6)]
    pairs: u32,
}

const INTRO: &str = "\
# Checked on a real GPU

Written by `cargo xtask gpu-check`. Each program of `tests/programs` is observed, then paused and asked for its own
figures, then leaktrace ends. *Named*: the line that is accused first in the program's domain is one that leaks.
*Allocated* and *reserved* are torch's own figures (of CuPy, the pool's; of others, what the program knows that it keeps),
beside leaktrace's. *Process* is what the driver's management library says that the process has; the rest of it is the
context, loaded code, and what was there before.
";

const COLUMNS: [&str; 9] = [
    "program",
    "verdict",
    "named",
    "growth",
    "allocated: its own, leaktrace's",
    "reserved: its own, leaktrace's",
    "process, the rest of it",
    "libraries",
    "machine",
];

/// Checks everything, row by row; fails at the end if a line was not named, or a sum of torch's is off by more than
/// 1 %.
///
/// # Errors
/// What couldn't be started, traced or written, and what was wrong.
pub fn run(options: &Options) -> Result<()> {
    let versions = versions(options)?;
    let mut page = Page::open("gpu.md", INTRO, &COLUMNS, 1)?;
    page.print_head();
    let mut wrong = Vec::new();
    for case in programs::all().filter(|case| is_wanted(options, case.name)) {
        match programs::check(&case, options) {
            Ok(found) => {
                wrong.extend(found.wrong.iter().map(|what| format!("{}: {what}", case.name)));
                let row = [case.name.to_owned()].into_iter().chain(found.cells);
                page.put(row.chain([versions.clone(), machine::describe()]).collect())?;
            }
            Err(error) => wrong.push(format!("{}: {error:#}", case.name)),
        }
    }
    if is_wanted(options, speed::NAME) {
        speed::measure(options, &versions)?;
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn is_wanted(options: &Options, name: &str) -> bool {
    options.programs.is_empty() || options.programs.iter().any(|wanted| wanted == name)
}

/// The versions of what is checked, and the GPU.
fn versions(options: &Options) -> Result<String> {
    let script = "import platform, torch; \
                  print('Python', platform.python_version() + ', torch', torch.__version__, end=', ')\n\
                  try:\n import cupy; print('CuPy', cupy.__version__, end=', ')\n\
                  except ImportError: pass\n\
                  print(torch.cuda.get_device_name(0))";
    let output = Command::new(&options.python).args(["-c", script]).output();
    let output = output.with_context(|| format!("can't run {}", options.python.display()))?;
    if !output.status.success() {
        bail!(
            "needs a GPU and a Python with torch for it: {}",
            String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
