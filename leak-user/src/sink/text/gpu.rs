//! Memory of GPUs.

use super::paths::Paths;
use super::{number, stack, title};
use crate::sink::page::{Line, Page, Paint};
use crate::snapshot::gpu::{Device, Failure, Gpu};
use crate::units::Bytes;

/// Failures that are shown.
const FAILURES: usize = 3;

/// Tensors that were watched for less are said to have been so: the first window begins a little late.
const MOST_OF_THE_TIME: f64 = 0.95;

/// Those who held the most, that are shown.
const HOLDERS: usize = 3;

/// Writes the section, or nothing where the target has no library of a GPU's.
pub(super) fn write(page: &mut Page, gpu: Option<&Gpu>, paths: Paths<'_>) {
    let Some(gpu) = gpu else { return };
    title(page, "Memory of GPUs");
    for device in &gpu.devices {
        write_device(page, device);
    }
    for pool in &gpu.torch {
        let unused = pool.reserved_bytes.saturating_sub(pool.allocated_bytes);
        let text = format!(
            "torch on GPU {}: {} in tensors, {} reserved, {} of that unused",
            pool.device,
            Bytes(pool.allocated_bytes),
            Bytes(pool.reserved_bytes),
            Bytes(unused),
        );
        page.wrapped(Line::from("  "), Paint::Plain, &text);
    }
    let rest = gpu.tensors_watched.filter(|share| *share < MOST_OF_THE_TIME);
    for memory in &gpu.memory {
        let name = match memory.kind.as_str() {
            "tensor" => "torch's tensors",
            "pooled" => "from pools",
            other => other,
        };
        let mut text = format!(
            "{name}: {} handed out while observed, {} given back",
            number::counted(memory.allocations, "block"),
            number::count(memory.frees),
        );
        // Where ends went unseen, nobody knows what is held.
        if memory.kind != "tensor" || rest.is_none() {
            let count = number::counted(memory.live_count, "block");
            text.push_str(&format!("; {} held ({count})", Bytes(memory.live_bytes)));
        }
        if memory.failures > 0 {
            text.push_str(&format!("; {} failed", number::count(memory.failures)));
        }
        page.wrapped(Line::from("  "), Paint::Plain, &text);
    }
    if gpu.memory.is_empty() {
        let text = "nothing was handed out while observed";
        page.wrapped(Line::from("  "), Paint::Plain, text);
    }
    if let Some(share) = rest {
        let text = format!(
            "torch's tensors were watched for {} of the time: all of it would have cost more than allowed",
            number::percent(share)
        );
        page.wrapped(Line::from("  "), Paint::Dim, &text);
    }
    for failure in gpu.failures.iter().take(FAILURES) {
        write_failure(page, failure, paths);
    }
    let more = gpu.failed.saturating_sub(gpu.failures.len().min(FAILURES) as u64);
    if more > 0 {
        let text = format!("… and {} more calls that found no memory", number::count(more));
        page.wrapped(Line::from("  "), Paint::Dim, &text);
    }
}

fn write_device(page: &mut Page, device: &Device) {
    let own = device
        .process_bytes
        .map_or_else(String::new, |own| format!(", {} of that by this process", Bytes(own)));
    let parts = if device.in_parts { ", cut into instances (MIG)" } else { "" };
    let text = format!(
        "GPU {}, {}{parts}: {} of {} taken{own}",
        device.index,
        device.name,
        Bytes(device.used_bytes),
        Bytes(device.total_bytes),
    );
    page.wrapped(Line::from("  "), Paint::Plain, &text);
}

fn write_failure(page: &mut Page, failure: &Failure, paths: Paths<'_>) {
    let mut text = format!(
        "out of memory at {:.1} s: {} asked for {} of {} memory",
        failure.at_s,
        failure.call,
        Bytes(failure.size_bytes),
        failure.memory,
    );
    if !failure.free_bytes.is_empty() {
        let free = failure.free_bytes.iter().map(|free| Bytes(*free).to_string());
        text.push_str(&format!("; free {} shortly after", free.collect::<Vec<_>>().join(", ")));
    }
    if let (Some(allocated), Some(reserved)) =
        (failure.torch_allocated_bytes, failure.torch_reserved_bytes)
    {
        let (allocated, reserved) = (Bytes(allocated), Bytes(reserved));
        text.push_str(&format!("; torch had {allocated} in tensors and {reserved} reserved"));
    }
    page.wrapped(Line::from("  "), Paint::Bad, &text);
    write_place(page, "at", &failure.stack, paths);
    for holder in failure.holders.iter().take(HOLDERS) {
        let held = Bytes(holder.bytes).to_string();
        write_place(page, &format!("{held} held by"), &holder.stack, paths);
    }
}

fn write_place(page: &mut Page, what: &str, frames: &[crate::snapshot::Frame], paths: Paths<'_>) {
    let line = Line::from(format!("    {what} ").as_str());
    let room = page.width().saturating_sub(line.width());
    let place = match stack::accused(frames) {
        Some(frame) => stack::place(frame, room, paths),
        None => "outside Python, or its stack is not known".to_owned(),
    };
    page.line(&line.plain(&place));
}
