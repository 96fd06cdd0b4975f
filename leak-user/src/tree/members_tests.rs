use super::*;

const SECOND: u64 = 1_000_000_000;

fn event(pid: u32, tenths: u64, what: What) -> TreeEvent {
    let time = Nanos(tenths * SECOND / 10);
    TreeEvent { pid: Pid(pid), time, what, name: format!("program {pid}") }
}

fn born(pid: u32, tenths: u64) -> TreeEvent {
    event(pid, tenths, What::Born { parent: Pid(1), shares_memory: false })
}

fn due(members: &Members, tenths: u64) -> Vec<u32> {
    let mut due: Vec<u32> = members.due(Nanos(tenths * SECOND / 10)).map(|pid| pid.0).collect();
    due.sort_unstable();
    due
}

fn begin(members: &mut Members, pid: u32, tenths: u64) {
    members.begin(Pid(pid), Nanos(tenths * SECOND / 10));
}

fn finish(members: &mut Members, pid: u32, tenths: u64, outcome: Outcome) {
    members.finish(Pid(pid), outcome, Nanos(tenths * SECOND / 10));
}

fn tree() -> Members {
    let mut members = Members::new();
    members.found(Pid(1), Pid(0), "root".to_owned(), Nanos(0));
    members
}

/// Every process is in one place.
fn sums(members: Members) -> Sums {
    let sums = members.close(0);
    assert_eq!(sums.seen, sums.attached + total(&sums.not_attached), "{sums:?}");
    sums
}

fn total(n: &NotAttached) -> u64 {
    n.not_python
        + n.ended_first
        + n.too_short
        + n.no_room
        + n.too_late
        + n.shared_memory
        + n.unsupported
        + n.failed
        + n.unreported
}

#[test]
fn what_was_there_is_due_at_once_and_what_is_born_when_it_has_lived() {
    let mut members = tree();
    members.note(born(7, 0));
    assert_eq!(due(&members, 0), [1]);
    assert_eq!(due(&members, 1), [1]);
    assert_eq!(due(&members, 2), [1, 7]);
    begin(&mut members, 7, 2);
    assert_eq!(due(&members, 9), [1]);
}

#[test]
fn a_short_life_is_counted() {
    let mut members = tree();
    members.note(born(7, 0));
    members.note(event(7, 1, What::Ended));
    begin(&mut members, 1, 0);
    finish(&mut members, 1, 300, Outcome::Reported);
    let sums = sums(members);
    assert_eq!((sums.seen, sums.attached, sums.alive, sums.born), (2, 1, 1, 1));
    assert_eq!(sums.not_attached.ended_first, 1);
    assert_eq!(sums.others[0].program, "program 7");
}

#[test]
fn a_report_outlives_its_process() {
    let mut members = tree();
    members.note(born(7, 0));
    begin(&mut members, 7, 2);
    members.note(event(7, 100, What::Ended));
    assert_eq!(members.alive(), 1);
    finish(&mut members, 7, 101, Outcome::Reported);
    assert_eq!(sums(members).attached, 1);
}

#[test]
fn a_process_that_replaces_its_program_is_looked_at_anew() {
    let mut members = tree();
    members.note(born(7, 0));
    begin(&mut members, 7, 2);
    // Told late: it was before it was looked at, so that this session is the new program's.
    members.note(event(7, 1, What::Replaced));
    finish(&mut members, 7, 50, Outcome::Reported);
    assert_eq!(due(&members, 60), [1]);
    // Now while it is looked at, told before and after the session's end.
    members.note(event(7, 60, What::Replaced));
    assert_eq!(due(&members, 62), [1, 7]);
    begin(&mut members, 7, 62);
    members.note(event(7, 70, What::Replaced));
    finish(&mut members, 7, 71, Outcome::Reported);
    assert_eq!(due(&members, 72), [1, 7]);
    let sums = sums(members);
    assert_eq!((sums.replaced, sums.attached, sums.seen), (3, 1, 2));
}

