//! Records of the ring buffer to events.

mod fixture;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fixture::{SIZES, ThreadTime, named};
use leak_common::event::{NATIVE_TOP, kind};
use leaktrace::collect::decode::decode;
use std::hint::black_box;

/// Frames of a Python stack.
const DEPTH: usize = 20;

/// A record's header, and words after it.
fn record(kind: u32, words: &[u64]) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), 7_u32.to_le_bytes()].concat();
    bytes.extend(99_u64.to_le_bytes());
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes
}

/// A Python stack.
fn stack(id: u64) -> Vec<u8> {
    let frames = (0..DEPTH as u64).map(|frame| id << 20 | frame);
    record(kind::STACK, &[id, DEPTH as u64].into_iter().chain(frames).collect::<Vec<_>>())
}

/// The top of a native one.
fn native(id: u64) -> Vec<u8> {
    let name = u64::from_le_bytes(*b"worker-1");
    let mut words = vec![id, id, 0x1000, 0x2000, 0x3000, name, 0, NATIVE_TOP as u64];
    words.resize(8 + NATIVE_TOP / 8, id);
    record(kind::NATIVE, &words)
}

/// No more lie in the ring at one time.
const MOST_BYTES: usize = 4 << 20;

fn decoding(criterion: &mut Criterion<ThreadTime>) {
    let mut group = criterion.benchmark_group("collect");
    for sites in SIZES {
        for (what, make) in [
            ("decode, Python stacks", stack as fn(u64) -> Vec<u8>),
            ("decode, native stacks", native),
        ] {
            let most = sites.min(MOST_BYTES / make(0).len());
            let records: Vec<Vec<u8>> = (0..most as u64).map(make).collect();
            group.throughput(Throughput::Elements(sites as u64));
            group.bench_function(named(what, format!("{sites} stacks")), |bencher| {
                bencher.iter(|| {
                    for record in records.iter().cycle().take(sites) {
                        black_box(decode(record).expect("a record"));
                    }
                });
            });
        }
    }
}

criterion_group! { name = benches; config = fixture::criterion(); targets = decoding }
criterion_main!(benches);
