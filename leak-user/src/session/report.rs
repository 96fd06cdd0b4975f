//! From an observation to a [`Snapshot`]: names, source lines, types, sums.

use std::{collections::HashSet, sync::Arc};

use leak_common::counters::Counter;

use super::{
    Ending, Session, SessionError,
    findings::{self, Ties},
};
use crate::{
    gpu::calls::memory_name,
    heap::{glibc_heaps, retention::Kept},
    ledger::survivors::Kinds,
    probe::{plan, tables::Counts},
    snapshot::{
        Coverage, Frame, Losses, Memory, Observed, Overhead, SCHEMA, Site as SiteReport, Snapshot,
        Target, TypeShare, Verdict as VerdictReport, heap::CHeap, own_frame,
    },
    symbolize::{
        modules::Modules,
        native::NativeSymbols,
        source::SourceLines,
        stacks::{Frame as StackFrame, line_of},
    },
    target::{AllocatorKind, process},
    units::{Addr, Bytes, Nanos},
    verdict::{
        Estimate, Finding, Judgement, MIN_DURATION_S, Verdict,
        evidence::{Domain, Evidence, SiteId},
        judge, stats,
    },
    watch::{split, usage},
};

/// With fewer bursts than this, or in less time than a verdict takes, nothing can be said of a process that ended.
const ENOUGH_BURSTS: u32 = 3;

/// Sites other than the accused that are listed.
const MAX_OTHERS: usize = 50;

/// Which sites the user wants to see.
pub struct Wanted<'a> {
    /// Is this file's line one that may be accused or listed?
    pub file: &'a dyn Fn(&str) -> bool,
    /// Sites with fewer live bytes are left out.
    pub min_size: Bytes,
}

impl Session {
    /// The evidence up to `time`.
    ///
    /// # Errors
    /// [`SessionError::Probe`] where the counters can't be read.
    pub fn evidence(&self, time: Nanos) -> Result<Evidence, SessionError> {
        let counts = self.tables.counts()?;
        let lost = counts.get(Counter::RingFull) + counts.get(Counter::MapFull);
        // Breakpoints on a class's list see all of its allocations: nothing is left to measure.
        let coverage = if self.by_class.is_some() { None } else { coverage(&counts) };
        Ok(self.ledger.evidence(time, coverage, lost))
    }

    /// The stack of a site, innermost frame first.
    #[must_use]
    pub fn frames(&self, site: SiteId) -> Option<Arc<[StackFrame]>> {
        self.ledger.sites.get(site).map(|site| Arc::clone(&site.frames))
    }

