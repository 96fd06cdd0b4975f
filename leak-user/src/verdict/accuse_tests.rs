use proptest::prelude::*;

use super::*;

#[test]
fn confidence_is_what_it_says() {
    assert!(confidence(0.83, 12, 0.999, 1.0) > 0.9);
    assert!(confidence(0.44, 3, 0.999, 1.0) < 0.5);
    assert_eq!(confidence(1.0, 1, 1.0, 1.0), 0.0);
    assert_eq!(confidence(1.0, 0, 1.0, 1.0), 0.0);
}

proptest! {
    #[test]
    fn confidence_rises_with_everything(
        a in (0.0..1.0f64, 0usize..100, 0.0..1.0f64, 0.0..1.0f64),
        more in (0.0..1.0f64, 0usize..100, 0.0..1.0f64, 0.0..1.0f64),
    ) {
        let base = confidence(a.0, a.1, a.2, a.3);
        prop_assert!((0.0..=1.0).contains(&base));
        prop_assert!(confidence((a.0 + more.0).min(1.0), a.1, a.2, a.3) >= base);
        prop_assert!(confidence(a.0, a.1 + more.1, a.2, a.3) >= base);
        prop_assert!(confidence(a.0, a.1, (a.2 + more.2).min(1.0), a.3) >= base);
        prop_assert!(confidence(a.0, a.1, a.2, (a.3 + more.3).min(1.0)) >= base);
    }
}
