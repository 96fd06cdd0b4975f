//! The report of a process tree: the tree first, then what its processes have to say.

use super::paths::Paths;
use super::{IN_FULL, cost, fresh, headline, memory, number, others, site, stack, title};
use crate::sink::page::{Line, Page, Paint};
use crate::snapshot::{
    Coverage, Losses, OtherProgram, Site, Snapshot, Target, Tree, TreeMember, Verdict,
};
use crate::units::Bytes;

/// Processes in the table.
const ROWS: usize = 16;

/// Process ids in a row of text.
const PIDS: usize = 8;

/// Processes whose open verdict is explained.
const EXPLAINED: usize = 3;

/// One line that leaks, in however many processes.
struct Group {
    /// That of the process where it is worst, with the growth of all.
    site: Site,
    /// How sure it is of that alone.
    pids: Vec<u32>,
}

/// Writes the report.
pub(super) fn write(page: &mut Page, snapshot: &Snapshot, tree: &Tree) {
    let groups = groups(&snapshot.leaks);
    let sites: Vec<Site> = groups.iter().map(|group| group.site.clone()).collect();
    page.line(&headline::verdict(page.width(), snapshot.verdict, &sites));
    page.wrapped(Line::from("  "), Paint::Plain, &meaning(tree));
    for reason in &snapshot.reasons {
        page.wrapped(Line::from("  ").paint(Paint::Dim, "· "), Paint::Plain, reason);
    }
    headline::about(page, &snapshot.target);

    let paths = Paths::of(&snapshot.target);
    for group in groups.iter().take(IN_FULL) {
        page.blank();
        site::write(page, &group.site, paths, Some(&within(group, tree)));
    }
    let rest = sites.get(IN_FULL..).unwrap_or_default();
    others::write(page, "Further leaking lines", rest, paths);
    processes(page, snapshot, tree);
    not_observed(page, &tree.others);

    let focus = focus(snapshot);
    let paths = Paths::of(&focus.target);
    let pid = focus.target.pid;
    let name = format!("Other lines that hold memory in process {pid}, not accused");
    others::write(page, &name, &focus.sites, paths);
    fresh::write(page, focus, paths);
    memory::write(page, &focus.memory, &format!("Where the memory of process {pid} is"));
    cost::write(page, &summed(snapshot));
}

/// The reports of all processes, the first one's first.
fn all(snapshot: &Snapshot) -> impl Iterator<Item = &Snapshot> {
    let others = snapshot.processes.as_deref().unwrap_or_default();
    std::iter::once(snapshot).chain(others.iter().map(|process| &*process.report))
}

/// The process that the rest is about: the one of the worst leak, else the first.
fn focus(snapshot: &Snapshot) -> &Snapshot {
    let worst = snapshot.leaks.first().map(|leak| leak.pid);
    all(snapshot).find(|report| Some(report.target.pid) == worst).unwrap_or(snapshot)
}

/// The same line of the same allocator is one group.
fn groups(leaks: &[Site]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for leak in leaks {
        let frame = stack::accused(&leak.stack);
        let known = groups.iter_mut().find(|group| {
            stack::same_line(stack::accused(&group.site.stack), frame)
                && group.site.domain == leak.domain
        });
        match known {
            Some(group) => {
                group.site.growth_bytes_per_s += leak.growth_bytes_per_s;
                if !group.pids.contains(&leak.pid) {
                    group.pids.push(leak.pid);
                }
            }
            None => groups.push(Group { site: leak.clone(), pids: vec![leak.pid] }),
        }
    }
    let growth = |group: &Group| group.site.growth_bytes_per_s * group.site.confidence;
    groups.sort_by(|a, b| growth(b).total_cmp(&growth(a)));
    for (rank, group) in (1..).zip(&mut groups) {
        group.site.finding = rank;
        if group.pids.len() > 1 {
            // One process's, which says nothing of the sum.
            group.site.growth_interval = (f64::NEG_INFINITY, f64::INFINITY);
        }
    }
    groups
}

/// `8 of 9 processes: 17, 18, …`.
fn within(group: &Group, tree: &Tree) -> String {
    let [first, ..] = group.pids[..] else { return String::new() };
    if group.pids.len() == 1 {
        return format!("process {first}");
    }
    let named: Vec<String> = group.pids.iter().take(PIDS).map(ToString::to_string).collect();
    let more = if group.pids.len() > PIDS { ", …" } else { "" };
    format!(
        "{} of {}: {}{more}; growth is their sum, the rest of process {first}",
        number::count(group.pids.len() as u64),
        number::processes(tree.attached),
        named.join(", ")
    )
}

fn meaning(tree: &Tree) -> String {
    let (low, high) = tree.growth_interval;
    let growth = tree.growth_bytes_per_s;
    let text = if low > 0.0 {
        format!(
            "grow by {} ({})",
            number::rate(growth).trim_start_matches('+'),
            number::hourly(growth).trim_start_matches('+')
        )
    } else if high < 0.0 {
        format!("shrink by {}", number::rate(growth).trim_start_matches('-'))
    } else {
        "did not measurably grow".to_owned()
    };
    let share = match tree.pss_bytes {
        0 => String::new(),
        pss => format!(", what they share counted once {}", Bytes(pss)),
    };
    format!(
        "{} of the tree were seen, {} live, {} were observed. Those that live have an RSS of {} \
         together{share}, and {text}.",
        number::processes(tree.seen),
        number::count(tree.alive),
        number::count(tree.attached),
        Bytes(tree.rss_bytes)
    )
}

