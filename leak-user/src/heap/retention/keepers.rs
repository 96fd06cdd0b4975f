//! Who keeps the blocks alive that a trace has followed.

use foldhash::{HashMap, HashMapExt as _};

use super::graph::Trust;
use super::look::owners;
use super::search::Search;
use super::{Case, Teller, Ways, chains, common, ways};
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

/// Who keeps the survivors of a line alive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// The chain of most of them in words; empty where none was found.
    pub path: Vec<String>,
    /// One of its references may be none.
    pub maybe: bool,
    /// The object that most of them hang from, of all such the nearest.
    pub holder: Option<Addr>,
}

/// For the survivors of each of some lines, and whether the search came to its end. Of a block that is no object, who
/// owns it is asked for.
///
/// # Errors
/// [`PymallocError`], where the heap can't be gone through.
pub fn kept_by<M: Memory>(
    case: &Case<'_, M>,
    lines: &[Vec<Survivor>],
) -> Result<(Vec<Kept>, bool), PymallocError> {
    let mut references = case.references();
    let mut object = |survivor: &Survivor| match survivor.kind {
        Some(Kind::Object { header, .. }) => Some(survivor.addr.offset(header)),
        Some(Kind::Table | Kind::Raw) => None,
        // The largest header first: what lies behind a smaller one is the object's own, or another's.
        None => HEADERS
            .iter()
            .rev()
            .map(|header| survivor.addr.offset(*header))
            .find(|addr| references.is_object(*addr)),
    };
    let lines: Vec<Vec<(Survivor, Option<Addr>)>> = lines
        .iter()
        .map(|line| line.iter().map(|survivor| (*survivor, object(survivor))).collect())
        .collect();
    let is_raw =
        |(survivor, object): &(Survivor, Option<Addr>)| object.is_none().then_some(*survivor);
    let raw: Vec<Survivor> = lines.iter().flatten().filter_map(is_raw).collect();
    let owners = if raw.is_empty() { HashMap::new() } else { owners(case, &raw)? };
    let lines: Vec<Vec<Addr>> = lines
        .iter()
        .map(|line| {
            let owner = |one: &Survivor| owners.get(&one.addr).copied();
            let known = line.iter().filter_map(|(one, object)| object.or_else(|| owner(one)));
            let mut known: Vec<Addr> = known.collect();
            known.sort_unstable();
            known.dedup();
            known
        })
        .collect();
    let all: Vec<Addr> = lines.iter().flatten().copied().collect();
    let mut search = Search::new(case, &mut references, &all);
    let complete = search.run()?.complete;
    let graph = search.graph;
    let chains = chains(&graph, &all);
    let (names, roots) = (case.names(), case.roots);
    let mut teller = Teller { names, references: &mut references, graph: &graph, roots };
    let kept = |line: &Vec<Addr>| {
        let Ways { groups, in_cycles, cycles, .. } = ways(line, &chains, complete, &mut teller);
        let best = groups.into_iter().next();
        let is_most = best.as_ref().is_none_or(|best| best.samples < in_cycles);
        match (best, cycles.into_iter().next()) {
            (_, Some(cycle)) if is_most => {
                Kept { path: [vec![CYCLE.to_owned()], cycle].concat(), ..Kept::default() }
            }
            (Some(best), _) => {
                let common = common(line, &chains, &graph);
                let holder = common.map(|common| graph.addr(common.chain.end));
                Kept { path: best.path, maybe: best.maybe, holder }
            }
            (None, _) => Kept::default(),
        }
    };
    let kept: Vec<Kept> = lines.iter().map(kept).collect();
    // Where all hang from something certain, what was not found doesn't matter.
    let certain = graph.held(Trust::Certain);
    let is_certain = |addr: &Addr| graph.node(*addr).is_some_and(|node| certain[node as usize]);
    Ok((kept, complete || all.iter().all(is_certain)))
}
