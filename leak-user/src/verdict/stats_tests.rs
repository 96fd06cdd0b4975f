use proptest::prelude::*;

use super::super::random::Random;
use super::*;

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * (1.0 + a.abs().max(b.abs()))
}

fn line(n: u32, slope: f64) -> Vec<(f64, f64)> {
    (0..n).map(|i| (f64::from(i), 10.0 + slope * f64::from(i))).collect()
}

#[test]
fn too_little_is_no_trend() {
    for points in [&[][..], &[(0.0, 1.0)], &[(0.0, 1.0), (1.0, 2.0)]] {
        assert_eq!(slope(points), None);
    }
    let same_instant = [(1.0, 1.0), (1.0, 2.0), (1.0, 3.0), (2.0, 1.0)];
    assert_eq!(slope(&same_instant), None);
    assert_eq!(mann_kendall(&[]).z, 0.0);
    assert_eq!(mann_kendall(&[3.0]).z, 0.0);
    assert_eq!(median([]), None);
    assert_eq!(deviation(&[]), None);
}

/// Garwood's exact bounds.
#[test]
fn poisson_bounds_are_the_known_ones() {
    for (count, low, high) in
        [(0, 0.0, 3.69), (1, 0.0253, 5.57), (8, 3.45, 15.76), (46, 33.68, 61.36)]
    {
        let bounds = poisson(count);
        assert!((bounds.low - low).abs() < 0.02, "{count}: {bounds:?}");
        assert!((bounds.high - high).abs() < 0.03, "{count}: {bounds:?}");
    }
}

#[test]
fn constants_do_not_move() {
    let flat = slope(&line(20, 0.0)).unwrap();
    assert_eq!(flat.per_s, Estimate::default());
    assert_eq!(flat.z, 0.0);
    assert_eq!(flat.probability_rising(), 0.5);
}

#[test]
fn what_is_not_finite_is_dropped() {
    let mut points = line(20, 3.0);
    points.extend([
        (f64::NAN, 1.0),
        (4.5, f64::INFINITY),
        (5.5, f64::NAN),
        (f64::NEG_INFINITY, 0.),
    ]);
    assert_eq!(slope(&points), slope(&line(20, 3.0)));
    assert_eq!(median([f64::NAN, 1.0, 3.0]), Some(2.0));
    assert_eq!(wilson(f64::NAN, 3.0), Estimate { value: 0.0, low: 0.0, high: 1.0 });
}

#[test]
fn kendall_agrees_with_the_textbook() {
    // n = 10, strictly rising: S = 45, Var = 10·9·25/18 = 125.
    let rising: Vec<f64> = (0..10).map(f64::from).collect();
    let test = mann_kendall(&rising);
    assert_eq!((test.s, test.variance), (45.0, 125.0));
    assert!(near(test.z, 44.0 / 125f64.sqrt()));
    // One tie of three takes 3·2·11 = 66 from the numerator.
    let tied = mann_kendall(&[1.0, 2.0, 2.0, 2.0, 5.0]);
    assert!(near(tied.variance, (5.0 * 4.0 * 15.0 - 66.0) / 18.0));
    assert_eq!(tied.s, 7.0);
}

#[test]
fn wilson_agrees_with_the_textbook() {
    let nine_of_ten = wilson(9.0, 10.0);
    assert!((nine_of_ten.low - 0.5958).abs() < 1e-3 && (nine_of_ten.high - 0.9821).abs() < 1e-3);
    let three_of_three = wilson(3.0, 3.0);
    assert!((three_of_three.low - 0.4385).abs() < 1e-3);
    assert_eq!(three_of_three.high, 1.0);
    assert!(wilson(30.0, 30.0).low > three_of_three.low);
}

#[test]
fn poisson_counts_are_known() {
    assert_eq!(poisson_tail(2.0, 0), 1.0);
    assert!((poisson_tail(2.0, 1) - (1.0 - (-2f64).exp())).abs() < 1e-9);
    assert!((poisson_tail(3.2, 9) - 0.00565).abs() < 1e-3);
    assert_eq!(poisson_tail(0.0, 1), 0.0);
    assert_eq!(poisson_tail(1e6, 3), 1.0);
}

#[test]
fn the_normal_distribution_is_known() {
    for (z, p) in [(0.0, 0.5), (1.0, 0.841_345), (Z95, 0.975), (-3.0, 0.001_350)] {
        assert!((normal_cdf(z) - p).abs() < 1e-5, "{z}");
    }
    assert_eq!(normal_cdf(f64::INFINITY), 1.0);
    assert_eq!(normal_cdf(f64::NEG_INFINITY), 0.0);
}

#[test]
fn outliers_do_not_bend_the_line() {
    let mut points = line(21, 2.0);
    points[4].1 = 1e9;
    points[17].1 = -1e9;
    assert!(near(slope(&points).unwrap().per_s.value, 2.0));
}

#[test]
fn deviation_is_that_of_normal_noise() {
    let mut random = Random::new(7);
    let noise: Vec<f64> = (0..5000).map(|_| random.normal() * 3.0).collect();
    assert!((deviation(&noise).unwrap() - 3.0).abs() < 0.2);
}

