//! At which instructions a process would be probed.

use serde::Serialize;

use super::check::Check;
use crate::{
    probe::plan::{self, Probe, Returns},
    target::Target,
};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Point {
    /// What runs there.
    pub program: &'static str,
    /// The instruction's name.
    pub instruction: String,
    /// The kernel emulates it; it must step over others, which costs some ten times as much.
    pub emulated: bool,
}

/// Those of a process, and what to think of them.
pub(super) fn points(target: &Target) -> (Check, Vec<Point>) {
    const NAME: &str = "probe points";
    let plan = match plan::plan(target, Returns::harmless(target.pid)) {
        Ok(plan) => plan,
        Err(error) => return (Check::missing(NAME, error.to_string()), Vec::new()),
    };
    // A return probe has no instruction of its own.
    let own = |probe: &&Probe| probe.program != "malloc_exit";
    let point = |probe: &Probe| Point {
        program: probe.program,
        instruction: probe.instruction.clone(),
        emulated: probe.emulated,
    };
    let points: Vec<Point> =
        plan.pymalloc.iter().chain(&plan.malloc).filter(own).map(point).collect();
    (judged(NAME, &points), points)
}

fn judged(name: &'static str, points: &[Point]) -> Check {
    let stepped: Vec<String> = points
        .iter()
        .filter(|point| !point.emulated)
        .map(|point| format!("{} ({})", point.program, point.instruction))
        .collect();
    let all = points.len();
    if stepped.is_empty() {
        return Check::ok(name, format!("{all} instructions, all of which the kernel emulates"));
    }
    let found = format!(
        "{all} instructions, of which the kernel must step over {}: {}",
        stepped.len(),
        stepped.join(", ")
    );
    Check::note(name, found)
        .advice("a hit there costs some ten times as much, which is booked as one on the others")
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;

    #[test]
    fn dear_ones_are_named() {
        let point = |program, instruction: &str, emulated| Point {
            program,
            instruction: instruction.to_owned(),
            emulated,
        };
        let cheap = [point("malloc_enter", "push", true)];
        assert_eq!(judged("p", &cheap).found, "1 instructions, all of which the kernel emulates");
        let dear =
            judged("p", &[point("malloc_enter", "push", true), point("free_enter", "sub", false)]);
        assert_eq!(dear.state, State::Note);
        assert!(dear.found.ends_with("must step over 1: free_enter (sub)"), "{}", dear.found);
    }
}
