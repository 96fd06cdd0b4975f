//! Whether the kernel takes the programs as they would be loaded for a process.

use serde::Serialize;

use super::{Verify, check::Check};
use crate::{
    probe::{verifier::Verified, watch},
    target::Target,
};

/// One of them, as the kernel took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its instructions, those of the functions that it calls included.
    pub instructions: u64,
    /// Bytes of the machine code that was made of it; 0 where the kernel interprets it.
    pub machine_code_bytes: u64,
    /// What the kernel's verifier says of it; None where that can't be understood.
    pub verifier: Option<Work>,
}

/// What the verifier did with a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Work {
    /// How long it took.
    pub ns: u64,
    /// Instructions that it went through, on all paths.
    pub instructions: u64,
    /// States that it kept to compare others with, at most at one time.
    pub peak_states: u64,
    /// Such states in all.
    pub total_states: u64,
}

impl From<Verified> for Program {
    fn from(verified: Verified) -> Self {
        Self {
            name: verified.name,
            instructions: verified.instructions,
            machine_code_bytes: verified.machine_code.0,
            verifier: verified.work.map(|work| Work {
                ns: work.time.0,
                instructions: work.instructions,
                peak_states: work.peak_states,
                total_states: work.total_states,
            }),
        }
    }
}

const NAME: &str = "programs";

/// Those of a process, and what to think of them.
pub(super) fn programs(target: &Target, verify: Option<Verify>) -> (Check, Vec<Program>) {
    match verify.map(|verify| verify(target)) {
        None => (Check::note(NAME, "not tried, since something is missing"), Vec::new()),
        Some(Ok(verified)) => {
            let programs: Vec<Program> = verified.into_iter().map(Program::from).collect();
            (Check::ok(NAME, taken(&programs)), programs)
        }
        Some(Err(error)) => {
            let check = Check::missing(NAME, error.message());
            let advice = error.way_out().unwrap_or("try it with -v to see where it fails");
            (check.advice(advice), Vec::new())
        }
    }
}

/// Whose system calls pay for what is watched: those of the target, or all. None where it is not known.
pub(super) fn system_calls(programs: &[Program]) -> Option<Check> {
    const NAME: &str = "system calls";
    if programs.is_empty() {
        return None;
    }
    Some(if programs.iter().any(|program| program.name == watch::MMAP) {
        Check::ok(NAME, "mmap, munmap, mremap and brk alone are watched")
    } else {
        let found = "the kernel lets nothing watch its functions: every call of every process takes 0.1 µs longer";
        let advice = "use a kernel with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS, and no sandbox that denies fexit";
        Check::note(NAME, found).advice(advice)
    })
}

fn taken(programs: &[Program]) -> String {
    let works = || programs.iter().filter_map(|program| program.verifier);
    format!(
        "the kernel takes all {}: {} instructions verified in {} ms",
        programs.len(),
        works().map(|work| work.instructions).sum::<u64>(),
        works().map(|work| work.ns).sum::<u64>() / 1_000_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::check::State;

    #[test]
    fn who_pays_for_system_calls_is_said() {
        let program = |name: &str| Program {
            name: name.to_owned(),
            instructions: 100,
            machine_code_bytes: 700,
            verifier: None,
        };
        assert_eq!(system_calls(&[]), None);
        let state = |names: &[&str]| {
            let programs: Vec<_> = names.iter().map(|name| program(name)).collect();
            system_calls(&programs).unwrap().state
        };
        assert_eq!(state(&["mmap_exit", "sys_exit"]), State::Ok);
        assert_eq!(state(&["sys_exit"]), State::Note);
    }

    #[test]
    fn what_the_verifier_does_is_summed_up() {
        let program = |verifier| Program {
            name: "malloc_enter".to_owned(),
            instructions: 100,
            machine_code_bytes: 700,
            verifier,
        };
        let work = Work { ns: 30_700_000, instructions: 900, peak_states: 5, total_states: 7 };
        let programs = [program(Some(work)), program(Some(work)), program(None)];
        let text = "the kernel takes all 3: 1800 instructions verified in 61 ms";
        assert_eq!(taken(&programs), text);
    }
}
