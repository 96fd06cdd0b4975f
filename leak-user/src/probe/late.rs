//! Bursts that begin late.
//!
//! A service that mostly waits is found waiting when a burst begins: the burst would see the beginning of a
//! request, always, and its end never, where it takes more than the burst may spend. So three bursts of four pass
//! over some hits first, at points that spread evenly on a logarithmic scale (van der Corput's sequence), since
//! nobody knows how much a request allocates. What is passed over is measured by what a burst records: the less
//! that is, the sooner it gets to a request's end, or the next one's begin.

use std::collections::BTreeMap;

use super::budget::Way;

/// Bursts that begin late pass over this part of what a burst records at least …
const LEAST: f64 = 0.1;

/// … and so many times as much at most …
const MOST: f64 = 2.5;

/// … or so much, where a burst lasts as long as it may: one that passes over as many hits would see nothing.
const MOST_IN_TIME: f64 = 0.5;

/// What is passed over is as much of what the bursts recorded before as of what the latest did.
const MEMORY: f64 = 0.5;

/// What watches less of all there is says nothing of how soon the others are over. It mostly goes on for as long as a
/// burst may, over many requests, and the next one passes over nothing then.
const HARDLY: f64 = 0.1;

/// Sets of rare classes whose latenesses are remembered.
const MOST_SETS: usize = 256;

/// The latenesses of bursts of one kind.
#[derive(Debug, Default)]
pub(super) struct Lates {
    /// Of those that watch a good part of what there is.
    usual: Late,
    /// Of those that hardly watch any of it, each by the classes that it watches: some are rarer than others.
    rare: BTreeMap<u64, Late>,
}

impl Lates {
    /// How many hits the next burst passes over that watches so.
    pub(super) fn skip(&self, way: Way) -> u64 {
        match rare_classes(way) {
            Some(classes) => self.rare.get(&classes).map_or(0, |late| late.skip(1.0, 0.0)),
            None => self.usual.skip(way.share(), MOST_IN_TIME),
        }
    }

    /// Books a burst that recorded so many hits; `in_time`: until its time was over.
    pub(super) fn book(&mut self, hits: u64, way: Way, in_time: bool) {
        let Some(classes) = rare_classes(way) else {
            return self.usual.book(hits, way.share(), in_time);
        };
        if self.rare.len() >= MOST_SETS && !self.rare.contains_key(&classes) {
            self.rare.clear();
        }
        self.rare.entry(classes).or_default().book(hits, 1.0, in_time);
    }
}

/// The classes, of a burst that hardly watches anything.
fn rare_classes(way: Way) -> Option<u64> {
    match way {
        Way::Words { classes, share } if share < HARDLY => Some(classes),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Late {
    turn: u32,
    /// What a burst records, and whether its time was over then; None: not known yet.
    records: Option<(f64, bool)>,
}

impl Late {
    /// `most_in_time`: of what it records, where its time is over then.
    fn skip(&self, share: f64, most_in_time: f64) -> u64 {
        let Some((records, in_time)) = self.records else { return 0 };
        let most = if in_time { most_in_time } else { MOST };
        let part = part(self.turn, most).unwrap_or(0.0);
        (records * share * part) as u64
    }

    fn book(&mut self, hits: u64, share: f64, in_time: bool) {
        self.turn = self.turn.wrapping_add(1);
        let all = hits as f64 / share.max(f64::EPSILON);
        let known = self.records.map_or(all, |(known, _)| known);
        self.records = Some((known * MEMORY + all * (1.0 - MEMORY), in_time));
    }
}

/// What the burst of this turn passes over, of what one records; None for one that begins at once.
fn part(turn: u32, most: f64) -> Option<f64> {
    if turn.is_multiple_of(4) || most <= 0.0 {
        return None;
    }
    let late = turn - turn / 4 - 1;
    let spread = f64::from(late.reverse_bits()) / 2_f64.powi(32);
    Some(LEAST * (most / LEAST).powf(spread))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(classes: u64, share: f64) -> Way {
        Way::Words { classes, share }
    }

    #[test]
    fn late_bursts_spread_over_requests_of_every_size() {
        let late: Vec<f64> = (0..32).filter_map(|turn| part(turn, MOST)).collect();
        assert_eq!(late.len(), 24);
        assert!(late.iter().all(|part| (LEAST..MOST).contains(part)), "{late:?}");
        // Each octave has its share, of any eight in a row too.
        for eight in late.windows(8) {
            for octave in 0..4 {
                let low = LEAST * f64::from(1 << octave);
                let within = eight.iter().filter(|part| (low..2.0 * low).contains(*part)).count();
                assert!((1..=3).contains(&within), "octave {octave} of {eight:?}");
            }
        }
    }

    #[test]
    fn what_is_rare_is_seen_from_the_first_on() {
        let mut late = Lates::default();
        late.book(1000, Way::Functions, false);
        late.book(3, words(1, 0.01), true);
        assert_eq!((late.skip(words(1, 0.01)), late.usual.turn), (0, 1));
        assert!(late.skip(Way::Functions) >= 100);
    }

    /// It seemed rare, at requests' begins.
    #[test]
    fn what_is_not_that_rare_is_passed_over_too() {
        let mut late = Lates::default();
        let (seemed_rare, is_rare) = (words(1, 0.01), words(2, 0.01));
        late.book(1000, Way::Functions, false);
        let skips = (0..20).map(|_| {
            late.book(300, seemed_rare, false);
            late.book(5, is_rare, true);
            assert_eq!(late.skip(is_rare), 0);
            late.skip(seemed_rare)
        });
        let skips: Vec<u64> = skips.collect();
        assert!(skips.contains(&0) && skips.iter().any(|skip| *skip > 300), "{skips:?}");
        late.book(300, seemed_rare, true);
        assert_eq!(late.skip(seemed_rare), 0);
        assert!(late.skip(Way::Functions) >= 100);
    }

    #[test]
    fn where_little_happens_a_burst_does_not_pass_over_all_of_it() {
        let mut late = Lates::default();
        assert_eq!(late.skip(Way::Functions), 0);
        for turn in 0..20 {
            late.book(100, Way::Functions, true);
            assert!(late.skip(Way::Functions) <= 50, "turn {turn}");
        }
        let mut late = Lates::default();
        let skips = (0..20).map(|_| {
            late.book(100, Way::Functions, false);
            late.skip(Way::Functions)
        });
        assert!(skips.max().unwrap() > 100);
    }

    #[test]
    fn what_is_watched_in_part_is_passed_over_in_part() {
        let mut late = Lates::default();
        late.book(100, words(1, 0.25), false);
        let all = late.skip(words(3, 1.0));
        assert!(all >= 40);
        assert_eq!(late.skip(words(3, 0.5)), all / 2);
    }
}