/// Of 2,000 trendless series the 95 % test may call one in twenty rising or falling; correlation
/// taken out where there is none costs a little power, never more false alarms.
#[test]
fn noise_raises_few_false_alarms() {
    for points in [10, 20, 60] {
        let mut random = Random::new(42);
        let mut alarms = 0;
        let mut missed = 0;
        for _ in 0..2000 {
            let noise: Vec<_> = (0..points).map(|i| (f64::from(i), random.normal())).collect();
            let found = slope(&noise).unwrap();
            alarms += u32::from(found.z.abs() > Z95);
            missed += u32::from(found.per_s.low > 0.0 || found.per_s.high < 0.0);
        }
        println!("{points} points: {alarms} of 2000 alarms, {missed} intervals without the truth");
        assert!((20..=120).contains(&alarms), "{alarms}");
        assert!((20..=120).contains(&missed), "{missed}");
    }
}

/// The interval holds the truth of a sloped, noisy series about 19 times in 20.
#[test]
fn the_interval_covers() {
    let mut random = Random::new(3);
    let mut covered = 0;
    for _ in 0..1000 {
        let points: Vec<_> =
            (0..30).map(|i| (f64::from(i), 0.3 * f64::from(i) + random.normal())).collect();
        let found = slope(&points).unwrap().per_s;
        covered += u32::from(found.low <= 0.3 && 0.3 <= found.high);
    }
    assert!((930..=995).contains(&covered), "{covered}");
}

/// Waves: a plain Mann–Kendall test would call these rising or falling in every third case.
#[test]
fn correlated_noise_is_not_a_trend() {
    let mut random = Random::new(11);
    let (mut corrected, mut plain) = (0, 0);
    for _ in 0..1000 {
        let mut level = 0.0;
        let points: Vec<_> = (0..40)
            .map(|i| {
                level = 0.6 * level + random.normal();
                (f64::from(i), level)
            })
            .collect();
        let values: Vec<f64> = points.iter().map(|p| p.1).collect();
        corrected += u32::from(slope(&points).unwrap().z.abs() > 3.0);
        plain += u32::from(mann_kendall(&values).z.abs() > 3.0);
    }
    println!("beyond three deviations: corrected {corrected}, plain {plain} of 1000");
    assert!(corrected <= 40 && corrected * 2 < plain, "{corrected} {plain}");
}

proptest! {
    #[test]
    fn slopes_shift_and_scale(
        values in prop::collection::vec(-1e3..1e3f64, 3..40),
        shift in -1e3..1e3f64,
        scale in 0.01..100.0f64,
        tilt in -50.0..50.0f64,
    ) {
        let points: Vec<_> = values.iter().enumerate().map(|(i, v)| (i as f64, *v)).collect();
        let base = slope(&points).unwrap();
        let moved: Vec<_> = points.iter().map(|(t, v)| (t + 5.0, v + shift)).collect();
        let moved = slope(&moved).unwrap();
        prop_assert!((moved.per_s.value - base.per_s.value).abs() < 1e-6);
        let scaled: Vec<_> = points.iter().map(|(t, v)| (*t, v * scale)).collect();
        let scaled = slope(&scaled).unwrap();
        prop_assert!(near(scaled.per_s.value, base.per_s.value * scale));
        prop_assert!(near(scaled.per_s.low, base.per_s.low * scale));
        prop_assert!(near(scaled.per_s.high, base.per_s.high * scale));
        let tilted: Vec<_> = points.iter().map(|(t, v)| (*t, v + tilt * t)).collect();
        let tilted = slope(&tilted).unwrap();
        prop_assert!((tilted.per_s.value - base.per_s.value - tilt).abs() < 1e-6);
        let mirrored: Vec<_> = points.iter().map(|(t, v)| (*t, -v)).collect();
        prop_assert!(near(slope(&mirrored).unwrap().z, -base.z));
    }

    #[test]
    fn the_value_lies_in_its_interval(values in prop::collection::vec(-1e6..1e6f64, 3..100)) {
        let points: Vec<_> = values.iter().enumerate().map(|(i, v)| (i as f64, *v)).collect();
        let found = slope(&points).unwrap().per_s;
        prop_assert!(found.low <= found.value && found.value <= found.high);
    }

    #[test]
    fn what_always_rises_is_significant(steps in prop::collection::vec(0.1..10.0f64, 10..200)) {
        let mut level = 0.0;
        let points: Vec<_> = steps
            .iter()
            .enumerate()
            .map(|(i, step)| { level += step; (i as f64, level) })
            .collect();
        let values: Vec<f64> = points.iter().map(|p| p.1).collect();
        prop_assert!(mann_kendall(&values).z > 3.0);
        prop_assert!(slope(&points).unwrap().per_s.value > 0.0);
    }

    #[test]
    fn shares_have_sane_intervals(successes in 0.0..1e4f64, failures in 0.0..1e4f64) {
        let share = wilson(successes, successes + failures);
        prop_assert!(0.0 <= share.low && share.low <= share.value);
        prop_assert!(share.value <= share.high && share.high <= 1.0);
    }

    #[test]
    fn nothing_panics(points in prop::collection::vec(any::<(f64, f64)>(), 0..50)) {
        let _ = slope(&points);
        let values: Vec<f64> = points.iter().map(|p| p.1).collect();
        let _ = (mann_kendall(&values), deviation(&values), thin(&points, 7), residuals(&clean(&points)));
    }
}
