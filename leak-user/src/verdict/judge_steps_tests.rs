//! Growth that comes by steps.

use super::*;

fn in_steps(rises: &'static [(f64, f64)]) -> Part {
    part(&[64], Habit::Steps { per_request: 2.0, rises })
}

const THREE_STEPS: &[(f64, f64)] = &[(3.0, 5.0), (9.0, 11.0), (15.0, 17.0)];
const TWO_STEPS: &[(f64, f64)] = &[(4.0, 6.0), (12.0, 14.0)];

#[test]
fn a_leak_by_steps_is_named() {
    let mut minute = around(vec![in_steps(&[(4.0, 9.0), (24.0, 29.0), (44.0, 49.0)])]);
    (minute.duration_s, minute.bursts, minute.points) = (60.0, 55, 100);
    let cache = part(&[64], Habit::Keep { per_request: 2.0, from: 3.0, to: 5.0 });
    check(vec![
        ("in three steps", 1, around(vec![in_steps(THREE_STEPS)]), Demand { first: 190, ..CLEAR }),
        ("every 20 s in a minute", 1, minute, CLEAR),
        (
            "beside a cache that the first step fills",
            1,
            around(vec![in_steps(THREE_STEPS), cache]),
            Demand { first: 180, ..CLEAR },
        ),
    ]);
}

#[test]
fn a_pause_after_two_steps_is_neither_leak_nor_end() {
    let two = around(vec![in_steps(TWO_STEPS)]);
    let t = tally(&two, 1);
    println!("two steps: {} leak, {} no-leak, {} unsure", t.leak, t.clean, t.unsure);
    assert_eq!((t.leak, t.clean), (0, 0));
    let judgement = judge(&two.observe(1));
    assert!(says(&judgement, "stopped and went on before"), "{:?}", judgement.reasons);
    let keeper = judgement.others.iter().find(|finding| finding.site.0 == 0).unwrap();
    assert_eq!(keeper.trend, Trend::Paused);
    assert!(keeper.reasons.last().unwrap().contains("too few to tell"), "{:?}", keeper.reasons);
}

#[test]
fn a_cache_that_fills_with_a_hiccup_is_acquitted() {
    let rises: &[(f64, f64)] = &[(2.0, 5.0), (6.0, 9.0)];
    let t = tally(&around(vec![in_steps(rises)]), 0);
    println!("with a hiccup: {} leak, {} no-leak, {} unsure", t.leak, t.clean, t.unsure);
    assert!(t.leak == 0 && t.clean >= 190);
}
