//! The reports of the tree's processes, and the one report that they make.

use std::collections::HashMap;

use super::members::Sums;
use crate::{
    snapshot::{NotAttached, ProcessReport, Site, Snapshot, Tree, TreeMember, Verdict},
    units::{Nanos, Pid},
    verdict::CLEAR_DURATION_S,
};

/// Reports of ended processes that leak and are kept.
const LEAKING: usize = 100;

/// … and of those that don't.
const CLEAN: usize = 30;

/// Other sites that are kept of a process that has ended.
const SITES: usize = 10;

/// A report and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub parent: Pid,
    /// When its program began, where that was seen.
    pub born: Option<Nanos>,
    /// When it ended, or was found ended.
    pub ended: Option<Nanos>,
    pub snapshot: Box<Snapshot>,
}

/// The reports so far. However many processes end, a bounded number is kept.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// The first of the root.
    root: Option<Kept>,
    living: Vec<Kept>,
    leaking: Vec<Kept>,
    clean: Vec<Kept>,
    dropped: u64,
}

impl Reports {
    /// Keeps a report: those of ended processes in place of less interesting ones.
    pub(super) fn keep(&mut self, mut kept: Kept, root: Pid) {
        if kept.snapshot.target.pid == root.0 && self.root.is_none() {
            self.root = Some(kept);
            return;
        }
        if kept.ended.is_none() {
            self.living.push(kept);
            return;
        }
        kept.snapshot.sites.truncate(SITES);
        let growth = |kept: &Kept| {
            kept.snapshot.leaks.iter().map(|leak| leak.growth_bytes_per_s).sum::<f64>()
        };
        if kept.snapshot.verdict == Verdict::Leak {
            self.leaking.push(kept);
            if self.leaking.len() > LEAKING {
                let least = (0..self.leaking.len())
                    .min_by(|a, b| growth(&self.leaking[*a]).total_cmp(&growth(&self.leaking[*b])));
                least.map(|least| self.leaking.remove(least));
                self.dropped += 1;
            }
        } else {
            self.clean.push(kept);
            if self.clean.len() > CLEAN {
                self.clean.remove(0);
                self.dropped += 1;
            }
        }
    }

    /// Does any of them accuse somebody?
    pub(super) fn has_leak(&self) -> bool {
        let all = self.root.iter().chain(&self.living).chain(&self.leaking);
        all.into_iter().any(|kept| kept.snapshot.verdict == Verdict::Leak)
    }

    /// The whole report; `failure`: why a process could not be observed. None where no process has one.
    pub(super) fn write_up(
        mut self,
        root: Pid,
        sums: Sums,
        failure: Option<&str>,
    ) -> Option<Snapshot> {
        let mut all: Vec<Kept> = self.root.take().into_iter().collect();
        self.living.sort_by_key(|kept| kept.snapshot.target.pid);
        all.append(&mut self.living);
        all.append(&mut self.leaking);
        all.append(&mut self.clean);
        // Where the root has none, another one of its programs or the most telling process stands in.
        let first = (0..all.len()).min_by_key(|at| {
            let snapshot = &all[*at].snapshot;
            (snapshot.target.pid != root.0, snapshot.verdict != Verdict::Leak, *at)
        })?;
        let first = if all[0].snapshot.target.pid == root.0 { 0 } else { first };
        let first = all.remove(first);
        all.insert(0, first);

        let tree = tree(&all, sums, self.dropped);
        let leaks = leaks(&all);
        let reasons = reasons(&all, &tree);
        let unseen = unseen(&tree, failure);
        // Why, of the process that leaks most, else of the first.
        let worst = leaks.first().map(|leak| leak.pid);
        let told =
            all.iter().find(|kept| Some(kept.snapshot.target.pid) == worst).or(all.first())?;
        let pid = told.snapshot.target.pid;
        let its = told.snapshot.reasons.iter().map(|reason| format!("process {pid}: {reason}"));
        let reasons = reasons.into_iter().chain(its).collect();
        let mut all = all.into_iter();
        let mut whole = *all.next()?.snapshot;
        whole.processes = Some(all.map(process_report).collect());
        whole.verdict = tree.verdict;
        whole.leaks = leaks;
        whole.reasons = reasons;
        whole.unseen.extend(unseen);
        whole.tree = Some(tree);
        Some(whole)
    }
}

fn process_report(kept: Kept) -> ProcessReport {
    ProcessReport {
        pid: kept.snapshot.target.pid,
        parent: kept.parent.0,
        cmdline: kept.snapshot.target.cmdline.clone(),
        born_ns: kept.born.map(|time| time.0),
        ended_ns: kept.ended.map(|time| time.0),
        report: kept.snapshot,
    }
}

