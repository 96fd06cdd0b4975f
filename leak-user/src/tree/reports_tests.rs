use super::*;

fn snapshot(pid: u32, verdict: Verdict, growth: f64) -> Box<Snapshot> {
    let mut snapshot: Snapshot =
        serde_json::from_str(include_str!("../sink/golden/leak.json")).expect("a report");
    snapshot.target.pid = pid;
    snapshot.verdict = verdict;
    snapshot.observed.duration_s = 3.0;
    if verdict == Verdict::Leak {
        snapshot.leaks[0].growth_bytes_per_s = growth;
        snapshot.leaks[0].pid = pid;
    } else {
        snapshot.leaks.clear();
    }
    Box::new(snapshot)
}

fn kept(pid: u32, verdict: Verdict, growth: f64, ended: bool) -> Kept {
    Kept {
        parent: Pid(1),
        born: None,
        ended: ended.then_some(Nanos(9)),
        snapshot: snapshot(pid, verdict, growth),
    }
}

fn sums() -> Sums {
    Sums {
        seen: 0,
        attached: 0,
        not_attached: NotAttached::default(),
        born: 0,
        replaced: 0,
        alive: 0,
        others: Vec::new(),
    }
}

fn whole(all: Vec<Kept>) -> Snapshot {
    let mut reports = Reports::default();
    for kept in all {
        reports.keep(kept, Pid(1));
    }
    reports.write_up(Pid(1), sums(), None).expect("a report")
}

#[test]
fn a_leak_in_any_is_known_at_once() {
    let mut reports = Reports::default();
    reports.keep(kept(1, Verdict::Inconclusive, 0.0, false), Pid(1));
    reports.keep(kept(7, Verdict::NoLeak, 0.0, true), Pid(1));
    assert!(!reports.has_leak());
    let mut ended = Reports::default();
    ended.keep(kept(8, Verdict::Leak, 900.0, true), Pid(1));
    reports.keep(kept(9, Verdict::Leak, 900.0, false), Pid(1));
    assert!(reports.has_leak() && ended.has_leak());
}

#[test]
fn leaks_of_all_are_ranked_together_and_say_whose_they_are() {
    let whole = whole(vec![
        kept(1, Verdict::NoLeak, 0.0, false),
        kept(7, Verdict::Leak, 100.0, false),
        kept(8, Verdict::Leak, 900.0, true),
    ]);
    assert_eq!(whole.target.pid, 1);
    assert_eq!(whole.verdict, Verdict::Leak);
    let leaks: Vec<_> = whole.leaks.iter().map(|leak| (leak.rank, leak.pid)).collect();
    assert_eq!(leaks, [(1, 8), (2, 7)]);
    let processes = whole.processes.expect("the others");
    assert_eq!(processes.iter().map(|p| p.pid).collect::<Vec<_>>(), [7, 8]);
    assert_eq!(processes[1].ended_ns, Some(9));
    let tree = whole.tree.expect("the tree");
    assert_eq!(tree.pids, [1, 7, 8]);
    assert_eq!(tree.members[0].verdict, Verdict::NoLeak);
}

#[test]
fn only_the_living_add_up() {
    let one = snapshot(1, Verdict::NoLeak, 0.0).memory;
    let all = vec![kept(1, Verdict::NoLeak, 0.0, false), kept(2, Verdict::NoLeak, 0.0, true)];
    let tree = whole(all).tree.expect("the tree");
    assert_eq!(tree.rss_bytes, one.rss_bytes);
    assert!((tree.growth_interval.0 - one.growth_interval.0).abs() < 1e-6);
}

#[test]
fn the_verdict_is_that_of_the_living_unless_one_leaks() {
    use Verdict::{Inconclusive, Leak, NoLeak};
    let verdict = |list: &[(Verdict, bool)]| {
        let all = (1..).zip(list).map(|(pid, (v, ended))| kept(pid, *v, 1.0, *ended));
        whole(all.collect()).verdict
    };
    assert_eq!(verdict(&[(NoLeak, false), (Leak, true)]), Leak);
    assert_eq!(verdict(&[(NoLeak, false), (Inconclusive, true)]), NoLeak);
    assert_eq!(verdict(&[(NoLeak, false), (Inconclusive, false)]), Inconclusive);
    assert_eq!(verdict(&[(NoLeak, true), (Inconclusive, true)]), NoLeak);
    assert_eq!(verdict(&[(Inconclusive, true)]), Inconclusive);
}

#[test]
fn one_that_was_observed_for_long_and_could_not_be_told_is_not_cleared_by_its_end() {
    let mut ended = kept(2, Verdict::Inconclusive, 0.0, true);
    ended.snapshot.observed.duration_s = 20.0;
    assert_eq!(
        whole(vec![kept(1, Verdict::NoLeak, 0.0, false), ended]).verdict,
        Verdict::Inconclusive
    );
}

#[test]
fn where_the_root_has_no_report_a_leaking_process_stands_in() {
    let all = vec![kept(7, Verdict::NoLeak, 0.0, false), kept(8, Verdict::Leak, 1.0, false)];
    let whole = whole(all);
    assert_eq!(whole.target.pid, 8);
    assert_eq!(whole.processes.expect("the other")[0].pid, 7);
    assert!(Reports::default().write_up(Pid(1), sums(), None).is_none());
}

#[test]
fn of_the_ended_a_bounded_number_is_kept_and_the_leaking_first() {
    let mut all = vec![kept(1, Verdict::NoLeak, 0.0, false)];
    all.extend((0..150).map(|n| kept(100 + n, Verdict::Leak, f64::from(n), true)));
    all.extend((0..50).map(|n| kept(1000 + n, Verdict::NoLeak, 0.0, true)));
    let whole = whole(all);
    let tree = whole.tree.expect("the tree");
    assert_eq!(tree.reports_dropped, 70);
    assert_eq!(tree.pids.len(), 1 + LEAKING + CLEAN);
    assert!(whole.leaks.iter().all(|leak| leak.growth_bytes_per_s >= 50.0));
    assert!(tree.pids.contains(&1049) && !tree.pids.contains(&1000));
}
