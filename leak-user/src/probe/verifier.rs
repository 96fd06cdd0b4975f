//! What it takes the kernel's verifier to accept each program.

use std::os::fd::AsFd as _;

use aya::Ebpf;
use aya_obj::{ProgramSection, btf::BtfKind};

use super::{
    bpf::{self, Kind},
    error::ProbeError,
    object::kernel_types,
    relocated::{Relocated, refused},
};
use crate::units::{Bytes, Nanos};

/// Bytes of the verifier's log: its figures are three lines.
const LOG: usize = 1 << 12;

/// A program that the kernel has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its name.
    pub name: String,
    /// Its instructions, those of the functions that it calls included.
    pub instructions: u64,
    /// What its machine code takes; 0 where the kernel interprets it.
    pub machine_code: Bytes,
    /// What it took; None where the kernel says it in words that are not known.
    pub work: Option<Work>,
}

/// What the verifier did with one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// How long it took.
    pub time: Nanos,
    /// Instructions that were gone through: again on each path that may differ. The kernel allows a million.
    pub instructions: u64,
    /// States of registers and stack that were kept to compare others with, at most at one time.
    pub peak_states: u64,
    /// Such states in all.
    pub total_states: u64,
}

/// Has the kernel verify all programs of `object`, whose maps are `ebpf`'s, one after the other, in the order of
/// their names. `place` says for the name of a program by which of the kernel's names it is attached, where it is
/// attached by name. Programs at the end of the kernel's functions are left out where it refuses them: what they
/// do can be done in another way ([`super::watch`]).
///
/// # Errors
/// [`ProbeError`] of one that it refuses.
pub(super) fn verify(
    object: &[u8],
    ebpf: &Ebpf,
    place: impl Fn(&str) -> &str,
) -> Result<Vec<Verified>, ProbeError> {
    let Some(relocated) = Relocated::new(object, ebpf)? else {
        return Err(ProbeError::Missing("type information".to_owned()));
    };
    let mut programs: Vec<_> = relocated.programs().collect();
    programs.sort_unstable_by_key(|(name, ..)| *name);
    // Read once for all of them.
    let _types = kernel_types()?;
    let mut verified = Vec::with_capacity(programs.len());
    for (name, program, function) in programs {
        let mut log = [0; LOG];
        let kind = kind(&program.section, place(name))?;
        let loaded = match relocated.load(name, kind, Some(&mut log)) {
            Ok(loaded) => loaded,
            Err(error) if matches!(kind, Kind::FunctionExit(_)) => {
                tracing::info!(name, %error, "left out");
                continue;
            }
            Err(error) => return Err(error),
        };
        let info = bpf::info(loaded.as_fd()).map_err(refused(name))?;
        verified.push(Verified {
            name: name.to_owned(),
            instructions: function.instructions.len() as u64,
            machine_code: Bytes(info.jited_prog_len.into()),
            work: Work::parse(&String::from_utf8_lossy(&log)),
        });
    }
    Ok(verified)
}

/// How a program of a section is loaded.
fn kind(section: &ProgramSection, place: &str) -> Result<Kind, ProbeError> {
    let type_id = |name: String, kind| {
        let found = kernel_types()?.id_by_type_name_kind(&name, kind);
        found.map_err(|_| ProbeError::Missing(name))
    };
    Ok(match section {
        ProgramSection::UProbe { .. } | ProgramSection::URetProbe { .. } => Kind::Uprobe,
        ProgramSection::TracePoint => Kind::Tracepoint,
        ProgramSection::PerfEvent => Kind::PerfEvent,
        ProgramSection::BtfTracePoint => {
            Kind::TypedTracepoint(type_id(format!("btf_trace_{place}"), BtfKind::Typedef)?)
        }
        ProgramSection::FExit { .. } => {
            Kind::FunctionExit(type_id(place.to_owned(), BtfKind::Func)?)
        }
        ProgramSection::Iter { .. } => {
            Kind::Iterator(type_id(format!("bpf_iter_{place}"), BtfKind::Func)?)
        }
        _ => return Err(ProbeError::Missing(place.to_owned())),
    })
}

impl Work {
    /// From the verifier's log, as `print_verification_stats` in the kernel's kernel/bpf/verifier.c writes it.
    fn parse(log: &str) -> Option<Self> {
        let number = |before: &str| {
            let rest = log.split_once(before)?.1;
            rest.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self {
            time: Nanos(number("verification time ")?.saturating_mul(1000)),
            instructions: number("processed ")?,
            peak_states: number("peak_states ")?,
            total_states: number("total_states ")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_found_in_the_log() {
        let log = "verification time 1234 usec\nstack depth 96+0+64\nprocessed 5678 insns (limit 1000000) \
                   max_states_per_insn 8 total_states 321 peak_states 99 mark_read 12\n\0\0";
        let (time, instructions) = (Nanos(1_234_000), 5678);
        let work = Work { time, instructions, peak_states: 99, total_states: 321 };
        assert_eq!(Work::parse(log), Some(work));
        assert_eq!(Work::parse(log.split_at(60).0), None, "cut off");
        assert_eq!(Work::parse(""), None);
    }
}
