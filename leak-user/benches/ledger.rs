//! What bursts bring, booked and followed.

mod fixture;
#[path = "fixture/service.rs"]
mod service;
#[expect(dead_code, reason = "unit tests use the rest")]
#[path = "../src/heap/testing.rs"]
mod testing;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fixture::{SIZES, ThreadTime, named};
use leak_common::keys::{LiveBlock, SiteCounts, SiteKey, domain, size_class};
// What the unit tests' fixtures call `crate::…`.
use leaktrace::{target, units};

use leaktrace::heap::identity::Identifier;
use leaktrace::heap::pymalloc::Blocks;
use leaktrace::ledger::{Ledger, Watched, survivors::Survivors};
use leaktrace::symbolize::stacks::Stacks;
use leaktrace::verdict::evidence::SiteId;
use service::{BLOCK, Service};
use units::{Addr, Nanos};

/// Blocks that outlive their burst, for each site; the kernel side holds no more than a [`Service`] has.
const OF_SITE: usize = 10;

/// Bursts of an observation of half a minute.
const BURSTS: usize = 25;

/// Sites that a report shows.
const SHOWN: u32 = 50;

/// What a burst brings.
struct Burst {
    stacks: Stacks,
    counts: Vec<(SiteKey, SiteCounts)>,
    blocks: Vec<(Addr, LiveBlock)>,
}

impl Burst {
    fn new(service: &Service, sites: usize) -> Self {
        let class = size_class(BLOCK.0);
        let key = |site: usize| {
            let stack = site as u64 + 1;
            SiteKey { stack, native: 0, domain: domain::PYMALLOC, size_class: class }
        };
        let counts = SiteCounts { allocs: 200, bytes: 200 * BLOCK.0 };
        let block = |(n, addr): (usize, &Addr)| {
            let content = service.content(*addr);
            let site = key(n % sites);
            let (born_ns, noted_ns) = (1_000_000, 2_000_000);
            let block =
                LiveBlock { site, size: BLOCK.0, born_ns, burst: 1, noted_ns, header: 0, content };
            (*addr, block)
        };
        Self {
            stacks: service.stacks(sites),
            counts: (0..sites).map(|site| (key(site), counts)).collect(),
            blocks: service.blocks.iter().take(OF_SITE * sites).enumerate().map(block).collect(),
        }
    }

    fn book(&self, service: &Service, ledger: &mut Ledger) {
        let memory = &service.target.memory;
        ledger.burst(memory, &self.stacks, Watched::Pymalloc, &self.counts, &self.blocks);
    }
}

fn empty(service: &Service) -> Ledger {
    let python = service.target.python.as_ref().expect("known");
    let identifier = Identifier::new(python.layout, python.type_type);
    let blocks = service.target.pymalloc().map(Blocks::new);
    let survivors = Survivors::new(blocks, identifier, true);
    Ledger::new(Nanos(0), survivors, python.free_listed.clone())
}

fn after_bursts(service: &Service, burst: &Burst, bursts: usize) -> Ledger {
    let mut ledger = empty(service);
    (0..bursts).for_each(|_| burst.book(service, &mut ledger));
    ledger
}

fn ledger(criterion: &mut Criterion<ThreadTime>) {
    let service = Service::start();
    let mut group = criterion.benchmark_group("ledger");
    for sites in SIZES {
        let burst = Burst::new(&service, sites);
        let size = format!("{sites} sites, {} blocks", burst.blocks.len());
        group.throughput(Throughput::Elements(burst.blocks.len() as u64));
        group.bench_function(named("the first burst", &size), |bencher| {
            let book = |mut ledger| {
                burst.book(&service, &mut ledger);
                ledger
            };
            bencher.iter_batched(|| empty(&service), book, BatchSize::LargeInput);
        });
        let mut ledger = after_bursts(&service, &burst, BURSTS);
        group.bench_function(named("a burst after many", &size), |bencher| {
            bencher.iter(|| burst.book(&service, &mut ledger));
        });

        let mut ledger = after_bursts(&service, &burst, BURSTS);
        let followed: usize = ledger.survivors.fates().values().map(Vec::len).sum();
        let size = format!("{sites} sites, {followed} followed");
        group.throughput(Throughput::Elements(followed as u64));
        group.bench_function(named("all survivors, looked at", &size), |bencher| {
            bencher.iter(|| ledger.survivors.look(&service.target.memory, 9.0, true));
        });
        group.bench_function(named("types, of all", &size), |bencher| {
            bencher.iter(|| ledger.survivors.types());
        });
        group.bench_function(named("types, of the sites shown", &size), |bencher| {
            bencher.iter(|| ledger.survivors.kinds((0..SHOWN).map(SiteId)));
        });
        group.bench_function(named("evidence", &size), |bencher| {
            bencher.iter_with_large_drop(|| ledger.evidence(Nanos(9_000_000_000), Some(1.0), 0));
        });
    }
}

criterion_group! { name = benches; config = fixture::criterion(); targets = ledger }
criterion_main!(benches);
