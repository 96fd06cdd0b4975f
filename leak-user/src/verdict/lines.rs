//! What the stacks of one line show together.
//!
//! A line that calls into a library allocates by many stacks, a recursive one by a stack of each depth, and bursts see
//! too little of each to accuse it. Taken together they may be enough: by the line that allocates, or by the user's own
//! line that all of them come from.

use std::collections::{BTreeMap, btree_map::Entry};

use super::accuse::{Case, Court};
use super::evidence::{Domain, End, LineId, Lines, SiteEvidence};
use super::stays::Ground;
use super::survival;
use super::words::{number, plural, seconds};

/// Where accused sites explain this much of the growth, nobody else is looked for.
const ENOUGH: f64 = 0.95;

/// Examines every site, by itself and, where that leaves growth unexplained, together with those of its line.
#[must_use]
pub fn together(court: &Court<'_>) -> Vec<Case> {
    let mut cases = court.cases(&court.evidence.sites);
    let by: [fn(&Lines) -> Option<LineId>; 2] = [|lines| lines.allocates, |lines| lines.own];
    for line in by {
        let explained: f64 = accused(&cases).map(|case| case.finding.growth.value).sum();
        if explained >= ENOUGH * court.total_growth {
            break;
        }
        join(court, &mut cases, line);
    }
    cases
}

fn accused(cases: &[Case]) -> impl Iterator<Item = &Case> {
    cases.iter().filter(|case| case.is_accused())
}

/// All that is known of the sites of one line.
struct Group {
    /// As of one site.
    merged: SiteEvidence,
    /// How much of it is alive.
    alive: f64,
    /// Where they are in the evidence.
    members: Vec<usize>,
}

impl Group {
    fn of(at: usize, site: &SiteEvidence) -> Self {
        Self { merged: site.clone(), alive: alive(site), members: vec![at] }
    }

    fn add(&mut self, at: usize, site: &SiteEvidence) {
        let (merged, more) = (&mut self.merged, alive(site));
        if self.alive + more > 0.0 {
            let recycled = merged.recycled * self.alive + site.recycled * more;
            merged.recycled = recycled / (self.alive + more);
        }
        self.alive += more;
        merged.classes.extend(&site.classes);
        merged.followed.extend(&site.followed);
        merged.bursts = merged.bursts.max(site.bursts);
        merged.ended += site.ended;
        self.members.push(at);
    }
}

fn alive(site: &SiteEvidence) -> f64 {
    let alive = survival::followed(site).filter(|block| block.fate.end == End::Alive);
    alive.map(|block| block.fate.weight).sum()
}

/// Accuses the sites of which their line, all of it, gives reason to.
fn join(court: &Court<'_>, cases: &mut [Case], line: fn(&Lines) -> Option<LineId>) {
    let mut groups: BTreeMap<(Domain, LineId), Group> = BTreeMap::new();
    let mut alone = Vec::new();
    for (at, (site, case)) in court.evidence.sites.iter().zip(&*cases).enumerate() {
        // Whom the evidence accuses by himself does not speak against his neighbours.
        let Some(line) = line(&site.lines).filter(|_| !case.is_accused()) else {
            alone.push(site.clone());
            continue;
        };
        match groups.entry((site.domain, line)) {
            Entry::Vacant(entry) => drop(entry.insert(Group::of(at, site))),
            Entry::Occupied(mut entry) => entry.get_mut().add(at, site),
        }
    }
    let (mut merged, members): (Vec<_>, Vec<_>) =
        groups.into_values().map(|group| (group.merged, group.members)).unzip();
    merged.extend(alone);
    for (whole, members) in court.cases(&merged).iter().zip(members) {
        if members.len() < 2 || !whole.is_accused() {
            continue;
        }
        for member in members {
            if let Some(case) = cases.get_mut(member) {
                accuse_with(case, whole);
            }
        }
    }
}

