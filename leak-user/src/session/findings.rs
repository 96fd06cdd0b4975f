//! Which accused lines are parts of one leak: an object, its dict, the list that it keeps.

use crate::{
    snapshot::{Frame, FrameKind, Site},
    units::Addr,
    verdict::evidence::LineId,
};

/// What makes an accused site part of one leak with others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ties {
    /// What its survivors hang from.
    pub holder: Option<Addr>,
    /// The user's own line that leads to it.
    pub line: Option<LineId>,
}

/// Numbers the leaks, given by rank with their ties: those that hang from one object, and those of one line, are one.
pub(super) fn number(leaks: &mut [Site], ties: impl Iterator<Item = Ties>) {
    let ties: Vec<Ties> = ties.collect();
    let mut last = 0;
    for at in 0..leaks.len() {
        let (before, rest) = leaks.split_at_mut(at);
        let Some(leak) = rest.first_mut() else { return };
        let own = ties.get(at).copied().unwrap_or_default();
        let same = before.iter().zip(&ties).find(|(other, others)| {
            (own.holder.is_some() && others.holder == own.holder)
                || (own.line.is_some() && others.line == own.line)
                || (line(leak).is_some() && line(other) == line(leak))
        });
        leak.finding = same.map_or(last + 1, |(other, _)| other.finding);
        last = last.max(leak.finding);
    }
}

/// Where it allocates; None has no like.
fn line(site: &Site) -> Option<(&str, u32)> {
    let frame: &Frame = site.stack.iter().find(|frame| frame.kind == FrameKind::Python)?;
    Some((&frame.file, frame.line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Snapshot;

    fn leaks(lines: &[u32]) -> Vec<Site> {
        let report: Snapshot =
            serde_json::from_str(include_str!("../sink/golden/leak.json")).expect("a report");
        let model = &report.leaks[0];
        let at = |line: &u32| {
            let mut site = model.clone();
            for frame in &mut site.stack {
                frame.line = *line;
            }
            site
        };
        lines.iter().map(at).collect()
    }

    fn numbers(lines: &[u32], ties: &[Ties]) -> Vec<u32> {
        let mut leaks = leaks(lines);
        number(&mut leaks, ties.iter().copied());
        leaks.iter().map(|leak| leak.finding).collect()
    }

    #[test]
    fn parts_of_one_leak_hang_from_one_object() {
        let none = Ties::default();
        let [cache, log] = [0x1000, 0x2000].map(|at| Ties { holder: Some(Addr(at)), line: None });
        assert_eq!(numbers(&[1, 2, 3, 4], &[cache, log, cache, none]), [1, 2, 1, 3]);
        // A list's body may lie in the C heap, where nobody looks who holds it.
        assert_eq!(numbers(&[7, 8, 7, 8], &[cache, none, none, none]), [1, 2, 1, 2]);
        assert_eq!(numbers(&[], &[]), [0; 0]);
    }

    #[test]
    fn what_one_line_of_the_users_leads_to_is_one_leak() {
        let none = Ties::default();
        let of_line = Ties { line: Some(LineId(5)), ..none };
        let cache = Ties { holder: Some(Addr(0x1000)), ..of_line };
        assert_eq!(numbers(&[1, 2, 3, 4], &[of_line, none, of_line, cache]), [1, 2, 1, 1]);
    }
}