/// What leaks first, then what could not be told, then the rest by memory.
fn processes(page: &mut Page, snapshot: &Snapshot, tree: &Tree) {
    title(page, "The processes observed");
    let head = format!(
        "  {:>8} {:>8} {:>9} {:>13}  {:<12}  command",
        "pid", "parent", "RSS", "growth", "verdict"
    );
    page.line(&Line::default().paint(Paint::Dim, &head));
    let mut rows: Vec<(&TreeMember, &Snapshot)> = tree.members.iter().zip(all(snapshot)).collect();
    let order = |verdict| match verdict {
        Verdict::Leak => 0,
        Verdict::Inconclusive => 1,
        Verdict::NoLeak => 2,
    };
    rows.sort_by_key(|(member, _)| {
        (order(member.verdict), std::cmp::Reverse(member.rss_bytes), member.pid)
    });
    for (member, report) in rows.iter().take(ROWS) {
        let (paint, verdict) = match member.verdict {
            Verdict::Leak => (Paint::Bad, "leaks"),
            Verdict::Inconclusive => (Paint::Doubt, "inconclusive"),
            Verdict::NoLeak => (Paint::Plain, "no leak"),
        };
        let line = Line::from(
            format!(
                "  {:>8} {:>8} {:>9} {:>13}  ",
                member.pid,
                member.parent,
                Bytes(member.rss_bytes).to_string(),
                number::rate(member.growth_bytes_per_s)
            )
            .as_str(),
        )
        .paint(paint, &format!("{verdict:<12}  "));
        page.line(&line.plain(&command(&report.target, member)));
    }
    if rows.len() > ROWS {
        let more = number::processes((rows.len() - ROWS) as u64);
        let text = format!("  and {more} more (all in --format json)");
        page.line(&Line::default().paint(Paint::Dim, &text));
    }
    let open = rows.iter().filter(|(member, _)| member.verdict == Verdict::Inconclusive);
    for (member, report) in open.take(EXPLAINED) {
        // The first one's own reasons stand behind those of the tree, above.
        if let (Some(reason), true) = (report.reasons.first(), report.tree.is_none()) {
            let start = Line::from("  ").paint(Paint::Dim, &format!("{}: ", member.pid));
            page.wrapped(start, Paint::Plain, reason);
        }
    }
}

fn command(target: &Target, member: &TreeMember) -> String {
    let ended = if member.ended { "(ended) " } else { "" };
    format!("{ended}{}", headline::command(target))
}

fn not_observed(page: &mut Page, others: &[OtherProgram]) {
    if others.is_empty() {
        return;
    }
    title(page, "Processes not observed");
    for other in others {
        let name = if other.program.is_empty() { "unknown" } else { &other.program };
        let line = Line::from(format!("  {:>8}  ", number::count(other.count)).as_str());
        page.line(&line.plain(name).column(30).paint(Paint::Dim, &other.cause.replace('_', " ")));
    }
}

/// The observations of all as one, for what they cost and missed.
fn summed(snapshot: &Snapshot) -> Snapshot {
    let mut sum = snapshot.clone();
    let mut weighted = sum.overhead.ns_per_hit * sum.overhead.hits as f64;
    for report in all(snapshot).skip(1) {
        sum.observed.duration_s = sum.observed.duration_s.max(report.observed.duration_s);
        sum.observed.bursts += report.observed.bursts;
        sum.observed.allocations += report.observed.allocations;
        let (cost, other) = (&mut sum.overhead, &report.overhead);
        if other.spent > cost.spent {
            (cost.spent, cost.of_own_work) = (other.spent, other.of_own_work);
        }
        sum.overhead.hits += report.overhead.hits;
        weighted += report.overhead.ns_per_hit * report.overhead.hits as f64;
        sum.coverage = Coverage {
            pymalloc: match (sum.coverage.pymalloc, report.coverage.pymalloc) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        };
        add(&mut sum.losses, &report.losses);
    }
    sum.overhead.ns_per_hit = weighted / (sum.overhead.hits.max(1) as f64);
    sum
}

fn add(sum: &mut Losses, more: &Losses) {
    // Taken apart in full, so that a new cause cannot be forgotten here.
    let Losses {
        ring_full,
        map_full,
        stacks_truncated,
        unreadable,
        unpredicted,
        unmatched_returns,
        bad_records,
        stacks_missing,
        sites_forgotten,
        unresolved_frames,
        breakpoints_refused,
    } = *more;
    sum.ring_full += ring_full;
    sum.map_full += map_full;
    sum.stacks_truncated += stacks_truncated;
    sum.unreadable += unreadable;
    sum.unpredicted += unpredicted;
    sum.unmatched_returns += unmatched_returns;
    sum.bad_records += bad_records;
    sum.stacks_missing += stacks_missing;
    sum.sites_forgotten += sites_forgotten;
    sum.unresolved_frames += unresolved_frames;
    sum.breakpoints_refused += breakpoints_refused;
}
