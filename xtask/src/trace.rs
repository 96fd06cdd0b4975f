//! `cargo xtask trace`: leaktrace at work.

use crate::{setup, step};
use anyhow::{Context as _, Result};
use leak_tests::interpreter;
use leak_tests::target::Target;
use std::process::Command;

const SERVICE: &str = "tests/services/embedding_service.py";

/// Runs leaktrace with these arguments; on the bundled service, unless they name a process or a
/// subcommand.
///
/// # Errors
/// What couldn't be set up or started. leaktrace's own exit code becomes ours.
pub fn run(mut args: Vec<String>) -> Result<()> {
    setup::run()?;
    let leaktrace = step::build_leaktrace()?;

    let given = |long: &str, short: &str| {
        args.iter()
            .any(|arg| arg == long || arg.starts_with(&format!("{long}=")) || is_short(arg, short))
    };
    let names_process = given("--pid", "-p");
    let names_duration = given("--duration", "-d");
    let subcommand = args.first().is_some_and(|first| !first.starts_with('-'));
    let asks = args.iter().any(|arg| ["-h", "--help", "-V", "--version"].contains(&arg.as_str()));
    let mut service = None;
    if !(names_process || subcommand || asks) {
        let python = interpreter::all().into_iter().next();
        let python = python.context("none of the Pythons with packages is on this machine")?;
        let started = Target::start(&python, &step::root().join(SERVICE), &[])?;
        println!("trace: {SERVICE} runs on {} as process {}", python.name, started.pid());
        args.extend(["--pid".into(), started.pid().to_string()]);
        if !names_duration {
            args.extend(["--duration".into(), "20s".into()]);
        }
        service = Some(started);
    }

    let mut command = step::as_root(&leaktrace);
    command.args(&args);
    println!("trace: {}", step::shown(&command));
    let status = run_through_interrupt(&mut command)?;
    drop(service);
    std::process::exit(status.code().unwrap_or(1));
}

/// `-p 7` or `-p7`.
fn is_short(arg: &str, option: &str) -> bool {
    arg.strip_prefix(option).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Ctrl-C reaches leaktrace too, which then prints its report: wait for that.
fn run_through_interrupt(command: &mut Command) -> Result<std::process::ExitStatus> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    let mut child =
        command.spawn().with_context(|| format!("can't run {}", step::shown(command)))?;
    // SAFETY: ignoring a signal installs no handler.
    unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) }?;
    Ok(child.wait()?)
}