/// Accuses a site that lacks nothing but more of its kind, of which its line has enough.
fn accuse_with(case: &mut Case, whole: &Case) {
    let lacks = !case.is_accused()
        && case.objections.iter().all(|objection| objection.ground != Ground::Contrary);
    if !lacks || case.finding.growth.value <= 0.0 || case.tail.died > 0 {
        return;
    }
    let words: Vec<String> = case.objections.drain(..).map(|objection| objection.words).collect();
    case.finding.reasons.retain(|reason| !words.contains(reason));
    case.finding.reasons.push(format!(
        "together with the other calls of its line: {} of {} blocks older than {} are still alive, from {}",
        number(whole.tail.alive as f64),
        number(whole.tail.old as f64),
        seconds(whole.tail.age_s),
        plural(whole.tail.births, "burst"),
    ));
    case.finding.lacks = None;
    case.finding.cleared_if.clone_from(&whole.finding.cleared_if);
    case.finding.confidence = whole.finding.confidence;
    case.finding.trend = whole.finding.trend;
    case.recycled = case.recycled.min(whole.recycled);
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{Evidence, SiteId};
    use super::super::simulate::{Habit, Part, World};
    use super::super::{Judgement, Verdict, judge};
    use super::*;

    /// A service with a site that does this and one that churns.
    fn service(habit: Habit) -> World {
        let part = |habit| Part { domain: Domain::Pymalloc, sizes: vec![64], habit };
        World::new(vec![part(habit), part(Habit::Churn { in_flight: 50.0 })])
    }

    /// As it is where a line calls by so many stacks: each block of the first site is of one of them.
    fn by_stacks(evidence: &mut Evidence, stacks: u32, line: Option<LineId>) {
        let whole = evidence.sites.remove(0);
        let first = evidence.sites.len() as u32 + 1;
        for stack in 0..stacks {
            let mut site = SiteEvidence { followed: Vec::new(), ..whole.clone() };
            site.id = SiteId(first + stack);
            site.lines.own = line;
            let own = whole.followed.iter().zip(0..).filter(|(_, i)| i % stacks == stack);
            site.followed.extend(own.map(|(fate, _)| *fate));
            evidence.sites.push(site);
        }
    }

    fn judged(world: &World, seed: u64, line: Option<LineId>) -> Judgement {
        let mut evidence = world.observe(seed);
        by_stacks(&mut evidence, 12, line);
        judge(&evidence)
    }

    fn accused_growth(judgement: &Judgement) -> f64 {
        judgement.accused.iter().map(|finding| finding.growth.value).sum()
    }

    #[test]
    fn what_no_stack_shows_by_itself_its_line_shows() {
        let leak = Habit::Keep { per_request: 0.5, from: 0.0, to: f64::INFINITY };
        let growth = 8000.0 * 0.5 * 64.0;
        let (mut named, mut told) = (0, 0.0);
        for seed in 0..50 {
            let apart = judged(&service(leak), seed, None);
            let together = judged(&service(leak), seed, Some(LineId(7)));
            assert!(accused_growth(&together) >= accused_growth(&apart));
            named += u32::from(together.verdict == Verdict::Leak);
            told += accused_growth(&together) / growth / 50.0;
            assert!(together.accused.iter().all(|finding| finding.site.0 >= 2), "{together:?}");
        }
        assert!(named >= 48, "{named} of 50");
        assert!((0.9..1.1).contains(&told), "{told}");
    }

    #[test]
    fn a_line_whose_blocks_die_is_not_accused_for_some_that_live() {
        for seed in 0..50 {
            let sessions = Habit::Hold { per_request: 0.5, lifetime: 6.0 };
            let judgement = judged(&service(sessions), seed, Some(LineId(7)));
            assert!(judgement.accused.is_empty(), "{judgement:?}");
        }
    }

    #[test]
    fn a_line_that_has_stopped_is_not_accused() {
        for seed in 0..50 {
            let filled = Habit::Keep { per_request: 0.5, from: 0.0, to: 9.0 };
            let judgement = judged(&service(filled), seed, Some(LineId(7)));
            assert!(judgement.accused.is_empty(), "{judgement:?}");
        }
    }
}