fn tree(all: &[Kept], sums: Sums, dropped: u64) -> Tree {
    let (mut rss, mut pss, mut growth, mut below, mut above) = (0, 0, 0.0, 0.0, 0.0);
    for kept in all.iter().filter(|kept| kept.ended.is_none()) {
        let memory = &kept.snapshot.memory;
        rss += memory.rss_bytes;
        pss += memory.pss_bytes;
        growth += memory.growth_bytes_per_s;
        // Errors of different processes have nothing to do with each other.
        below += (memory.growth_bytes_per_s - memory.growth_interval.0).powi(2);
        above += (memory.growth_interval.1 - memory.growth_bytes_per_s).powi(2);
    }
    Tree {
        verdict: verdict(all),
        seen: sums.seen,
        attached: sums.attached,
        not_attached: sums.not_attached,
        born: sums.born,
        replaced: sums.replaced,
        alive: sums.alive,
        pids: all.iter().map(|kept| kept.snapshot.target.pid).collect(),
        reports_dropped: dropped,
        others: sums.others,
        rss_bytes: rss,
        pss_bytes: pss,
        growth_bytes_per_s: growth,
        growth_interval: (growth - below.sqrt(), growth + above.sqrt()),
        members: all.iter().map(member).collect(),
    }
}

fn member(kept: &Kept) -> TreeMember {
    let snapshot = &kept.snapshot;
    TreeMember {
        pid: snapshot.target.pid,
        parent: kept.parent.0,
        verdict: snapshot.verdict,
        leaks: snapshot.leaks.len() as u32,
        rss_bytes: snapshot.memory.rss_bytes,
        growth_bytes_per_s: snapshot.memory.growth_bytes_per_s,
        ended: kept.ended.is_some(),
    }
}

/// A leak if any process leaks. Else those decide that live or were observed for long enough: what ended early could
/// often not be told.
fn verdict(all: &[Kept]) -> Verdict {
    if all.iter().any(|kept| kept.snapshot.verdict == Verdict::Leak) {
        return Verdict::Leak;
    }
    let long = |kept: &&Kept| kept.snapshot.observed.duration_s >= CLEAR_DURATION_S;
    let telling = all.iter().filter(|kept| kept.ended.is_none() || long(kept));
    let verdicts: Vec<Verdict> = telling.map(|kept| kept.snapshot.verdict).collect();
    let clean = if verdicts.is_empty() {
        all.iter().any(|kept| kept.snapshot.verdict == Verdict::NoLeak)
    } else {
        verdicts.iter().all(|verdict| *verdict == Verdict::NoLeak)
    };
    if clean { Verdict::NoLeak } else { Verdict::Inconclusive }
}

/// The accused of all processes, the worst first: by what they grow and how sure that is.
fn leaks(all: &[Kept]) -> Vec<Site> {
    let mut leaks: Vec<Site> =
        all.iter().flat_map(|kept| kept.snapshot.leaks.iter().cloned()).collect();
    let weight = |leak: &Site| leak.growth_bytes_per_s * leak.confidence;
    leaks.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    // Each process has numbered its own.
    let mut findings: HashMap<(u32, u32), u32> = HashMap::new();
    for (rank, leak) in (1..).zip(&mut leaks) {
        leak.rank = rank;
        let next = findings.len() as u32 + 1;
        leak.finding = *findings.entry((leak.pid, leak.finding)).or_insert(next);
    }
    leaks
}

fn reasons(all: &[Kept], tree: &Tree) -> Vec<String> {
    let of = |verdict| all.iter().filter(|kept| kept.snapshot.verdict == verdict).count();
    let (leaking, open) = (of(Verdict::Leak), of(Verdict::Inconclusive));
    let mut reasons = Vec::new();
    if leaking > 0 {
        reasons.push(format!(
            "of {} observed, {leaking} leak{}",
            processes(tree.attached),
            s(leaking as u64)
        ));
    } else {
        reasons.push(format!("of {} observed, none leaks", processes(tree.attached)));
    }
    if open > 0 {
        reasons.push(format!("of {open} it could not be told"));
    }
    reasons
}

fn s(count: u64) -> &'static str {
    if count == 1 { "s" } else { "" }
}

fn processes(count: u64) -> String {
    if count == 1 { "1 process".to_owned() } else { format!("{count} processes") }
}

/// What was not seen of the tree, in sentences.
fn unseen(tree: &Tree, failure: Option<&str>) -> Vec<String> {
    let NotAttached {
        not_python: _,
        ended_first,
        too_short,
        no_room,
        too_late,
        shared_memory: _,
        unsupported,
        failed,
        unreported,
    } = tree.not_attached;
    let why = failure.map_or_else(String::new, |why| format!(" ({why})"));
    let causes = [
        (ended_first, "that ended before they could be looked at".to_owned()),
        (too_short, "that ended before there was enough to say".to_owned()),
        (no_room, "that waited for others to be observed first".to_owned()),
        (too_late, "that came when the observation was about to end".to_owned()),
        (unsupported, "of a Python that is not supported".to_owned()),
        (failed, format!("that could not be observed{why}")),
        (
            unreported,
            "of which the kernel could not tell, since too many were born at once".to_owned(),
        ),
    ];
    let mut unseen: Vec<String> = causes
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} of the tree {what}", processes(count)))
        .collect();
    if tree.reports_dropped > 0 {
        unseen.push(format!(
            "the reports of {} that ended: only some are kept",
            processes(tree.reports_dropped)
        ));
    }
    unseen
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
