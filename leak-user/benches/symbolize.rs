//! Addresses to lines and stacks.

mod fixture;
#[expect(dead_code, reason = "the ledger's benchmark uses the rest")]
#[path = "fixture/service.rs"]
mod service;
#[path = "../src/symbolize/testing.rs"]
mod stack;
#[expect(dead_code, reason = "unit tests use the rest")]
#[path = "../src/heap/testing.rs"]
mod testing;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fixture::{SIZES, ThreadTime, named};
// What the unit tests' fixtures call `crate::…`.
use leaktrace::{target, units};

use leaktrace::symbolize::code::CodeCache;
use leaktrace::symbolize::linetable;
use leaktrace::symbolize::merge::Owners;
use leaktrace::symbolize::modules::Modules;
use leaktrace::symbolize::stacks::Stacks;
use leaktrace::symbolize::unwind::{NativeStack, Unwinder};
use leaktrace::target::layout::Lines;
use service::Service;
use std::hint::black_box;
use units::{Addr, Pid};

fn code_objects(criterion: &mut Criterion<ThreadTime>) {
    let service = Service::start();
    let memory = &service.target.memory;
    let mut group = criterion.benchmark_group("symbolize");
    for n in SIZES {
        let addrs = &service.codes[..n];
        let size = format!("{n} functions");
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(named("code objects, read", &size), |bencher| {
            let read = |mut codes: CodeCache| {
                addrs.iter().for_each(|addr| drop(black_box(codes.resolve(memory, *addr))));
                codes
            };
            bencher.iter_batched(|| service.code_cache(), read, BatchSize::LargeInput);
        });
        let mut codes = service.code_cache();
        addrs.iter().for_each(|addr| assert!(codes.resolve(memory, *addr).is_some()));
        group.bench_function(named("code objects, known", &size), |bencher| {
            bencher.iter(|| {
                addrs.iter().for_each(|addr| drop(black_box(codes.resolve(memory, *addr))));
            });
        });
        group.bench_function(named("code objects, checked again", &size), |bencher| {
            bencher.iter(|| {
                codes.refer(addrs.iter().copied());
                assert!(codes.revalidate(memory).all.is_empty());
            });
        });
    }
}

/// A table in which each line has two stretches of bytecode, as 3.11 writes it.
fn table(lines: usize) -> Vec<u8> {
    let (units, one_line, same_line) = (3, 11 << 3, 3 << 3);
    let line = [0x80 | one_line | units, 4, 12, 0x80 | same_line | units, 0x42];
    line.repeat(lines)
}

fn line_tables(criterion: &mut Criterion<ThreadTime>) {
    let mut group = criterion.benchmark_group("symbolize");
    for lines in SIZES {
        let table = table(lines);
        let last = linetable::ranges(Lines::Locations, &table, 1).last().expect("not empty");
        group.throughput(Throughput::Elements(lines as u64));
        group.bench_function(
            named("line table, the last line of a function", format!("{lines} lines")),
            |bencher| {
                bencher.iter(|| {
                    let line = linetable::line(Lines::Locations, &table, 1, black_box(last.start));
                    assert_eq!(line, last.line);
                });
            },
        );
    }
}

fn stacks(criterion: &mut Criterion<ThreadTime>) {
    let service = Service::start();
    let memory = &service.target.memory;
    let mut group = criterion.benchmark_group("symbolize");
    for n in SIZES {
        let arrived: Vec<Vec<u64>> = (1..=n).map(|id| service.frames(id)).collect();
        let mut codes = service.code_cache();
        let mut insert = |mut stacks: Stacks| {
            for (id, frames) in (1..).zip(&arrived) {
                stacks.insert(id, frames, &mut codes, memory);
            }
            stacks
        };
        assert_eq!(insert(Stacks::default()).unresolved(), 0);
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(named("Python stacks, inserted", format!("{n} stacks")), |bencher| {
            bencher.iter_batched(Stacks::default, &mut insert, BatchSize::LargeInput);
        });
        let owners = Owners::of(&service.target);
        let natives: Vec<NativeStack> = (1..=n as u64).map(native).collect();
        let insert_natives = |mut stacks: Stacks| {
            for (id, native) in (1..).zip(&natives) {
                stacks.insert_native(u64::MAX - id, id, native, &owners, false, "worker");
            }
            stacks
        };
        group.bench_function(named("native stacks, inserted", format!("{n} stacks")), |bencher| {
            let setup = || insert(Stacks::default());
            bencher.iter_batched(setup, insert_natives, BatchSize::LargeInput);
        });
    }
}

/// Calls of a library, whichever.
fn native(id: u64) -> NativeStack {
    NativeStack { calls: (0..10).map(|call| Addr(id << 8 | call)).collect(), whole: false }
}

fn unwinding(criterion: &mut Criterion<ThreadTime>) {
    let mut modules = Modules::new(Pid(std::process::id()));
    let mut unwinder = Unwinder::default();
    let (registers, bytes) = stack::capture(10);
    let calls = unwinder.unwind(&mut modules, registers, &bytes).calls.len();
    let mut group = criterion.benchmark_group("symbolize");
    group.throughput(Throughput::Elements(calls as u64));
    group.bench_function(named("a native stack, unwound", format!("{calls} calls")), |bencher| {
        bencher.iter(|| unwinder.unwind(&mut modules, registers, black_box(&bytes)));
    });
}

criterion_group! {
    name = benches;
    config = fixture::criterion();
    targets = code_objects, line_tables, stacks, unwinding
}
criterion_main!(benches);
