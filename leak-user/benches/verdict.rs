//! Evidence to a verdict.

mod fixture;
#[path = "../src/verdict/random.rs"]
mod random;
#[expect(dead_code, reason = "unit tests use the rest")]
#[path = "../src/verdict/simulate.rs"]
mod simulate;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fixture::{SIZES, ThreadTime, named};
// What the unit tests' fixtures call `crate::…` and `super::…`.
use leaktrace::{units, verdict::evidence};

use evidence::Domain;
use leaktrace::verdict::{Verdict, judge};
use simulate::{Habit, Part, World};

/// One site in so many leaks.
const LEAKING: usize = 100;

/// Twenty seconds of a service of so many sites.
fn world(sites: usize) -> World {
    let part = |n: usize| Part {
        domain: Domain::Pymalloc,
        sizes: vec![16 * (1 + n as u64 % 32)],
        habit: if n.is_multiple_of(LEAKING) {
            Habit::Keep { per_request: 1.0, from: 0.0, to: f64::INFINITY }
        } else {
            Habit::Churn { in_flight: 1.5 }
        },
    };
    World::new((0..sites).map(part).collect())
}

fn judging(criterion: &mut Criterion<ThreadTime>) {
    let mut group = criterion.benchmark_group("verdict");
    for sites in SIZES {
        let evidence = world(sites).observe(1);
        let followed: usize = evidence.sites.iter().map(|site| site.followed.len()).sum();
        assert_eq!(judge(&evidence).verdict, Verdict::Leak);
        group.throughput(Throughput::Elements(followed as u64));
        let size = format!("{sites} sites, {followed} followed");
        group.bench_function(named("judge", size), |bencher| bencher.iter(|| judge(&evidence)));
    }
}

criterion_group! { name = benches; config = fixture::criterion(); targets = judging }
criterion_main!(benches);
