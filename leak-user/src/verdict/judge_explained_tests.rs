//! What a judgement says of those it accuses, and of those it does not yet.

use super::super::super::survival;
use super::*;

#[test]
fn a_leak_is_explained_with_numbers() {
    let judgement = judge(&five_stay());
    assert_eq!(judgement.verdict, Verdict::Leak);
    let worst = &judgement.accused[0];
    assert_eq!(worst.trend, Trend::Steep);
    assert_eq!(worst.survival, 1.0);
    // 5 × 8,000 blocks of 64 bytes a second.
    assert!((worst.growth.value / 2_560_000.0 - 1.0).abs() < 0.05, "{worst:?}");
    assert!(worst.growth.low < worst.growth.value && worst.growth.value < worst.growth.high + 1.0);
    assert!((worst.blocks_per_s / 40_000.0 - 1.0).abs() < 0.05);
    assert!((worst.live_count as f64 / 800_000.0 - 1.0).abs() < 0.05);
    assert!((judgement.growth.value / 2_560_000.0 - 1.0).abs() < 0.05);
    for reason in judgement.reasons.iter().chain(&worst.reasons) {
        println!("{reason}");
    }
    assert!(says(&judgement, "live small blocks grow by"));
    assert!(
        worst.reasons.iter().any(|r| r.contains("blocks older than 2 s are still alive, from"))
    );
    assert!(judgement.others.iter().all(|other| !other.reasons.is_empty()));
}

/// With so many of the old blocks freed as is said it is cleared, and with a third of them it is not.
#[test]
fn what_is_said_to_clear_a_line_does() {
    let world = around(vec![part(&[64], always(5.0))]);
    for seed in 0..20 {
        let evidence = world.observe(seed);
        let worst = &judge(&evidence).accused[0];
        let words = worst.cleared_if.as_deref().unwrap();
        let (freed, rest) = words.split_once(" of these ").unwrap();
        let (alive, _) = rest.split_once(" blocks were freed").unwrap();
        let [freed, alive] = [freed, alive].map(|n| n.replace(',', "").parse::<usize>().unwrap());
        let is_accused = |freed: usize| {
            let mut evidence = evidence.clone();
            let site = evidence.sites.iter_mut().find(|site| site.id == worst.site).unwrap();
            let old =
                |fate: &&mut Fate| fate.alive_until_s - fate.born_s >= survival::old_age(20.0);
            let alive_ones =
                site.followed.iter_mut().filter(old).filter(|fate| fate.end == End::Alive);
            for (place, fate) in alive_ones.enumerate() {
                // Evenly among them all.
                if (place + 1) * freed / alive > place * freed / alive {
                    fate.end = End::Died;
                }
            }
            judge(&evidence).accused.iter().any(|accused| accused.site == worst.site)
        };
        // Fewer may be enough, but not a third.
        assert!(!is_accused(freed + freed / 4) && is_accused(freed / 3), "{words}");
    }
}

/// With nothing new that stays for as long as is said it is cleared.
#[test]
fn a_line_that_stops_is_cleared_when_it_was_said_to_be() {
    let world = around(vec![part(&[64], always(5.0))]);
    let judgement = judge(&world.observe(1));
    let words = judgement.accused[0].cleared_if.as_deref().unwrap();
    let (_, quiet) = words.split_once("stayed for another ").unwrap();
    let quiet_s: f64 = quiet.strip_suffix(" s").unwrap().parse().unwrap();
    let stopped = |more_s: f64| {
        let mut world =
            around(vec![part(&[64], Habit::Keep { per_request: 5.0, from: 0.0, to: 20.0 })]);
        world.bursts = (f64::from(world.bursts) * (20.0 + more_s) / 20.0) as u32;
        world.duration_s = 20.0 + more_s;
        judge(&world.observe(1)).accused.is_empty()
    };
    assert!(!stopped(0.0) && stopped(quiet_s + 2.0), "{words}");
}

#[test]
fn a_line_of_which_too_little_was_seen_is_suspected() {
    let mut world = around(vec![part(&[64], always(5.0))]);
    world.bursts = 2;
    let mut suspected = 0;
    for seed in 0..20 {
        let judgement = judge(&world.observe(seed));
        let suspects: Vec<&Finding> =
            judgement.others.iter().filter(|other| other.lacks.is_some()).collect();
        if judgement.accused.is_empty() {
            assert_eq!(judgement.verdict, Verdict::Inconclusive);
            assert!(suspects.iter().all(|suspect| suspect.site.0 == 0), "{suspects:?}");
            suspected += suspects.len();
        }
    }
    assert!(suspected >= 18, "{suspected}");
    assert!(judge(&five_stay()).others.iter().all(|other| other.lacks.is_none()));
}