    /// Judges and writes it all up.
    ///
    /// # Errors
    /// [`SessionError::EndedTooEarly`]; [`SessionError::Probe`].
    pub fn report(
        &mut self,
        ending: Ending,
        wanted: &Wanted<'_>,
    ) -> Result<Snapshot, SessionError> {
        self.behind = None;
        let evidence = self.evidence(self.end)?;
        let enough = self.burst_count >= ENOUGH_BURSTS && evidence.duration_s >= MIN_DURATION_S;
        if ending == Ending::TargetEnded && !enough {
            return Err(SessionError::EndedTooEarly(self.target.pid));
        }
        for site in &evidence.sites {
            tracing::trace!(?site, frames = ?self.frames(site.id), "evidence");
        }
        for class in &evidence.pymalloc_classes {
            tracing::trace!(?class, "evidence");
        }
        let mut judgement = self.filtered(judge(&evidence), wanted);
        let counts = self.tables.counts()?;
        let mut writer = Writer {
            natives: NativeSymbols::default(),
            sources: SourceLines::new(self.target.pid),
        };
        let (keepers, searched) = self.keepers(&judgement);
        let holder = |finding: &Finding| keepers.get(&finding.site)?.holder;
        let holders: HashSet<Addr> = judgement.accused.iter().filter_map(holder).collect();
        judgement.join(|finding| holder(finding).is_some_and(|holder| holders.contains(&holder)));
        judgement.reasons.extend(judgement.remainder());
        let mut leaks = self.sites(&judgement.accused, &mut writer);
        for (leak, finding) in leaks.iter_mut().zip(&judgement.accused) {
            let Kept { path, maybe, .. } = keepers.get(&finding.site).cloned().unwrap_or_default();
            (leak.retained_by, leak.retained_by_maybe) = (path, maybe);
        }
        let ties = judgement
            .accused
            .iter()
            .map(|finding| Ties { holder: holder(finding), line: finding.own_line });
        findings::number(&mut leaks, ties);
        let others = &judgement.others[..judgement.others.len().min(MAX_OTHERS)];
        let sites = self.sites(others, &mut writer);
        Ok(Snapshot {
            schema: SCHEMA.to_owned(),
            leaktrace: env!("CARGO_PKG_VERSION").to_owned(),
            target: self.target_report(ending),
            observed: Observed {
                start_ns: self.start.0,
                duration_s: evidence.duration_s,
                bursts: self.burst_count,
                first_burst_s: self.first_burst.map(|opened| self.ledger.seconds(opened)),
                allocations: self.ledger.allocations,
                native_stacks: counts.get(Counter::NativeCopies),
                unwinding_ms: self.unwinder.spent().as_secs_f64() * 1e3,
            },
            overhead: Overhead {
                budget: self.options.overhead,
                spent: self.budget.spent_share(self.come),
                of_own_work: self.budget.work_share(self.come),
                hits: self.budget.hits(),
                ns_per_hit: self.budget.ns_per_hit(),
            },
            coverage: Coverage { pymalloc: evidence.coverage },
            losses: self.losses(&counts),
            verdict: match judgement.verdict {
                Verdict::Leak => VerdictReport::Leak,
                Verdict::NoLeak => VerdictReport::NoLeak,
                Verdict::Inconclusive => VerdictReport::Inconclusive,
            },
            reasons: judgement.reasons,
            unseen: self.unseen(&counts).into_iter().chain(searched).collect(),
            leaks,
            sites,
            memory: self.memory(judgement.growth),
            fresh_memory: self.fresh_memory(evidence.duration_s, wanted, &mut writer)?,
            gpu: self.gpu_report(&mut writer)?,
            processes: None,
            tree: None,
        })
    }

    /// Leaves out what the user does not want to see; a verdict that rested on it alone falls.
    fn filtered(&self, mut judgement: Judgement, wanted: &Wanted<'_>) -> Judgement {
        let allowed = |finding: &Finding| {
            let leaf = self.ledger.sites.get(finding.site).and_then(|site| line_of(&site.frames));
            leaf.is_none_or(|leaf| (wanted.file)(&leaf.file))
                && finding.live_bytes >= wanted.min_size
        };
        let before = judgement.accused.len();
        judgement.accused.retain(allowed);
        judgement.small.retain(allowed);
        judgement.others.retain(allowed);
        if judgement.accused.is_empty() && before > 0 {
            judgement.verdict = Verdict::Inconclusive;
            judgement.reasons.push(format!(
                "{before} accused line{} left out, as asked by --include, --exclude or --min-size",
                if before == 1 { " is" } else { "s are" }
            ));
        }
        judgement
    }

    fn target_report(&self, ending: Ending) -> Target {
        let allocators = self.target.python.as_ref().ok().map(|python| &python.allocators);
        let allocator = match allocators.map(|allocators| allocators.kind) {
            Some(AllocatorKind::Pymalloc) => "pymalloc",
            Some(AllocatorKind::Malloc) => "malloc",
            Some(AllocatorKind::Other) | None => "unknown",
        };
        let hooks = self.hooks();
        Target {
            pid: self.target.pid.0,
            python: self.target.version().to_owned(),
            exe: self.target.exe.clone(),
            cmdline: self.target.cmdline.clone(),
            cwd: std::fs::read_link(process::proc_path(self.target.pid, "cwd"))
                .ok()
                .map(|cwd| cwd.to_string_lossy().into_owned()),
            allocator: if hooks.is_empty() {
                allocator.to_owned()
            } else {
                format!("{allocator} behind {hooks}")
            },
            ended: ending == Ending::TargetEnded,
        }
    }

