//! Objects that change owners behind the allocator's back.

use super::*;

/// A service with two lines that keep what they allocate; `recycled` says of which of them it is objects
/// that Python hands on by itself.
fn two_keepers(recycled: [f64; 2]) -> Judgement {
    let world = around(vec![part(&[96], always(2.0)), part(&[32], always(8.0))]);
    let mut evidence = world.observe(1);
    for (site, recycled) in evidence.sites.iter_mut().zip(recycled) {
        site.recycled = recycled;
    }
    judge(&evidence)
}

fn accused(judgement: &Judgement) -> Vec<u32> {
    judgement.accused.iter().map(|finding| finding.site.0).collect()
}

#[test]
fn a_line_that_recycles_is_not_accused_beside_one_that_keeps() {
    assert_eq!(accused(&two_keepers([0.0, 0.8])).len(), 2);
    let judgement = two_keepers([0.0, 1.0]);
    assert_eq!(judgement.verdict, Verdict::Leak);
    assert_eq!(accused(&judgement), [0]);
    let handed_free = judgement.others.iter().find(|finding| finding.site.0 == 1).unwrap();
    assert!(handed_free.reasons.last().unwrap().starts_with("100 % of what stays are objects"));
    assert!(judgement.reasons[0].starts_with("1 site keeps"), "{:?}", judgement.reasons);
    assert!(judgement.reasons.last().unwrap().contains("counted to those that may keep them"));
    // What it lets go is the other's, or somebody else's.
    let both = two_keepers([0.0, 0.8]);
    let growth = |judgement: &Judgement| {
        judgement.accused.iter().map(|finding| finding.growth.value).sum::<f64>()
    };
    assert!((growth(&judgement) / growth(&both) - 1.0).abs() < 1e-9);
    let own = both.accused.iter().find(|finding| finding.site.0 == 0).unwrap();
    let now = &judgement.accused[0];
    assert!((now.growth.low - own.growth.low).abs() < 1e-6 && now.live_bytes > own.live_bytes);
    assert!(!judgement.reasons.iter().any(|reason| reason.contains("not explained")));
}

/// Each object takes a pointer of whoever keeps it: a small leak beside can't hold so many.
#[test]
fn what_others_cannot_hold_stays_with_its_line() {
    let world = around(vec![part(&[96], always(0.2)), part(&[32], always(100.0))]);
    let mut evidence = world.observe(1);
    evidence.sites[1].recycled = 1.0;
    let judgement = judge(&evidence);
    assert!(accused(&judgement).contains(&1), "{judgement:#?}");
}

/// Whoever keeps them may be in what grows beside and was not found yet.
#[test]
fn a_line_that_recycles_is_not_accused_for_what_nobody_explains() {
    let world = around(vec![part(&[96], always(2.0)), part(&[32], always(8.0))]);
    let mut evidence = world.observe(1);
    evidence.sites[0].recycled = 1.0;
    evidence.sites[1].followed.clear();
    let judgement = judge(&evidence);
    assert_eq!((accused(&judgement), judgement.verdict), (vec![], Verdict::Inconclusive));
    assert!(judgement.reasons.iter().any(|reason| reason.contains("may keep them")));
}

/// A document's list is its line's, surely, and the dicts in it are those that another line let go: what is sure is little
/// by itself, and all that there is.
#[test]
fn who_surely_keeps_a_little_answers_for_what_is_handed_on() {
    let parts = [part(&[16], always(0.15)), part(&[32], always(1.0)), part(&[160], always(0.5))];
    let mut evidence = around(parts.to_vec()).observe(1);
    evidence.sites[1].recycled = 1.0;
    evidence.sites[2].followed.clear();
    let judgement = judge(&evidence);
    assert_eq!(
        (accused(&judgement), judgement.verdict),
        (vec![0], Verdict::Leak),
        "{judgement:#?}"
    );
    let handed_on = 8000.0 * 32.0;
    let growth = judgement.accused[0].growth;
    assert!((growth.value / handed_on - 1.0).abs() < 0.1 && growth.low < 0.2 * handed_on);
    assert!(judgement.remainder().is_some());
    // Alone it is nothing to speak of.
    evidence.sites[1].followed.clear();
    assert!(accused(&judge(&evidence)).is_empty());
}

#[test]
fn lines_that_only_recycle_are_accused_with_doubt() {
    let (sure, doubtful) = (two_keepers([0.0, 0.0]), two_keepers([1.0, 0.95]));
    assert_eq!(accused(&doubtful), accused(&sure));
    for (sure, doubtful) in sure.accused.iter().zip(&doubtful.accused) {
        assert!((doubtful.confidence / sure.confidence - 0.5).abs() < 1e-9);
    }
}
