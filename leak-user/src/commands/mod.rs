//! What the program does: one file a command.

pub mod doctor;
pub mod dump;
pub mod heap;
pub mod limit;
pub mod stop;
pub mod trace;
mod watch;

use std::rc::Rc;

use leak_common::{config::Config, threads::ThreadsConfig};

use crate::cli::{CliError, Command, ExitStatus};
use crate::probe::{
    calibrate::Calibration, error::ProbeError, keeper::Keeper, object, plan::Returns, threads,
    tracefs, tree, verifier::Verified,
};
use crate::session;
use crate::target::{self, Target, kernel};

/// Does what was asked.
///
/// # Errors
/// Whatever ends the command, with its exit code.
pub fn run(command: Command) -> Result<ExitStatus, CliError> {
    match command {
        Command::Trace(options) => trace::run(&options),
        Command::Dump(options) => dump::run(&options),
        Command::Heap(options) => heap::run(&options),
        Command::Doctor(options) => doctor::run(&options, instruments()),
    }
}

fn instruments() -> doctor::Instruments {
    doctor::Instruments {
        discover: Some(|pid| target::discover(pid).map_err(CliError::from)),
        verify: Some(verify),
        calibrate: Some(calibrate),
    }
}

/// Has the kernel verify all programs that may be loaded for a process.
fn verify(target: &Target) -> Result<Vec<Verified>, CliError> {
    let task = kernel::task_layout()?.fields;
    let process = target.kernel_id.tgid.into();
    let mut verified = session::verify::verify(target)?;
    verified.extend(tree::verified(&task)?);
    verified.extend(threads::verified(&ThreadsConfig { process, pid: task.pid, tgid: task.tgid })?);
    Ok(verified)
}

/// Has the kernel take the programs, and times probes on a throw-away process.
fn calibrate() -> Result<doctor::Calibration, CliError> {
    tracefs::ensure()?;
    let mut ebpf = object::load(&Config::default(), object::Capacity::BURSTS, false)?;
    ebpf.verify_all()?;
    let keeper = Rc::new(Keeper::start().map_err(ProbeError::Keeper)?);
    let costs = Calibration::measure(&mut ebpf, &keeper, Returns::Probes)
        .map_err(|reason| CliError::new(ExitStatus::Unavailable, anyhow::anyhow!(reason)))?;
    Ok(doctor::Calibration {
        at_once: ebpf.places_at_once(),
        ns_per_hit: costs.trap.0 as f64,
        ns_per_return: Some(costs.return_trap.0 as f64),
        ns_per_breakpoint: costs.breakpoint_trap.0 as f64,
    })
}