    /// What stands in front of Python's allocators, in words.
    fn hooks(&self) -> String {
        let python = self.target.python.as_ref().ok();
        python.map_or_else(String::new, |python| python.allocators.hooks.join(", "))
    }

    fn losses(&self, counts: &Counts) -> Losses {
        Losses {
            ring_full: counts.get(Counter::RingFull),
            map_full: counts.get(Counter::MapFull) + self.ledger.refused_mappings(),
            stacks_truncated: counts.get(Counter::StackTruncated),
            unreadable: counts.get(Counter::ReadFault),
            unpredicted: counts.get(Counter::Unpredicted),
            unmatched_returns: counts.get(Counter::UnmatchedReturn),
            bad_records: self.ring.bad_records,
            stacks_missing: self.ledger.sites.missing_stacks(),
            sites_forgotten: self.ledger.sites.forgotten(),
            unresolved_frames: self.stacks.unresolved() + self.stacks.refused(),
            breakpoints_refused: self.bursts.refused_breakpoints(),
        }
    }

    fn unseen(&self, counts: &Counts) -> Vec<String> {
        let mut unseen = self.plan.unseen.clone();
        if !self.options.exact {
            unseen.extend(plan::untold(&self.target));
        }
        let walks = counts.get(Counter::Walks);
        let without = counts.get(Counter::NoPythonStack);
        if without > 0 && without * 20 > walks + without {
            unseen.push(format!(
                "the lines of {:.0} % of the recorded events: their threads run no Python",
                100.0 * without as f64 / (walks + without) as f64
            ));
        }
        if let (Some(_), Some(coverage)) = (&self.by_class, coverage(counts)) {
            unseen.push(format!(
                "the size classes that do not grow: this build of Python carries copies of its \
                 allocator in many places (probes on its functions saw {:.0} % of the events), so \
                 the growing size classes were watched by hardware breakpoints",
                100.0 * coverage
            ));
        }
        if self.share_is_dear() {
            unseen.push(format!(
                "what it shares with other processes (PSS): counting it would keep it from mapping \
                 memory for some {:.0} ms",
                usage::proportional_hold(self.usage.rss).seconds() * 1e3
            ));
        }
        if self.children > 0 && !self.options.children {
            unseen.push(format!(
                "its {} (--children follows them)",
                if self.children == 1 {
                    "child process".to_owned()
                } else {
                    format!("{} child processes", self.children)
                }
            ));
        }
        let hooks = self.hooks();
        if !hooks.is_empty() {
            unseen.push(format!("what {hooks} itself allocates is booked like the rest"));
        }
        unseen.extend(self.unseen_midway());
        unseen.extend(self.gpu.unseen.iter().cloned());
        if self.gpu.resets > 0 {
            unseen.push(format!(
                "on which devices contexts lay that ended (there were {}): what all devices held is taken to be gone \
                 with each",
                self.gpu.resets
            ));
        }
        unseen
    }

    fn memory(&self, growth: Estimate) -> Memory {
        let pss = self.ledger.pss();
        Memory {
            rss_bytes: self.usage.rss.0,
            pss_bytes: pss.last().map_or(0, |bytes| bytes as u64),
            pss_growth_bytes_per_s: stats::slope(&pss.series().points)
                .map(|slope| slope.per_s.value),
            limit_bytes: None,
            growth_bytes_per_s: growth.value,
            growth_interval: (growth.low, growth.high),
            split: split::split(&self.usage, self.census.as_ref()),
            c_heap: self.c_heap(),
        }
    }

    /// What the heaps of the C library hold, where they are glibc's.
    fn c_heap(&self) -> Option<CHeap> {
        let is_glibcs = self.target.heap.is_some() && self.target.blocks_are_glibcs();
        let mappings = || process::mappings(self.target.pid).unwrap_or_default();
        let found = is_glibcs.then(|| glibc_heaps::read(&self.target.memory, mappings));
        found.filter(|found| found.heaps > 0)
    }

