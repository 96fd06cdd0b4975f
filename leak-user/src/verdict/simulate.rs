//! A service with known leaks, as the evidence shows it: seeded, for the tests of the verdict.

use std::collections::BTreeSet;

use super::evidence::{
    ClassSeries, Domain, End, Evidence, Fate, Lines, Series, SiteClass, SiteEvidence, SiteId,
};
use super::random::Random;
use crate::units::Bytes;

/// Requests a second of the simulated service, on average.
const REQUESTS_PER_S: f64 = 8000.0;

/// Looks at followed blocks, seconds apart.
const LOOK_S: f64 = 1.0;

const KIB: f64 = 1024.0;

/// What a site does with the blocks that it allocates.
#[derive(Clone, Copy)]
pub enum Habit {
    /// Frees them within the request; so many are in flight when a burst's gate closes.
    Churn { in_flight: f64 },
    /// Keeps `per_request` of them for good, from second `from` to second `to`.
    Keep { per_request: f64, from: f64, to: f64 },
    /// The same in each of these stretches.
    Steps { per_request: f64, rises: &'static [(f64, f64)] },
    /// A cache that fills ever slower: keeps with a probability that falls by half every
    /// `half_life` seconds.
    Fill { per_request: f64, half_life: f64 },
    /// Keeps each for so many seconds (a cache at its bound, sessions); as many die as are born.
    Hold { per_request: f64, lifetime: f64 },
    /// Cyclic garbage, collected every `period` seconds.
    Cycle { per_request: f64, period: f64 },
    /// One in `one_in` of those that it returns stays; the rest lives for a moment.
    Helper { calls: f64, one_in: f64 },
}

/// A site of the service.
#[derive(Clone)]
pub struct Part {
    /// Where from.
    pub domain: Domain,
    /// Sizes in bytes, one block each.
    pub sizes: Vec<u64>,
    /// What it does.
    pub habit: Habit,
}

/// A service and how it is observed.
#[derive(Clone)]
pub struct World {
    /// Its sites; site ids count from 0.
    pub parts: Vec<Part>,
    /// Length of the observation.
    pub duration_s: f64,
    /// Bursts in it, of every kind.
    pub bursts: u32,
    /// Probability that a block's identity can no longer be told, at some time of its life.
    pub unknown: f64,
    /// Deviation of the live count of every class, in blocks, from requests in flight.
    pub jitter: f64,
    /// How far resident memory wanders, bytes.
    pub wiggle: f64,
    /// Instants at which counts are taken.
    pub points: u32,
    /// Load in the second half, as a share of that in the first.
    pub later_load: f64,
    /// Probability that a block that has died is taken for alive.
    pub mistaken: f64,
    /// Size classes that nothing but requests in flight moves.
    pub quiet_classes: u32,
}

impl World {
    /// Twenty seconds of a service with these sites.
    pub fn new(parts: Vec<Part>) -> Self {
        Self {
            parts,
            duration_s: 20.0,
            bursts: 16,
            unknown: 0.1,
            jitter: 150.0,
            wiggle: 300.0 * KIB,
            points: 24,
            later_load: 1.0,
            mistaken: 0.0,
            quiet_classes: 2,
        }
    }

