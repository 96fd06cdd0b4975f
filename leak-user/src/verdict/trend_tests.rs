use super::super::random::Random;
use super::*;

/// 20 s at two points a second, with noise of `sigma`.
fn series(seed: u64, sigma: f64, value: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    let mut random = Random::new(seed);
    (0..40)
        .map(|i| f64::from(i) / 2.0)
        .map(|t| (t, 1e5 + value(t) + sigma * random.normal()))
        .collect()
}

/// In how many of 200 series the shape is one of `expected`.
fn hits(expected: &[Trend], sigma: f64, value: impl Fn(f64, f64) -> f64) -> usize {
    (0..200)
        .filter(|seed| {
            let phase = Random::new(seed + 1000).unit();
            let points = series(*seed, sigma, |t| value(t, phase));
            expected.contains(&course(&points, 500.0).unwrap().trend)
        })
        .count()
}

#[test]
fn shapes_are_told_apart() {
    let still = &[Trend::Flat, Trend::Sawtooth][..];
    let stopped = &[Trend::Saturated][..];
    let shapes: [(&str, usize, usize); 14] = [
        ("steep", 200, hits(&[Trend::Steep], 100.0, |t, _| 1000.0 * t)),
        ("slow", 200, hits(&[Trend::Slow], 100.0, |t, _| 100.0 * t)),
        ("slow, noisy", 180, hits(&[Trend::Slow], 300.0, |t, _| 100.0 * t)),
        ("slow after a warm-up", 198, {
            hits(&[Trend::Slow], 50.0, |t, _| 100.0 * t + 3000.0 * t.min(1.5))
        }),
        ("flat", 198, hits(still, 100.0, |_, _| 0.0)),
        ("flat after a warm-up", 198, hits(still, 100.0, |t, _| 9000.0 * t.min(1.8))),
        ("filled by a third", 198, hits(stopped, 50.0, |t, _| 1000.0 * t.min(7.0))),
        ("filled by two thirds", 198, hits(stopped, 50.0, |t, _| 1000.0 * t.min(13.0))),
        ("filling ever slower", 196, {
            hits(stopped, 20.0, |t, _| 1e5 * (1.0 - (-t / 4.0).exp()))
        }),
        ("one step", 190, {
            hits(stopped, 50.0, |t, p| if t > 5.0 + 5.0 * p { 5000.0 } else { 0.0 })
        }),
        ("teeth of 3 s", 198, hits(still, 20.0, |t, p| 1000.0 * (t / 3.0 + p).fract())),
        ("teeth of 9 s", 198, hits(still, 20.0, |t, p| 1000.0 * (t / 9.0 + p).fract())),
        ("slows to two fifths late", 190, {
            hits(&[Trend::Steep], 50.0, |t, p| {
                let at = 13.0 + 4.0 * p;
                2000.0 * t.min(at) + 800.0 * (t - at).max(0.0)
            })
        }),
        ("starts midway", 198, {
            hits(&[Trend::Steep], 100.0, |t, _| 1000.0 * (t - 10.0).max(0.0))
        }),
    ];
    for (name, least, hits) in shapes {
        println!("{name:24} {hits:3} of 200 (at least {least})");
    }
    for (name, least, hits) in shapes {
        assert!(hits >= least, "{name}: {hits} of 200");
    }
}

#[test]
fn a_leak_under_waves_is_seen_once_it_outgrows_them() {
    let wave = |t: f64, p: f64| 500.0 * (t / 4.0 + p).fract();
    assert!(hits(&[Trend::Slow, Trend::Steep], 20.0, |t, p| 150.0 * t + wave(t, p)) >= 190);
}

#[test]
fn growth_that_starts_midway_is_measured_where_it_is() {
    let points = series(1, 10.0, |t| 1000.0 * (t - 10.0).max(0.0));
    let found = course(&points, 500.0).unwrap();
    assert!((found.slope.per_s.value - 1000.0).abs() < 60.0, "{found:?}");
    assert!(found.from_s > 9.0);
}

