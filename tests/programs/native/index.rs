//! A library that indexes: it makes and drops many vectors, and keeps one a request.
#![crate_type = "cdylib"]

use std::sync::Mutex;

static INDEX: Mutex<Vec<Vec<u64>>> = Mutex::new(Vec::new());

#[inline(never)]
fn score(number: u64) -> u64 {
    let scores: Vec<u64> = (0..100).map(|i| i * number).collect();
    std::hint::black_box(scores).iter().sum()
}

#[inline(never)]
fn index(number: u64) -> u64 {
    let entry: Vec<u64> = (0..100).map(|i| i + number).collect();
    let mut all = INDEX.lock().unwrap();
    all.push(entry);
    all.len() as u64
}

#[unsafe(no_mangle)]
pub extern "C" fn handle(number: u64, keep: bool) -> u64 {
    let sum: u64 = (0..40).map(|i| score(number + i)).sum();
    if keep { sum + index(number) } else { sum }
}