    /// One observation of it.
    pub fn observe(&self, seed: u64) -> Evidence {
        let mut random = Random::new(seed);
        let spacing = self.duration_s / f64::from(self.bursts);
        let bursts: Vec<(f64, f64)> = (0..self.bursts)
            .map(|i| {
                let t = (f64::from(i) + random.between(0.3, 0.7)) * spacing;
                let load = if t > self.duration_s / 2.0 { self.later_load } else { 1.0 };
                (t, random.between(1.0, 3.0) * load)
            })
            .collect();
        let phases: Vec<f64> = self.parts.iter().map(|_| random.unit()).collect();
        let sites = (0u32..)
            .zip(self.parts.iter().zip(&phases))
            .map(|(id, (part, phase))| self.site(SiteId(id), part, *phase, &bursts, &mut random));
        let sites = sites.collect();

        let times: Vec<f64> = (0..self.points)
            .map(|i| {
                self.duration_s * (f64::from(i) + random.between(0.0, 0.6)) / f64::from(self.points)
            })
            .collect();
        let pymalloc_classes: Vec<ClassSeries> = self
            .size_classes()
            .into_iter()
            .map(|size_class| ClassSeries {
                size_class,
                seen_work: 1.0,
                live: series(&times, |t| {
                    let kept = self.live(&phases, Domain::Pymalloc, t, |size| {
                        f64::from(u8::from(leak_common::keys::size_class(size) == size_class))
                    });
                    let flight = random.normal().abs() * self.jitter;
                    (20_000.0 + kept + flight).round()
                }),
            })
            .collect();
        let of = |domain, t| self.live(&phases, domain, t, |size| size as f64);
        let mapped = series(&times, |t| of(Domain::Mmap, t));
        let arenas =
            series(&times, |t| ((5e6 + of(Domain::Pymalloc, t)) / KIB / KIB).ceil() * KIB * KIB);
        let mut wander = 0.0;
        let step = self.wiggle / f64::from(self.points).sqrt();
        let anonymous = series(&times, |t| {
            wander = (wander + step * random.normal()).clamp(-self.wiggle, self.wiggle);
            let own = of(Domain::Pymalloc, t) + of(Domain::Malloc, t) + of(Domain::Mmap, t);
            4e7 + own + wander
        });
        let rss =
            Series { points: anonymous.points.iter().map(|(t, v)| (*t, v + 1.2e7)).collect() };
        Evidence {
            device: Series::default(),
            tensors: Series::default(),
            duration_s: self.duration_s,
            pymalloc_bursts: self.bursts,
            malloc_bursts: self.bursts,
            pymalloc_classes,
            rss,
            anonymous,
            arenas,
            mapped,
            sites,
            births: Vec::new(),
            coverage: Some(random.between(0.97, 1.01)),
            lost: 0,
        }
    }

    fn size_classes(&self) -> BTreeSet<u32> {
        let sizes = self.parts.iter().flat_map(|part| &part.sizes);
        let moved = sizes.map(|size| leak_common::keys::size_class(*size)).filter(|c| *c <= 32);
        moved.chain((1..=32).rev().take(self.quiet_classes as usize)).collect()
    }

    fn site(
        &self,
        id: SiteId,
        part: &Part,
        phase: f64,
        bursts: &[(f64, f64)],
        random: &mut Random,
    ) -> SiteEvidence {
        let mut followed = Vec::new();
        let exact: Vec<(f64, f64)>;
        let bursts = if part.domain == Domain::Mmap {
            // All mappings are followed: every tenth of a second is a burst of its requests.
            exact = (0..(self.duration_s * 10.0) as u32)
                .map(|i| (f64::from(i) / 10.0, REQUESTS_PER_S / 10.0))
                .collect();
            &exact
        } else {
            bursts
        };
        for (start, requests) in bursts {
            for size in &part.sizes {
                for (count, lifetime) in survivors(part.habit, *requests, *start, phase) {
                    for _ in 0..random.poisson(count) {
                        let born = start + random.between(0.0, 0.01);
                        let life = lifetime.sample(born, random);
                        followed.push(self.fate(born, life, *size, part.habit, random));
                    }
                }
            }
        }
        let classes = part.sizes.iter().map(|size| SiteClass {
            size_class: leak_common::keys::size_class(*size),
            allocations: 1000.0,
            bytes: 1000.0 * *size as f64,
        });
        let classes = classes.collect();
        SiteEvidence {
            id,
            domain: part.domain,
            lines: Lines::default(),
            classes,
            bursts: self.bursts,
            followed,
            recycled: 0.0,
            ended: 0,
        }
    }

    fn fate(&self, born_s: f64, life_s: f64, size: u64, habit: Habit, random: &mut Random) -> Fate {
        let end_s = self.duration_s;
        // A look sees it alive, the next one no more.
        let seen_until = |t: f64| born_s.max((t / LOOK_S).floor() * LOOK_S).min(end_s);
        let dies = born_s + life_s;
        let reused =
            matches!(habit, Habit::Churn { .. } | Habit::Helper { .. }) && random.chance(0.6);
        let (alive_until_s, end) = if dies < end_s && random.chance(self.mistaken) {
            (end_s, End::Alive)
        } else if dies < end_s {
            (seen_until(dies), if reused { End::Unknown } else { End::Died })
        } else if random.chance(self.unknown) {
            (seen_until(random.between(born_s, end_s)), End::Unknown)
        } else {
            (end_s, End::Alive)
        };
        let size_class = leak_common::keys::size_class(size);
        Fate { born_s, size: Bytes(size), size_class, weight: 1.0, alive_until_s, end }
    }

