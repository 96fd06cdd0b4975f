use super::*;
use crate::probe::tables::Counts;

const SECOND: u64 = 1_000_000_000;

fn budget(share: f64, duration: Nanos) -> Budget {
    let allowed = Allowed { share, burst_most: Nanos(10_000_000), duration };
    Budget::new(allowed, at(0, 0), Calibration::USUAL)
}

fn at(now: u64, worked: u64) -> Moment {
    Moment { now: Nanos(now), worked: Nanos(worked) }
}

/// A burst that spent so much of the time that the target worked.
fn outcome(spent: u64, worked: u64) -> Outcome {
    Outcome {
        burst: 1,
        opened: Nanos(0),
        closed: Nanos(0),
        spent: Nanos(spent),
        worked: Nanos(worked),
        counts: Counts::default(),
        closed_cost: Nanos(0),
        attach_time: Nanos(0),
        detach_time: Nanos(0),
    }
}

/// Turns of pymalloc and malloc among 30, where a burst of each spends so much.
fn turns(spends: [u64; 2]) -> [usize; 2] {
    let mut budget = budget(0.01, Nanos(u64::MAX));
    let terms = budget.terms(Kind::Malloc, Way::Functions, at(SECOND, SECOND));
    let mut had = [0; 2];
    for _ in 0..30 {
        let kind = budget.turn(&[Kind::Pymalloc, Kind::Malloc], [2.0, 1.0]).unwrap();
        had[kind as usize] += 1;
        let spent = spends[kind as usize];
        budget.book(kind, Way::Functions, Nanos(0), &outcome(spent, 100 * spent), &terms);
    }
    had
}

#[test]
fn turns_follow_what_is_spent_but_none_is_for_free() {
    assert_eq!(turns([10_000_000, 10_000_000]), [20, 10]);
    assert_eq!(turns([1_000, 10]), [20, 10]);
    // One of ten milliseconds for each that found nothing, twice as many parts: as many bursts.
    assert_eq!(turns([10_000_000, 10]), [15, 15]);
}

/// A target that keeps so many cores busy for 20 s. Its work in a burst is slowed so many times, until a limit of the
/// terms is reached. Gives the bursts, what was spent, and the own work done while that was felt.
fn observed(share: f64, cores: f64, slowed: f64) -> (u32, Nanos, Nanos) {
    let (mut now, mut worked, mut bursts) = (0, 0, 0);
    let mut budget = budget(share, Nanos(20 * SECOND));
    let step = SECOND / 1000;
    while now < 20 * SECOND {
        match budget.next(Kind::Malloc, Way::Functions, at(now, worked)) {
            Ok(terms) => {
                let part = ((slowed - 1.1) / 0.15).clamp(0.0, 1.0);
                let felt = terms.felt.0 as f64 / part;
                let spending = terms.limit.0 as f64 / (slowed - 1.0);
                let longest = terms.longest.0 as f64 * cores / slowed;
                let own = felt.min(spending).min(longest);
                let took = (own * slowed) as u64;
                let burst = outcome(took - own as u64, took);
                budget.book(Kind::Malloc, Way::Functions, Nanos(now), &burst, &terms);
                worked += took;
                now += ((took as f64 / cores) as u64).max(step);
                bursts += 1;
            }
            Err(_) => {
                now += step;
                worked += (step as f64 * cores) as u64;
            }
        }
    }
    (bursts, budget.spent.used(), budget.felt.used())
}

#[test]
fn what_is_spent_stays_within_the_share_of_the_targets_work() {
    for share in [0.002, 0.01, 0.05] {
        for cores in [0.02, 0.3, 1.0, 8.0] {
            for slowed in [1.05, 1.5, 3.0, 100.0] {
                let (bursts, spent, felt) = observed(share, cores, slowed);
                let work = 20e9 * cores.max(LEAST_PACE);
                let case = format!("{share} {cores} {slowed}: {bursts} {spent:?} {felt:?}");
                assert!(spent.0 as f64 <= 1.01 * share * work, "{case}");
                let work = 20e9 * cores.max(LEAST_FELT_PACE);
                assert!(felt.0 as f64 <= 1.01 * FELT * share * work, "{case}");
            }
        }
    }
}

#[test]
fn what_is_allowed_is_used() {
    // Dense probes: the spending is what ends bursts.
    let (bursts, spent, _) = observed(0.01, 1.0, 100.0);
    assert!((15..=25).contains(&bursts) && spent.0 > 150_000_000, "{bursts}, {spent:?}");
    // Sparse ones that are felt: the work done meanwhile is.
    let (bursts, _, felt) = observed(0.01, 1.0, 1.5);
    assert!((8..=25).contains(&bursts) && felt.0 > 80_000_000, "{bursts}, {felt:?}");
    // Sparser ones are not felt: a gate is open for as long as it may.
    let (bursts, spent, felt) = observed(0.01, 1.0, 1.05);
    assert!(bursts > 15 && spent.0 > 20_000_000 && felt.0 == 0, "{bursts}, {spent:?}");
}

#[test]
fn a_target_that_hardly_works_is_taken_for_one_that_always_does() {
    let terms = |worked| {
        let mut budget = budget(0.002, Nanos(20 * SECOND));
        budget.next(Kind::Malloc, Way::Functions, at(10 * SECOND, worked)).unwrap()
    };
    assert_eq!(terms(0).limit, Nanos(4_000_000));
    assert_eq!(terms(SECOND).limit, terms(10 * SECOND).limit);
    assert!(terms(20 * SECOND).limit > terms(10 * SECOND).limit);
}

#[test]
fn one_request_waits_no_longer_than_it_may() {
    let allowed = Allowed { share: 0.5, burst_most: Nanos(2_000_000), duration: Nanos(u64::MAX) };
    let mut budget = Budget::new(allowed, at(0, 0), Calibration::USUAL);
    let terms = budget.next(Kind::Malloc, Way::Functions, at(SECOND, 8 * SECOND)).unwrap();
    assert_eq!(terms.limit, Nanos(2_000_000));
    // One that begins late makes it wait for what it passes over, too.
    let mut skips = Vec::new();
    for _ in 0..20 {
        budget.late[Kind::Malloc as usize].book(2_000, Way::Functions, false);
        let terms = budget.terms(Kind::Malloc, Way::Functions, at(SECOND, 8 * SECOND));
        assert_eq!(terms.limit.0 + terms.skip * budget.costs.trap.0, 2_000_000, "{terms:?}");
        assert!(terms.limit >= Nanos(1_000_000), "{terms:?}");
        skips.push(terms.skip);
    }
    assert!(skips.contains(&0) && skips.contains(&1_000), "{skips:?}");
}

#[test]
fn breakpoints_that_linger_are_expected_to_do_so_again() {
    let mut budget = budget(0.01, Nanos(u64::MAX));
    budget.book_lingering(Nanos(40_000_000));
    assert_eq!(budget.spent.used(), Nanos(40_000_000));
    // 40 ms spent, 50 ms to come: nine seconds' work, of which some four or five are ahead.
    let mut allows = |seconds: u64| {
        budget.next(Kind::Malloc, Way::Functions, at(seconds * SECOND, seconds * SECOND)).is_ok()
    };
    assert!(!allows(7) && allows(8));
}
