//! Values of options as people write them: `30s`, `1%`, `4k`.

use std::time::Duration;

use crate::heap::retention::Wanted;
use crate::units::{Addr, Bytes, Pid};

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const BURSTS: std::ops::RangeInclusive<f64> = 0.0001..=1.0;
const BUDGETS: std::ops::RangeInclusive<f64> = 0.0001..=0.5;
const MOST_SAMPLES: usize = 10_000;
/// `pid_max` cannot be set higher (`PID_MAX_LIMIT` in the kernel's threads.h).
const HIGHEST_PID: u32 = 1 << 22;

/// A process id.
pub(super) fn pid(text: &str) -> Result<Pid, String> {
    match text.parse::<u32>() {
        Ok(id) if (1..=HIGHEST_PID).contains(&id) => Ok(Pid(id)),
        _ => Err(format!("a process id is a number from 1 to {HIGHEST_PID}")),
    }
}

/// `app.Embedding`, or `0x7f12345678`.
pub(super) fn wanted(text: &str) -> Result<Wanted, String> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16)
            .map(|addr| Wanted::Object(Addr(addr)))
            .map_err(|_| "an address is a number such as 0x7f0123456780".to_owned()),
        None if text.trim().is_empty() => Err("write a type, such as app.Embedding".to_owned()),
        None => Ok(Wanted::Type(text.trim().to_owned())),
    }
}

/// How many objects.
pub(super) fn samples(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(samples) if (1..=MOST_SAMPLES).contains(&samples) => Ok(samples),
        _ => Err(format!("from 1 to {MOST_SAMPLES} are possible")),
    }
}

/// `20s`, `2m`, `1m30s`, `1.5h`; a bare number counts seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text).ok_or("write a time such as 20s, 2m or 1m30s")?;
    let within = (SHORTEST.as_secs_f64()..=LONGEST.as_secs_f64()).contains(&seconds);
    if !within {
        return Err("from 1s to 24h are possible".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// `10ms`, `0.5s`, likewise.
pub(super) fn burst_most(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text).ok_or("write a time such as 10ms")?;
    if !BURSTS.contains(&seconds) {
        return Err("from 0.1ms to 1s are possible".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn seconds(text: &str) -> Option<f64> {
    let mut rest = text.trim();
    if let Some(number) = number(rest) {
        return Some(number);
    }
    let mut total = 0.0;
    let mut smallest = f64::INFINITY;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (value, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let factor = match unit {
            "ms" => 0.001,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        // `30s1m` is more likely a slip than a time.
        if factor >= smallest {
            return None;
        }
        smallest = factor;
        total += number(value)? * factor;
        rest = tail.trim_start();
    }
    (smallest < f64::INFINITY).then_some(total)
}

/// A plain decimal number: no sign, no exponent, no `inf`.
fn number(text: &str) -> Option<f64> {
    let plain = text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    plain.then(|| text.parse().ok()).flatten()
}

/// `1%` or `0.01`.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let share = match text.strip_suffix('%') {
        Some(percent) => number(percent.trim_end()).map(|p| p / 100.0),
        None => number(text),
    };
    match share {
        Some(share) if BUDGETS.contains(&share) => Ok(share),
        Some(_) => Err("from 0.01% to 50% are possible (1% and 0.01 are the same)".to_owned()),
        None => Err("write a share such as 1% or 0.01".to_owned()),
    }
}

/// `512`, `4k`, `1.5M`, `2GiB`: binary units.
pub(super) fn size(text: &str) -> Result<Bytes, String> {
    const WRONG: &str = "write a size such as 512, 4k or 1.5M";
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (value, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(WRONG.to_owned()),
    };
    let bytes = number(value).ok_or(WRONG)? * f64::from(1_u32 << shift);
    if bytes > f64::from(1_u32 << 30) * 1024.0 {
        return Err("at most 1024G is possible".to_owned());
    }
    Ok(Bytes(bytes as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        let ok = |text| duration(text).map(|d| d.as_secs_f64()).ok();
        assert_eq!(ok("20s"), Some(20.0));
        assert_eq!(ok("2m"), Some(120.0));
        assert_eq!(ok("1m30s"), Some(90.0));
        assert_eq!(ok("1h 2min 3s"), Some(3723.0));
        assert_eq!(ok("1500ms"), Some(1.5));
        assert_eq!(ok("0.5h"), Some(1800.0));
        assert_eq!(ok("45"), Some(45.0));
        for wrong in ["", "s", "-3s", "30x", "30s1m", "1.2.3s", "inf", "nan", "1e3", "20s5", "s20"]
        {
            assert!(duration(wrong).unwrap_err().starts_with("write a time"), "{wrong}");
        }
        for outside in ["0s", "999ms", "25h", "99999999999999999999h"] {
            assert!(duration(outside).unwrap_err().starts_with("from 1s"), "{outside}");
        }
    }

    #[test]
    fn bursts() {
        let ok = |text| burst_most(text).ok();
        assert_eq!(ok("10ms"), Some(Duration::from_millis(10)));
        assert_eq!(ok("0.1ms"), Some(Duration::from_micros(100)));
        assert_eq!(ok("1s"), Some(Duration::from_secs(1)));
        for outside in ["10", "0ms", "1001ms"] {
            assert!(burst_most(outside).unwrap_err().starts_with("from 0.1ms"), "{outside}");
        }
        assert!(burst_most("ms").unwrap_err().starts_with("write a time"));
    }

    #[test]
    fn shares() {
        let ok = |text| share(text).ok();
        assert_eq!(ok("1%"), Some(0.01));
        assert_eq!(ok("0.01"), Some(0.01));
        assert_eq!(ok("2.5 %"), Some(0.025));
        assert_eq!(ok("50%"), Some(0.5));
        assert_eq!(ok("0.01%"), Some(0.0001));
        for wrong in ["", "%", "one", "-1%", "1%%", "nan"] {
            assert!(share(wrong).unwrap_err().starts_with("write a share"), "{wrong}");
        }
        for outside in ["0", "1", "0.001%", "51%", "0.00001"] {
            assert!(share(outside).unwrap_err().starts_with("from 0.01%"), "{outside}");
        }
    }

    #[test]
    fn sizes() {
        let ok = |text| size(text).map(|b| b.0).ok();
        assert_eq!(ok("0"), Some(0));
        assert_eq!(ok("512"), Some(512));
        assert_eq!(ok("4k"), Some(4096));
        assert_eq!(ok("4KiB"), Some(4096));
        assert_eq!(ok("1.5M"), Some(1_572_864));
        assert_eq!(ok("2 GB"), Some(2 << 30));
        for wrong in ["", "k", "-4k", "4x", "4kk", "1e9"] {
            assert!(size(wrong).unwrap_err().starts_with("write a size"), "{wrong}");
        }
        assert!(size("9999G").is_err());
    }

    #[test]
    fn pids() {
        assert_eq!(pid("1"), Ok(Pid(1)));
        assert_eq!(pid("4194304"), Ok(Pid(4_194_304)));
        for wrong in ["0", "-1", "4194305", "python", "", "99999999999"] {
            assert!(pid(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_bounds_hold(text in ".{0,24}|[0-9.]{1,8}(ms|s|m|h|k|M|%)?") {
            if let Ok(d) = duration(&text) {
                prop_assert!((SHORTEST..=LONGEST).contains(&d));
            }
            if let Ok(s) = share(&text) {
                prop_assert!(BUDGETS.contains(&s));
            }
            let _ = size(&text);
            let _ = pid(&text);
        }
    }
}