    /// What of a domain lives at `t` beyond the start, each block counted by `measure`.
    fn live(&self, phases: &[f64], domain: Domain, t: f64, measure: impl Fn(u64) -> f64) -> f64 {
        let parts = self.parts.iter().zip(phases).filter(|(part, _)| part.domain == domain);
        parts
            .map(|(part, phase)| {
                let blocks = kept(part.habit, t, *phase, self);
                part.sizes.iter().map(|size| blocks * measure(*size)).sum::<f64>()
            })
            .sum()
    }
}

fn series(times: &[f64], mut value: impl FnMut(f64) -> f64) -> Series {
    Series { points: times.iter().map(|t| (*t, value(*t))).collect() }
}

/// How long blocks live.
enum Lifetime {
    Ever,
    For(f64),
    About(f64),
    Until { period: f64, phase: f64 },
}

impl Lifetime {
    fn sample(&self, born: f64, random: &mut Random) -> f64 {
        match self {
            Self::Ever => f64::INFINITY,
            Self::For(seconds) => *seconds,
            Self::About(mean) => random.exponential(*mean),
            Self::Until { period, phase } => period * (1.0 - (born / period + phase).fract()),
        }
    }
}

/// Requests served until `t`.
fn served(t: f64, world: &World) -> f64 {
    let half = world.duration_s / 2.0;
    REQUESTS_PER_S * (t.min(half) + (t - half).max(0.0) * world.later_load)
}

/// Expected survivors of a burst of so many requests, by how long they live.
fn survivors(habit: Habit, requests: f64, t: f64, phase: f64) -> Vec<(f64, Lifetime)> {
    match habit {
        Habit::Churn { in_flight } => vec![(in_flight, Lifetime::About(0.01))],
        Habit::Keep { per_request, from, to } => {
            let on = f64::from(u8::from((from..to).contains(&t)));
            vec![(per_request * requests * on, Lifetime::Ever)]
        }
        Habit::Steps { per_request, rises } => {
            let on = rises.iter().filter(|(from, to)| (*from..*to).contains(&t)).count() as f64;
            vec![(per_request * requests * on, Lifetime::Ever)]
        }
        Habit::Fill { per_request, half_life } => {
            vec![(per_request * requests * (-t / half_life).exp2(), Lifetime::Ever)]
        }
        Habit::Hold { per_request, lifetime } => {
            vec![(per_request * requests, Lifetime::For(lifetime * (0.8 + 0.4 * phase)))]
        }
        Habit::Cycle { per_request, period } => {
            vec![(per_request * requests, Lifetime::Until { period, phase })]
        }
        Habit::Helper { calls, one_in } => {
            let returned = calls * requests;
            vec![(returned / one_in, Lifetime::Ever), (returned / 10.0, Lifetime::About(0.3))]
        }
    }
}

/// Blocks of one size that live at `t` beyond those at the start.
fn kept(habit: Habit, t: f64, phase: f64, world: &World) -> f64 {
    match habit {
        Habit::Churn { .. } | Habit::Hold { .. } => 0.0,
        Habit::Keep { per_request, from, to } => {
            per_request * (served(t.min(to), world) - served(from.min(t), world)).max(0.0)
        }
        Habit::Steps { per_request, rises } => rises
            .iter()
            .map(|(from, to)| {
                kept(Habit::Keep { per_request, from: *from, to: *to }, t, phase, world)
            })
            .sum(),
        Habit::Fill { per_request, half_life } => {
            let whole = per_request * REQUESTS_PER_S * half_life / std::f64::consts::LN_2;
            whole * (1.0 - (-t / half_life).exp2())
        }
        Habit::Cycle { per_request, period } => {
            per_request * REQUESTS_PER_S * period * (t / period + phase).fract()
        }
        Habit::Helper { calls, one_in } => calls / one_in * served(t, world),
    }
}