    fn sites(&mut self, findings: &[Finding], writer: &mut Writer) -> Vec<SiteReport> {
        let found = findings.iter().filter_map(|finding| self.ledger.sites.get(finding.site));
        let natives: Vec<Addr> =
            found.flat_map(|site| site.stack.iter().filter_map(StackFrame::native)).collect();
        writer.natives.resolve(&mut self.modules, &natives);
        let sites = findings.iter().map(|finding| finding.site);
        let mut kinds = self.ledger.survivors.kinds(sites);
        (1..)
            .zip(findings)
            .filter_map(|(rank, finding)| {
                let site = self.ledger.sites.get(finding.site)?;
                let (stack, thread) = (Arc::clone(&site.stack), site.thread.clone());
                let kinds = kinds.remove(&finding.site).unwrap_or_default();
                let held = self.ledger.devices.kind(finding.site);
                let shown = writer.stack(&mut self.modules, &stack);
                Some(SiteReport {
                    rank,
                    finding: 0,
                    pid: self.target.pid.0,
                    confidence: finding.confidence,
                    trend: finding.trend.name().to_owned(),
                    domain: domain(finding.domain).to_owned(),
                    memory: held.map(|kind| memory_name(kind.memory).to_owned()),
                    device: held.and_then(|kind| kind.device),
                    growth_bytes_per_s: finding.growth.value,
                    growth_interval: (finding.growth.low, finding.growth.high),
                    live_bytes: finding.live_bytes.0,
                    live_count: finding.live_count,
                    survival: finding.survival,
                    types: self.types(kinds),
                    thread: thread.map(|name| name.to_string()),
                    own_frame: own_frame(&shown),
                    stack: shown,
                    retained_by: Vec::new(),
                    retained_by_maybe: false,
                    reasons: finding.reasons.clone(),
                    cleared_if: finding.cleared_if.clone(),
                    lacks: finding.lacks.clone(),
                    accused_since_s: self.suspicion.since(finding.site),
                })
            })
            .collect()
    }

    /// What a site's survivors are.
    fn types(&mut self, kinds: Kinds) -> Vec<TypeShare> {
        const MOST: usize = 5;
        let total: f64 = kinds.values().sum();
        let mut types: Vec<TypeShare> = kinds
            .into_iter()
            .filter_map(|(kind, weight)| {
                let names = self.names.as_mut();
                let read = names.and_then(|names| names.name(&self.target.memory, kind?));
                let name = read.or_else(|| self.named.get(&kind?).cloned().flatten())?;
                Some(TypeShare { name: name.to_string(), share: weight / total })
            })
            .collect();
        types.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.name.cmp(&b.name)));
        types.truncate(MOST);
        types
    }
}

/// Turns addresses and names into what is shown.
pub(super) struct Writer {
    natives: NativeSymbols,
    sources: SourceLines,
}

impl Writer {
    pub(super) fn stack(&mut self, modules: &mut Modules, frames: &[StackFrame]) -> Vec<Frame> {
        let mut shown = Vec::with_capacity(frames.len());
        for frame in frames {
            match frame {
                StackFrame::Python(frame) => {
                    let source = self.sources.line(&frame.file, frame.line);
                    let source = source.map(|text| text.to_string());
                    shown.push(Frame { source, ..frame.shown() });
                }
                StackFrame::Native(addr) => {
                    let calls = self.natives.resolve(modules, &[*addr]).into_iter().flatten();
                    shown.extend(calls.map(|call| call.shown()));
                }
            }
        }
        shown
    }
}

fn coverage(counts: &Counts) -> Option<f64> {
    let seen = counts.get(Counter::PoolEventsSeen) as f64;
    let missed = counts.get(Counter::PoolEventsMissed) as f64;
    (seen > 0.0).then(|| seen / (seen + missed))
}

fn domain(domain: Domain) -> &'static str {
    match domain {
        Domain::Pymalloc => "pymalloc",
        Domain::Malloc => "malloc",
        Domain::Mmap => "mmap",
        Domain::Cuda => "cuda",
        Domain::Torch => "torch",
    }
}
