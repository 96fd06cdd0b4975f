//! What bursts were said to cost, beside what they did cost the requests that they fell into.

use super::requests::{Period, Request};
use super::statistics;

/// A burst, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    /// When it was open.
    pub open: Period,
    /// What leaktrace booked for it.
    pub booked: f64,
}

/// Those that leaktrace tells of in its log (`-vv`).
pub fn told(log: &str) -> Vec<Burst> {
    let figure = |line: &str, name: &str| {
        let after = line.split_once(&format!(" {name}="))?.1;
        after.split_whitespace().next()?.parse::<f64>().ok()
    };
    let burst = |line: &str| {
        let opened = figure(line, "opened_ns")? as i64;
        let closed = opened + (figure(line, "open_ms")? * 1e6) as i64;
        Some(Burst { open: (opened, closed), booked: figure(line, "cost_ms")? * 1e6 })
    };
    log.lines().filter_map(burst).collect()
}

/// Of a traced period, what bursts were said to take, and by how much the requests that they fell into took longer than
/// the `usual` ones. `None` without bursts or usual requests.
pub fn shares(
    bursts: &[Burst],
    period: Period,
    requests: &[Request],
    usual: &[Request],
) -> Option<(f64, f64)> {
    let mut lengths: Vec<f64> = usual.iter().map(|request| request.length as f64).collect();
    let usual = statistics::median(&mut lengths)?;
    let met = |request: &&Request| {
        let end = request.begun + request.length;
        bursts.iter().any(|Burst { open, .. }| request.begun < open.1 && end > open.0)
    };
    let longer: f64 =
        requests.iter().filter(met).map(|request| request.length as f64 - usual).sum();
    let booked: f64 = bursts.iter().map(|burst| burst.booked).sum();
    let length = (period.1 - period.0) as f64;
    (!bursts.is_empty()).then_some((booked / length, longer / length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_read_from_the_log() {
        let log = "2026 DEBUG leaktrace::session: burst burst=1 kind=Malloc opened_ns=5000000 open_ms=2.5 \
                   spent_ms=1.0 cost_ms=1.25 hits=3\nsomething else\nburst opened_ns=7 open_ms=1";
        let burst = Burst { open: (5_000_000, 7_500_000), booked: 1_250_000.0 };
        assert_eq!(told(log), [burst]);
    }

    #[test]
    fn what_is_longer_in_bursts_counts() {
        let request = |begun, length| Request { begun, length, reference: 1, compiled: 1 };
        let usual = [request(0, 9), request(10, 10), request(20, 11)];
        // One ends as the burst begins, one lies across its begin, one within it, one across its end.
        let traced = [
            request(90, 10),
            request(101, 30),
            request(131, 20),
            request(151, 60),
            request(211, 10),
        ];
        let bursts = [Burst { open: (100, 160), booked: 40.0 }];
        assert_eq!(shares(&bursts, (0, 1000), &traced, &usual), Some((0.04, 0.08)));
        assert_eq!(shares(&[], (0, 1000), &traced, &usual), None);
        assert_eq!(shares(&bursts, (0, 1000), &traced, &[]), None);
    }
}
