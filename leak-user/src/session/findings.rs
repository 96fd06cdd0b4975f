//! Which accused lines are parts of one leak: an object, its dict, the list that it keeps.

use crate::{
    snapshot::{Frame, FrameKind, Site},
    units::Addr,
};

/// Numbers the leaks, given by rank with what their survivors hang from: those that hang from one object, and those
/// of one line, are one.
pub(super) fn number(leaks: &mut [Site], holders: impl Iterator<Item = Option<Addr>>) {
    let holders: Vec<Option<Addr>> = holders.collect();
    let mut last = 0;
    for at in 0..leaks.len() {
        let (before, rest) = leaks.split_at_mut(at);
        let Some(leak) = rest.first_mut() else { return };
        let holder = holders.get(at).copied().flatten();
        let same = before.iter().zip(&holders).find(|(other, others)| {
            (holder.is_some() && **others == holder)
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

    fn numbers(lines: &[u32], holders: &[Option<u64>]) -> Vec<u32> {
        let mut leaks = leaks(lines);
        number(&mut leaks, holders.iter().map(|holder| holder.map(Addr)));
        leaks.iter().map(|leak| leak.finding).collect()
    }

    #[test]
    fn parts_of_one_leak_hang_from_one_object() {
        let (cache, log) = (Some(0x1000), Some(0x2000));
        assert_eq!(numbers(&[1, 2, 3, 4], &[cache, log, cache, None]), [1, 2, 1, 3]);
        // A list's body may lie in the C heap, where nobody looks who holds it.
        assert_eq!(numbers(&[7, 8, 7, 8], &[cache, None, None, None]), [1, 2, 1, 2]);
        assert_eq!(numbers(&[], &[]), [0; 0]);
    }
}
