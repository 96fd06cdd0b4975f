//! Numbers as people read them. What is not a number is called unknown.

use crate::units::Bytes;

const HOUR: f64 = 3600.0;

/// `412 MiB`, without a sign.
fn bytes(value: f64) -> String {
    let value = value.abs();
    // A line that loses a byte every few seconds is not one that loses none.
    if value > 0.0 && value < 10.0 {
        format!("{value:.1} B")
    } else {
        Bytes(value.round() as u64).to_string()
    }
}

/// With a sign: `+1.20 MiB`, `-3.00 KiB`, `0 B`.
pub(crate) fn signed(value: f64) -> String {
    if !value.is_finite() {
        return "unknown".to_owned();
    }
    let sign = match value {
        v if v.abs() < 0.05 => return "0 B".to_owned(),
        v if v < 0.0 => "-",
        _ => "+",
    };
    format!("{sign}{}", bytes(value))
}

/// `+1.20 MiB/s`.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second.is_finite() { format!("{}/s", signed(per_second)) } else { signed(per_second) }
}

/// `+4.22 GiB/h`.
pub(crate) fn hourly(per_second: f64) -> String {
    if per_second.is_finite() {
        format!("{}/h", signed(per_second * HOUR))
    } else {
        signed(per_second)
    }
}

/// `+1.02 MiB/s to +1.30 MiB/s`, or None where it says no more than the value does.
pub(crate) fn interval((low, high): (f64, f64)) -> Option<String> {
    let told = low.is_finite() && high.is_finite() && low < high;
    let (low, high) = (rate(low), rate(high));
    (told && low != high).then(|| format!("{low} to {high}"))
}

/// `97 %`, `0.6 %`, `99.8 %`: enough digits to tell small shares, and shares near all, apart.
pub(crate) fn percent(share: f64) -> String {
    if !share.is_finite() {
        return "unknown".to_owned();
    }
    let percent = share * 100.0;
    let digits = match percent.abs() {
        p if p == 0.0 || p == 100.0 => 0,
        p if p < 0.1 => 3,
        p if p < 1.0 => 2,
        p if p < 10.0 || (p > 99.0 && p < 100.0) => 1,
        _ => 0,
    };
    // Rounding must not make all of nearly all.
    let shown = if percent < 100.0 { percent.min(99.9) } else { percent };
    let text = format!("{shown:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} %")
}

/// `91,234`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 block`, `2,000 blocks`.
pub(crate) fn counted(value: u64, what: &str) -> String {
    format!("{} {what}{}", count(value), if value == 1 { "" } else { "s" })
}

/// `1 process`, `9 processes`.
pub(crate) fn processes(value: u64) -> String {
    format!("{} process{}", count(value), if value == 1 { "" } else { "es" })
}

/// `20.0 s`.
pub(crate) fn seconds(value: f64) -> String {
    if value.is_finite() { format!("{value:.1} s") } else { "an unknown time".to_owned() }
}

/// A span that is a guess: `40 s`, `7 min`, `5 h`, `12 days`; None if it is over a year, or no span.
pub(crate) fn span(seconds: f64) -> Option<String> {
    const UNITS: [(f64, f64, &str); 4] = [
        (90.0, 1.0, "s"),
        (90.0 * 60.0, 60.0, "min"),
        (48.0 * HOUR, HOUR, "h"),
        (365.0 * 24.0 * HOUR, 24.0 * HOUR, "days"),
    ];
    if !(seconds.is_finite() && seconds >= 0.0) {
        return None;
    }
    UNITS
        .iter()
        .find(|(below, ..)| seconds < *below)
        .map(|(_, unit, name)| format!("{:.0} {name}", seconds / unit))
}

/// Confidence in words.
pub(crate) fn sureness(confidence: f64) -> &'static str {
    match confidence {
        c if c >= 0.99 => "practically certain",
        c if c >= 0.95 => "very sure",
        c if c >= 0.85 => "sure",
        c if c >= 0.7 => "fairly sure",
        c if c >= 0.5 => "more likely than not",
        c if c >= 0.0 => "doubtful",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_reads_well() {
        assert_eq!(rate(1.2 * 1_048_576.0), "+1.20 MiB/s");
        assert_eq!(rate(-4096.0), "-4.00 KiB/s");
        assert_eq!(rate(0.0), "0 B/s");
        assert_eq!(rate(0.4), "+0.4 B/s");
        assert_eq!(rate(-0.001), "0 B/s");
        assert_eq!(rate(f64::NAN), "unknown");
        assert_eq!(hourly(1_048_576.0), "+3.52 GiB/h");
        assert_eq!(interval((1024.0, 2048.0)).unwrap(), "+1.00 KiB/s to +2.00 KiB/s");
        assert_eq!(interval((1024.0, 1024.0)), None);
        assert_eq!(interval((f64::NEG_INFINITY, f64::INFINITY)), None);
    }

    #[test]
    fn shares_keep_what_matters() {
        for (share, text) in [
            (0.0, "0 %"),
            (1.0, "100 %"),
            (0.01, "1 %"),
            (0.006, "0.6 %"),
            (0.0061, "0.61 %"),
            (0.0001, "0.01 %"),
            (0.998, "99.8 %"),
            (0.99999, "99.9 %"),
            (0.97, "97 %"),
            (0.6, "60 %"),
            (0.1, "10 %"),
            (1.5, "150 %"),
            (f64::NAN, "unknown"),
        ] {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn counts_and_spans() {
        assert_eq!(count(0), "0");
        assert_eq!(count(91_234), "91,234");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(counted(1, "block"), "1 block");
        assert_eq!(span(40.0).unwrap(), "40 s");
        assert_eq!(span(412.0).unwrap(), "7 min");
        assert_eq!(span(18_000.0).unwrap(), "5 h");
        assert_eq!(span(1_000_000.0).unwrap(), "12 days");
        assert_eq!(span(1e9), None);
        assert_eq!(span(f64::NAN), None);
        assert_eq!(span(-1.0), None);
    }
}
