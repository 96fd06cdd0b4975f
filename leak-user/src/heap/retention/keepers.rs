//! Who keeps the blocks alive that a trace has followed.

use super::search::{Search, owners};
use super::{Case, Teller, chains, ways};
use crate::heap::identity::{HEADERS, Kind};
use crate::heap::pymalloc::PymallocError;
use crate::target::memory::Memory;
use crate::units::{Addr, Bytes};

/// What the chain of what hangs from a cycle alone begins with.
const CYCLE: &str = "nothing but a cycle";

/// A block that a trace has followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survivor {
    /// Where it is.
    pub addr: Addr,
    /// What it takes.
    pub size: Bytes,
    /// What it holds, where that is known.
    pub kind: Option<Kind>,
}

/// For the survivors of each of some lines: the chain of most of them in words; empty where none was found.
///
/// Of a block that is no object, who owns it is asked for.
///
/// # Errors
/// [`PymallocError`], where the heap can't be gone through.
pub fn kept_by<M: Memory>(
    case: &Case<'_, M>,
    lines: &[Vec<Survivor>],
) -> Result<Vec<Vec<String>>, PymallocError> {
    let mut references = case.references();
    let mut object = |survivor: &Survivor| match survivor.kind {
        Some(Kind::Object { header, .. }) => Some(survivor.addr.offset(header)),
        Some(Kind::Raw) => None,
        // The largest header first: what lies behind a smaller one is the object's own, or another's.
        None => HEADERS
            .iter()
            .rev()
            .map(|header| survivor.addr.offset(*header))
            .find(|addr| references.is_object(*addr)),
    };
    let raw: Vec<Survivor> =
        lines.iter().flatten().filter(|one| object(one).is_none()).copied().collect();
    let owners = if raw.is_empty() { Default::default() } else { owners(case, &raw)? };
    let lines: Vec<Vec<Addr>> = lines
        .iter()
        .map(|line| {
            let of = |one: &Survivor| object(one).or_else(|| owners.get(&one.addr).copied());
            let mut found: Vec<Addr> = line.iter().filter_map(of).collect();
            found.sort_unstable();
            found.dedup();
            found
        })
        .collect();
    let all: Vec<Addr> = lines.iter().flatten().copied().collect();
    let mut search = Search::new(case, &mut references, &all);
    search.run()?;
    let graph = search.graph;
    let chains = chains(&graph, &all);
    let (names, roots) = (case.names(), case.roots);
    let mut teller = Teller { names, references: &mut references, graph: &graph, roots };
    let mut path = |line: &Vec<Addr>| {
        let found = ways(line, &chains, &mut teller);
        let best = found.groups.into_iter().next();
        match (best, found.cycles.into_iter().next()) {
            // More hang from nothing else.
            (best, Some(cycle)) if best.as_ref().is_none_or(|best| best.samples < found.unheld) => {
                [vec![CYCLE.to_owned()], cycle].concat()
            }
            (Some(best), _) => best.path,
            (None, _) => Vec::new(),
        }
    };
    Ok(lines.iter().map(&mut path).collect())
}