#[test]
fn one_that_is_not_python_yet_is_looked_at_three_times() {
    let mut members = tree();
    members.note(born(7, 0));
    for (look, next) in [(2, 10), (10, 40)] {
        begin(&mut members, 7, look);
        finish(&mut members, 7, look, Outcome::Again(Cause::NotPython));
        assert_eq!(due(&members, next - 1), [1]);
        assert_eq!(due(&members, next), [1, 7]);
    }
    begin(&mut members, 7, 40);
    finish(&mut members, 7, 40, Outcome::Again(Cause::NotPython));
    assert_eq!(due(&members, 9_999), [1]);
    // A shell that becomes Python at last.
    members.note(event(7, 500, What::Replaced));
    assert_eq!(due(&members, 502), [1, 7]);
    assert_eq!(sums(members).not_attached, NotAttached { too_late: 2, ..NotAttached::default() });
}

#[test]
fn a_program_that_ends_between_two_looks_is_what_it_was_taken_for() {
    let mut members = tree();
    members.note(born(7, 0));
    begin(&mut members, 7, 2);
    finish(&mut members, 7, 2, Outcome::Again(Cause::NotPython));
    members.note(event(7, 5, What::Ended));
    assert_eq!(sums(members).not_attached.not_python, 1);
}

#[test]
fn what_runs_in_its_parents_memory_is_left_alone_until_it_has_its_own() {
    let mut members = tree();
    for pid in [7, 8] {
        members.note(event(pid, 0, What::Born { parent: Pid(1), shares_memory: true }));
    }
    members.note(event(8, 10, What::Replaced));
    assert_eq!(due(&members, 100), [1, 8]);
    assert_eq!(sums(members).not_attached.shared_memory, 1);
}

#[test]
fn who_waited_for_others_is_counted_so() {
    let mut members = tree();
    members.note(born(7, 0));
    members.wait([Pid(7)]);
    members.note(event(7, 9, What::Ended));
    assert_eq!(sums(members).not_attached.no_room, 1);
}

#[test]
fn after_lives_too_short_to_tell_the_next_must_have_lived_longer() {
    let mut members = tree();
    for pid in 7..10 {
        members.note(born(pid, 0));
        begin(&mut members, pid, 2);
        members.note(event(pid, 4, What::Ended));
        finish(&mut members, pid, 5, Outcome::Nothing(Cause::TooShort));
    }
    members.note(born(20, 100));
    assert_eq!(due(&members, 110), [1]);
    assert_eq!(due(&members, 116), [1, 20]);
    assert_eq!(sums(members).not_attached.too_short, 3);
}

#[test]
fn one_found_before_its_birth_is_told_is_one() {
    let mut members = tree();
    members.found(Pid(7), Pid(1), "x".to_owned(), Nanos(5));
    members.note(born(7, 0));
    assert!(members.get(Pid(7)).unwrap().since().is_some());
    let sums = sums(members);
    assert_eq!((sums.seen, sums.born), (2, 1));
}

#[test]
fn one_that_grows_comes_before_one_that_is_large() {
    let mut members = tree();
    members.note(born(7, 0));
    members.note(born(8, 0));
    for (pid, rss) in [(7, 500), (8, 100)] {
        members.urgency(Pid(pid), Bytes(rss));
    }
    assert!(members.urgency(Pid(7), Bytes(500)) < members.urgency(Pid(8), Bytes(120)));
}

proptest::proptest! {
    /// Whatever the kernel tells and in whatever order, each process is counted once.
    #[test]
    fn nobody_is_lost(steps in proptest::collection::vec((0_u8..6, 2_u32..9, 0_u8..8), 0..200)) {
        let mut members = tree();
        for (tenths, (step, pid, which)) in (0..).zip(steps) {
            match step {
                0 => members.note(born(pid, tenths)),
                1 => members.note(event(pid, tenths, What::Replaced)),
                2 => members.note(event(pid, tenths, What::Ended)),
                3 if due(&members, tenths).contains(&pid) => begin(&mut members, pid, tenths),
                4 => {
                    let causes = [Cause::NotPython, Cause::TooShort, Cause::EndedFirst, Cause::Failed];
                    let cause = causes[usize::from(which) % 4];
                    let outcome = match which {
                        0..3 => Outcome::Reported,
                        3..5 => Outcome::Again(cause),
                        _ => Outcome::Nothing(cause),
                    };
                    finish(&mut members, pid, tenths, outcome);
                }
                _ => members.wait([Pid(pid)]),
            }
        }
        sums(members);
    }
}
