use super::*;

fn series(value: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    (0..60).map(|i| f64::from(i) / 2.0).map(|t| (t, value(t))).collect()
}

/// Steps at these instants, each one second long.
fn steps(at: &[f64]) -> Option<Stairs> {
    Stairs::of(&series(|t| at.iter().map(|at| 100.0 * (t - at).clamp(0.0, 1.0)).sum()))
}

#[test]
fn steps_are_counted() {
    let rises = |at: &[f64]| steps(at).map_or(1, |stairs| stairs.rises);
    assert_eq!([rises(&[8.0]), rises(&[8.0, 16.0]), rises(&[8.0, 16.0, 24.0])], [1, 2, 3]);
    assert_eq!(rises(&[0.0, 8.0, 16.0, 24.0]), 4);
    assert_eq!(rises(&[8.0, 28.5]), 2);
}

#[test]
fn steadiness_has_no_steps() {
    assert_eq!(Stairs::of(&[]), None);
    assert_eq!(Stairs::of(&series(|_| 5.0)), None);
    assert_eq!(Stairs::of(&series(|t| t)), None);
    assert_eq!(Stairs::of(&series(|t| -t)), None);
    assert_eq!(Stairs::of(&series(|t| t.min(20.0))), None);
    assert_eq!(Stairs::of(&series(|t| 1.0 - (-t / 6.0).exp())), None);
}

#[test]
fn a_hiccup_is_no_pause() {
    assert_eq!(steps(&[8.0, 10.0, 12.0]), None);
}

#[test]
fn what_is_in_flight_is_no_step() {
    let mut points = series(|t| 100.0 * (t - 8.0).clamp(0.0, 1.0));
    points[30].1 += 1000.0;
    points[45].1 += 1000.0;
    assert_eq!(Stairs::of(&points), None);
}

#[test]
fn it_goes_on_where_it_did_so_twice() {
    let goes_on = |at: &[f64]| steps(at).unwrap().goes_on;
    assert!(!goes_on(&[8.0, 16.0]));
    assert!(goes_on(&[8.0, 16.0, 24.0]));
    assert!(goes_on(&[4.0, 12.0, 20.0]));
    // Three steps in short order, and then none for long: a cache that is full?
    assert!(!goes_on(&[2.0, 7.0, 12.0]));
}

#[test]
fn its_pace_is_the_mean() {
    let stairs = steps(&[8.0, 16.0, 24.0]).unwrap();
    assert!((stairs.pace().value - 300.0 / 29.5).abs() < 0.5, "{stairs:?}");
    assert!((23.0..=25.5).contains(&stairs.until_s), "{stairs:?}");
}

#[test]
fn births_belong_to_rises() {
    let stairs = steps(&[8.0, 16.0, 24.0]).unwrap();
    assert_eq!(stairs.rises_with([]), 0);
    assert_eq!(stairs.rises_with([8.2, 8.4, 8.9]), 1);
    assert_eq!(stairs.rises_with([8.2, 16.4, 16.9]), 2);
    assert_eq!(stairs.rises_with([8.2, 16.4, 24.9]), 3);
}
