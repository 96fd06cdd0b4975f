//! Numbers in words, for the sentences of a verdict.

use super::Estimate;
use crate::units::Bytes;

/// `1,240`; below ten with one decimal.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "an unknown number".to_owned();
    }
    let sign = if value <= -0.05 { "-" } else { "" };
    let size = value.abs();
    if size < 9.95 && (size - size.round()).abs() >= 0.05 {
        return format!("{sign}{size:.1}");
    }
    let digits = format!("{size:.0}");
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

/// `-79.0 KiB`.
pub fn bytes(value: f64) -> String {
    if !value.is_finite() {
        return "an unknown number of bytes".to_owned();
    }
    let sign = if value <= -0.5 { "-" } else { "" };
    format!("{sign}{}", Bytes(value.abs().round() as u64))
}

/// `83 %`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 1.0 { "under 1 %".into() } else { format!("{percent:.0} %") }
}

/// `2 s`, `17.3 s`.
pub fn seconds(value: f64) -> String {
    format!("{} s", (value * 10.0).round() / 10.0)
}

/// `1,240 a second (95 %: 1,190 to 1,300)`.
pub fn rate(estimate: Estimate, show: fn(f64) -> String) -> String {
    let Estimate { value, low, high } = estimate;
    format!("{} a second (95 %: {} to {})", show(value), show(low), show(high))
}

/// `1 burst`, `12 bursts`.
pub fn plural(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", number(n as f64), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let shown: Vec<_> =
            [0.0, -0.01, 0.3, 9.97, 12.4, 999.6, 1240.2, -1234567.0].map(number).into();
        assert_eq!(shown, ["0", "0", "0.3", "10", "12", "1,000", "1,240", "-1,234,567"]);
        assert_eq!(number(f64::NAN), "an unknown number");
        assert_eq!(bytes(-2048.0), "-2.00 KiB");
        assert_eq!(
            (percent(0.83), percent(0.001), percent(0.0)),
            ("83 %".into(), "under 1 %".into(), "0 %".into())
        );
        assert_eq!((seconds(2.0), seconds(17.31)), ("2 s".into(), "17.3 s".into()));
        let growth = Estimate { value: 1240.0, low: 1190.0, high: 1300.0 };
        assert_eq!(rate(growth, number), "1,240 a second (95 %: 1,190 to 1,300)");
        assert_eq!(
            (plural(1, "burst"), plural(12, "burst")),
            ("1 burst".into(), "12 bursts".into())
        );
    }
}
