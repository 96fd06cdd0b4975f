//! Sites that keep what they allocate and are too small to be named by themselves.

use super::*;

/// One line keeps much and two a little, of sizes of their own.
fn judged() -> Judgement {
    let mut world =
        around(vec![part(&[96], always(2.0)), part(&[32], always(0.2)), part(&[16], always(0.4))]);
    world.bursts = 48;
    judge(&world.observe(3))
}

fn sites(findings: &[Finding]) -> Vec<u32> {
    let mut sites: Vec<u32> = findings.iter().map(|finding| finding.site.0).collect();
    sites.sort_unstable();
    sites
}

#[test]
fn what_hangs_with_the_accused_is_accused_with_them() {
    let mut judgement = judged();
    assert_eq!((sites(&judgement.accused), sites(&judgement.small)), (vec![0], vec![1, 2]));
    let before = judgement.unexplained;
    judgement.join(|finding| finding.site.0 == 1);
    assert_eq!((sites(&judgement.accused), judgement.small.len()), (vec![0, 1], 0));
    let joined = judgement.accused.iter().find(|finding| finding.site.0 == 1).unwrap();
    assert!(joined.confidence > 0.5, "{joined:?}");
    assert!((before - judgement.unexplained - joined.growth.value).abs() < 1e-6);
    assert!(judgement.reasons.last().unwrap().starts_with("1 site more, "));
    let other = judgement.others.iter().find(|finding| finding.site.0 == 2).unwrap();
    assert!(other.confidence <= 0.3, "{other:?}");
}

#[test]
fn where_nobody_joins_nothing_is_said_of_it() {
    let mut judgement = judged();
    let reasons = judgement.reasons.clone();
    judgement.join(|_| false);
    assert_eq!((sites(&judgement.accused), judgement.reasons), (vec![0], reasons));
}