#[test]
fn growth_that_changes_its_pace_began_before() {
    let slower = series(1, 10.0, |t| 1000.0 * t - 500.0 * (t - 10.0).max(0.0));
    let found = course(&slower, 500.0).unwrap();
    assert!((found.slope.per_s.value - 500.0).abs() < 60.0, "{found:?}");
    assert!(found.from_s > 9.0 && found.began_s < 3.0, "{found:?}");
    let midway = series(1, 10.0, |t| 1000.0 * (t - 10.0).max(0.0));
    assert!(course(&midway, 500.0).unwrap().began_s > 9.0);
}

#[test]
fn too_little_is_no_course() {
    assert_eq!(course(&[], 1.0), None);
    assert_eq!(course(&series(1, 1.0, |t| t)[..MIN_POINTS - 1], 1.0), None);
    let constant: Vec<_> = (0..20).map(|i| (f64::from(i), 5.0)).collect();
    assert_eq!(course(&constant, 1.0).unwrap().trend, Trend::Flat);
}

/// Grows by 1,000 in each of these stretches.
fn steps(t: f64, rises: &[(f64, f64)]) -> f64 {
    rises.iter().map(|(from, to)| 1000.0 * ((t - from) / (to - from)).clamp(0.0, 1.0)).sum()
}

#[test]
fn a_pause_is_no_end_where_it_went_on_before() {
    let paused = &[Trend::Paused][..];
    let open = &[Trend::Paused, Trend::Slow, Trend::Steep][..];
    let grows = &[Trend::Slow, Trend::Steep][..];
    let stopped = &[Trend::Saturated][..];
    let in_phases = |t: f64, p: f64, period: f64| {
        let phase = t / period + p;
        1000.0 * (phase.floor() + (4.0 * phase.fract()).min(1.0))
    };
    let shapes: [(&str, usize, usize); 11] = [
        ("two rises and pauses", 196, {
            hits(paused, 30.0, |t, p| steps(t, &[(4.0 + p, 6.0 + p), (12.0 + p, 14.0 + p)]))
        }),
        (
            "two steps",
            196,
            hits(paused, 30.0, |t, p| steps(t, &[(5.0 + p, 5.1 + p), (11.0 + p, 11.1 + p)])),
        ),
        ("three rises and pauses", 196, {
            hits(grows, 30.0, |t, p| {
                steps(t, &[(3.0 + p, 4.0 + p), (9.0 + p, 10.0 + p), (15.0 + p, 16.0 + p)])
            })
        }),
        ("a fourth of the time", 200, hits(open, 30.0, |t, p| in_phases(t, p, 8.0))),
        ("the same, noisy", 190, hits(open, 80.0, |t, p| in_phases(t, p, 8.0))),
        ("the same, a fourth of 4 s", 198, hits(grows, 30.0, |t, p| in_phases(t, p, 4.0))),
        ("three rises, then long none", 190, {
            hits(paused, 30.0, |t, _| steps(t, &[(2.5, 3.5), (6.0, 7.0), (9.5, 10.5)]))
        }),
        ("filled with a hiccup", 190, {
            hits(stopped, 30.0, |t, p| steps(t, &[(2.0, 4.0 + p), (5.0 + p, 7.0 + p)]))
        }),
        ("filled by two thirds, noisy", 190, { hits(stopped, 50.0, |t, _| 100.0 * t.min(13.0)) }),
        ("the same, noisier", 188, {
            hits(&[Trend::Saturated, Trend::Flat], 100.0, |t, _| 100.0 * t.min(13.0))
        }),
        ("a last bit after a pause", 190, {
            hits(stopped, 10.0, |t, p| {
                steps(t, &[(2.0, 6.0)]) + 0.05 * steps(t, &[(11.0, 12.0 + p)])
            })
        }),
    ];
    for (name, least, hits) in shapes {
        println!("{name:28} {hits:3} of 200 (at least {least})");
    }
    for (name, least, hits) in shapes {
        assert!(hits >= least, "{name}: {hits} of 200");
    }
}
