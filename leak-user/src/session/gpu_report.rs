//! What is known of GPUs, written up.

use std::sync::Arc;

use leak_common::gpu::does;

use super::{Session, SessionError, gpu::Failure as Failed, report::Writer};
use crate::{
    gpu::calls,
    ledger::{devices::Holding, series::Recorder},
    snapshot::{
        Frame, FrameKind,
        gpu::{Device, Failure, Gpu, Holder, Memory, TorchPool},
    },
    verdict::{evidence::SiteId, stats},
};

/// Lines that are named as those who held the most when a call failed.
const MOST_HOLDERS: usize = 5;

impl Session {
    /// Memory of GPUs; None where the target has no library of theirs.
    ///
    /// # Errors
    /// [`SessionError::Probe`] where the kernel's counts can't be read.
    pub(super) fn gpu_report(&mut self, writer: &mut Writer) -> Result<Option<Gpu>, SessionError> {
        if !self.gpu.is_watched() {
            return Ok(None);
        }
        let [growth, tensor_growth] = self.ledger.devices_grown().map(slope);
        let failures = std::mem::take(&mut self.gpu.failures);
        Ok(Some(Gpu {
            driver: self.gpu.driver().map(str::to_owned),
            devices: self.device_reports(),
            memory: self.gpu_memory()?,
            torch: self
                .torch_pools()?
                .into_iter()
                .map(|(device, allocated, reserved)| TorchPool {
                    device,
                    allocated_bytes: allocated.0,
                    reserved_bytes: reserved.0,
                })
                .collect(),
            tensors_watched: self
                .gpu
                .tensors
                .as_ref()
                .map(|tensors| tensors.watched_share(self.end, self.start)),
            growth_bytes_per_s: growth,
            tensor_growth_bytes_per_s: tensor_growth,
            failures: failures.iter().map(|failed| self.failure(failed, writer)).collect(),
            failed: self.gpu.failed,
        }))
    }

    fn device_reports(&self) -> Vec<Device> {
        let before = &self.gpu.at_first;
        let now = self.devices().into_iter();
        now.map(|now| Device {
            used_at_first_bytes: before
                .iter()
                .find(|before| before.index == now.index)
                .map_or(now.used.0, |before| before.used.0),
            index: now.index,
            name: now.name,
            in_parts: now.in_parts,
            total_bytes: now.total.0,
            used_bytes: now.used.0,
            process_bytes: now.by_process.map(|bytes| bytes.0),
        })
        .collect()
    }

    fn gpu_memory(&self) -> Result<Vec<Memory>, SessionError> {
        let counted = self.gpu_counts()?.into_iter();
        Ok(counted
            .map(|counted| Memory {
                kind: calls::memory_name(counted.memory).to_owned(),
                live_bytes: counted.live.bytes.0,
                live_count: counted.live.count,
                allocations: counted.totals.allocations,
                allocated_bytes: counted.totals.allocated,
                frees: counted.totals.frees,
                freed_bytes: counted.totals.freed,
                failures: counted.totals.failures,
                unreached: counted.totals.unreached,
            })
            .collect())
    }

    fn failure(&mut self, failed: &Failed, writer: &mut Writer) -> Failure {
        let call = &failed.call;
        let torch = (call.does == does::REPORT_FAILURE).then_some((call.other, call.result));
        Failure {
            at_s: self.ledger.seconds(call.origin.time),
            call: calls::name(call.call).to_owned(),
            memory: calls::memory_name(call.memory).to_owned(),
            size_bytes: call.size.0,
            free_bytes: failed.devices.iter().map(|device| device.free.0).collect(),
            torch_allocated_bytes: torch.map(|(allocated, _)| allocated),
            torch_reserved_bytes: torch.map(|(_, reserved)| reserved),
            stack: self.shown(failed.site, writer),
            holders: self.holders(&failed.holders, writer),
        }
    }

    /// Who held the most, the sites of one line together.
    fn holders(&mut self, held: &[(SiteId, Holding)], writer: &mut Writer) -> Vec<Holder> {
        let mut holders: Vec<Holder> = Vec::new();
        for (site, Holding { bytes, count }) in held {
            let stack = self.shown(*site, writer);
            let is_same = |holder: &&mut Holder| innermost(&holder.stack) == innermost(&stack);
            if let Some(holder) = holders.iter_mut().find(is_same) {
                holder.bytes = holder.bytes.saturating_add(bytes.0);
                holder.count += count;
            } else {
                holders.push(Holder { bytes: bytes.0, count: *count, stack });
            }
        }
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.bytes));
        holders.truncate(MOST_HOLDERS);
        holders
    }

    /// A site's whole stack; empty where it was forgotten.
    fn shown(&mut self, site: SiteId, writer: &mut Writer) -> Vec<Frame> {
        let Some(site) = self.ledger.sites.get(site) else { return Vec::new() };
        let stack = Arc::clone(&site.stack);
        writer.stack(&mut self.modules, &stack)
    }
}

/// The innermost Python line.
fn innermost(stack: &[Frame]) -> Option<&Frame> {
    stack.iter().find(|frame| frame.kind == FrameKind::Python)
}

fn slope(held: &Recorder) -> f64 {
    stats::slope(&held.series().points).map_or(0.0, |slope| slope.per_s.value)
}
