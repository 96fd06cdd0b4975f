//! The requests of a service, as it notes them while it runs.

use super::statistics;
use anyhow::{Result, bail};
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// From and to, in nanoseconds of CLOCK_MONOTONIC.
pub type Period = (i64, i64);

/// The time of CLOCK_MONOTONIC in nanoseconds.
///
/// # Errors
/// The kernel's.
pub fn now() -> Result<i64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

/// A request as `harness.py` writes it, in ns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    /// When.
    pub begun: i64,
    /// How long it took.
    pub length: i64,
    /// What a fixed piece of Python took right after it.
    pub reference: i64,
    /// What a fixed piece of compiled code took after that.
    pub compiled: i64,
}

impl Request {
    /// Its length in units of the reference: what it would be on a machine of constant speed.
    pub fn corrected(&self) -> f64 {
        self.length as f64 / self.reference.max(1) as f64
    }
}

/// The requests in the order of their begins, once those up to `until` are in the file.
///
/// # Errors
/// Where they don't come, or the file can't be read.
pub fn written_until(path: &Path, until: i64, limit: Duration) -> Result<Vec<Request>> {
    let give_up = now()? + i64::try_from(limit.as_nanos())?;
    loop {
        let requests = parse(&fs::read(path)?);
        if requests.last().is_some_and(|request| request.begun >= until) {
            return Ok(requests);
        }
        if now()? > give_up {
            bail!("the program stopped writing its request times");
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn parse(bytes: &[u8]) -> Vec<Request> {
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, i64::from_ne_bytes);
    let request = |bytes: &[u8]| Request {
        begun: number(&bytes[..8]),
        length: number(&bytes[8..16]),
        reference: number(&bytes[16..24]),
        compiled: number(&bytes[24..]),
    };
    let mut requests: Vec<Request> = bytes.chunks_exact(32).map(request).collect();
    // Those that overlap are written as they end.
    requests.sort_by_key(|request| request.begun);
    requests
}

/// Their lengths in units of what the compiled piece took in the same second, in the middle: it tells how fast the
/// machine was, whatever stopped the process for a while or slowed the interpreter.
pub fn steady(requests: &[Request]) -> Vec<f64> {
    let second = |request: &Request| request.begun / 1_000_000_000;
    let mut pieces: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for request in requests {
        pieces.entry(second(request)).or_default().push(request.compiled as f64);
    }
    let speeds: BTreeMap<i64, f64> = pieces
        .into_iter()
        .map(|(second, mut all)| (second, statistics::median(&mut all).unwrap_or(1.0).max(1.0)))
        .collect();
    requests.iter().map(|request| request.length as f64 / speeds[&second(request)]).collect()
}

/// The requests that began and ended within a period.
pub fn within(requests: &[Request], (from, to): Period) -> Vec<Request> {
    let first = requests.partition_point(|request| request.begun < from);
    let rest = requests[first..].iter().take_while(|request| request.begun < to);
    rest.copied().filter(|request| request.begun + request.length <= to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_programs_write_them() {
        let bytes: Vec<u8> =
            [5_i64, 7, 3, 2, 9, 11, 4, 1].iter().flat_map(|n| n.to_ne_bytes()).collect();
        let first = Request { begun: 5, length: 7, reference: 3, compiled: 2 };
        let second = Request { begun: 9, length: 11, reference: 4, compiled: 1 };
        assert_eq!(parse(&bytes), [first, second]);
        assert_eq!(parse(&bytes[..40]), [first]);
        let overlapping = [&bytes[32..], &bytes[..32]].concat();
        assert_eq!(parse(&overlapping), [first, second]);
    }

    #[test]
    fn a_machine_that_slows_down_changes_no_length() {
        let request = |n: i64, slow: i64, length| Request {
            begun: n * 100_000_000,
            length: length * slow,
            reference: 1,
            compiled: 10 * slow,
        };
        let slow = |n| if n < 10 { 1 } else { 3 };
        let stopped = |n| if n == 12 { 5000 } else { 50 };
        let requests: Vec<_> = (0..20).map(|n| request(n, slow(n), stopped(n))).collect();
        let lengths = steady(&requests);
        assert_eq!(lengths[..12], [5.0; 12]);
        assert_eq!(lengths[12..14], [500.0, 5.0]);
    }
}
