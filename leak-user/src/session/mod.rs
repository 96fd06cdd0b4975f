//! One observation, from a discovered target to evidence: wires the stages and owns their order.
//!
//! One thread does it all in turn: bursts, reading what the kernel sent, looking at the heap from
//! outside. Nothing is shared, so nothing can be seen half done.

mod by_class;
pub mod churn;
mod codes;
pub mod exact;
mod findings;
mod fresh;
mod gpu;
mod gpu_report;
mod keepers;
mod mappings;
mod midway;
pub mod open;
mod rare;
mod readings;
pub mod report;
mod steer;
pub mod suspect;
mod tensors;
pub mod verify;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use leak_common::counters::Counter;

use by_class::ByClass;
use churn::Churn;
use gpu::Gpu;
use mappings::Pace;
use midway::Midway;
use rare::Rare;
use suspect::Suspicion;

use crate::{
    clock::{now, process_time},
    collect::decode::Event,
    heap::{names::TypeNames, pymalloc::Census},
    ledger::{Ledger, Watched},
    probe::{
        account::Moment,
        budget::{Budget, Kind},
        burst::{Attachment, Bursts, Points},
        calibrate::Calibration,
        error::ProbeError,
        faults::Faults,
        log::ProgramLog,
        object::Object,
        outcome::Terms,
        plan::{Plan, Returns},
        priority::Behind,
        ring::Ring,
        tables::{MOST_WATCHED, Tables},
    },
    symbolize::{
        code::CodeCache, merge::Owners, modules::Modules, stacks::Stacks, unwind::Unwinder,
    },
    target::{Target, kernel::KernelError, memory::Memory as _, process},
    units::{Addr, Bytes, Nanos},
    watch::usage::Usage,
};

/// RSS is read so often.
const USAGE_EVERY: Nanos = Nanos(250_000_000);

/// The kernel's records are read at least so often.
const DRAIN_EVERY: Nanos = Nanos(50_000_000);

/// While the kernel still cleans up after the last burst, it is asked so often whether it is done.
const READY_EVERY: Nanos = Nanos(10_000_000);

/// Where nothing can be said yet, so much is added at a time.
const MORE: Nanos = Nanos(10_000_000_000);

/// What the user asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long to observe.
    pub duration: Nanos,
    /// How much longer, as long as nothing can be said.
    pub patience: Nanos,
    /// The share of the target's processor time, or of a core's where it takes less, that may be spent.
    pub overhead: f64,
    /// What one burst may spend of it, which one request may feel.
    pub burst_most: Nanos,
    /// Trace every allocation.
    pub exact: bool,
    /// Which native stacks to take.
    pub native: Native,
    /// Attach probes one by one, as kernels before 6.6 have to.
    pub one_by_one: bool,
    /// Place no return probes, as on kernels where they could do harm.
    pub no_return_probes: bool,
    /// The process's children are followed too, by sessions of their own.
    pub children: bool,
    /// Find out how much of each type is allocated ([`Session::turnover`]).
    pub turnover: bool,
}

/// Which native stacks to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Native {
    /// None.
    None,
    /// The top of those that allocate from the C library or map memory.
    Top,
    /// All of them, and whole.
    Whole,
}

/// Why an observation can't begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The kernel's type information can't be read.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Probes.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The process has ended (or replaced its program) before anything could be said.
    #[error("process {0} ended before there was enough to say")]
    EndedTooEarly(crate::units::Pid),
}

/// How an observation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its time was over.
    Complete,
    /// The user ended it.
    Stopped,
    /// The process ended or replaced its program.
    TargetEnded,
}

/// What is told while observing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Status {
    /// Time left.
    pub left: Nanos,
    /// Bursts so far.
    pub bursts: u32,
    /// Share of the target's time spent.
    pub spent: f64,
    /// Resident now.
    pub rss: Bytes,
    /// Growth of RSS since the start, bytes a second.
    pub growth: Option<f64>,
}

/// An observation.
pub struct Session {
    target: Target,
    options: Options,
    /// Until the report; not where all is traced, which has to be kept up with, or the heap is counted between.
    behind: Option<Behind>,
    plan: Plan,
    returns: Returns,
    midway: Midway,
    object: Object,
    tables: Tables,
    ring: Ring,
    log: Option<ProgramLog>,
    bursts: Bursts,
    budget: Budget,
    /// How far the target had come when it was looked at last.
    come: Moment,
    costs: Calibration,
    /// Children that there were at the start or were born since.
    children: u64,
    /// None: Python's structures are not known.
    codes: Option<CodeCache>,
    stacks: Stacks,
    modules: Modules,
    unwinder: Unwinder,
    owners: Owners,
    /// A file with code in it was mapped.
    code_changed: bool,
    ledger: Ledger,
    start: Nanos,
    end: Nanos,
    burst_count: u32,
    /// When the first one's gate was opened.
    first_burst: Option<Nanos>,
    usage: Usage,
    proportional_due: Nanos,
    census: Option<Census>,
    census_due: Nanos,
    usage_due: Nanos,
    target_ended: bool,
    /// Set where pymalloc is watched by size class.
    by_class: Option<ByClass>,
    rare: Rare,
    /// How often in a row it was found waiting when a burst on words was due.
    looks: u32,
    /// None: it was not asked for.
    churn: Option<Churn>,
    faults: Faults,
    pace: Pace,
    /// None: what types look like is not known.
    names: Option<TypeNames>,
    suspicion: Suspicion,
    gpu: Gpu,
    /// Names of survivors' types, by address, as they were read first.
    named: HashMap<Addr, Option<Arc<str>>>,
}

impl Session {
    /// What a probe hit costs, as it was measured.
    #[must_use]
    pub fn costs(&self) -> Calibration {
        self.costs
    }

    /// Observes until the time is over, `stop` is set, or the target ends.
    ///
    /// # Errors
    /// [`SessionError`]; a target that ends is not an error but an [`Ending`].
    pub fn observe(
        &mut self,
        stop: &AtomicBool,
        mut tell: impl FnMut(&Session, Status),
    ) -> Result<Ending, SessionError> {
        if self.options.exact {
            self.open_exact()?;
        }
        let mut events = Vec::new();
        let mut until = Nanos(self.start.0.saturating_add(self.options.duration.0));
        let latest = Nanos(until.0.saturating_add(self.options.patience.0));
        let ending = loop {
            let time = now();
            if self.target_ended {
                break Ending::TargetEnded;
            }
            if stop.load(Ordering::Relaxed) {
                break Ending::Stopped;
            }
            if time >= until {
                if until == latest || self.is_sure(time)? {
                    break Ending::Complete;
                }
                until = Nanos(until.0.saturating_add(MORE.0)).min(latest);
            }
            let mut wait = Nanos(until.0 - time.0).min(DRAIN_EVERY);
            if !self.options.exact {
                wait = wait.min(self.burst_if_due(&mut events)?);
            }
            self.bursts.rest();
            self.housekeeping(&mut tell, until)?;
            self.ring.wait(wait.min(self.tensors_wait()));
            self.ring.drain(&mut events);
            self.digest(&mut events);
            self.pass_on_log();
        };
        self.end = self.look_how_far().now;
        if self.options.exact {
            self.close_exact()?;
        }
        self.bursts.settle();
        self.budget.book_lingering(self.bursts.take_lingering());
        self.ring.drain(&mut events);
        self.digest(&mut events);
        self.pass_on_log();
        if ending != Ending::TargetEnded {
            self.last_look();
        }
        Ok(ending)
    }

    /// Runs a burst if the budget allows one; else says how long to wait.
    fn burst_if_due(&mut self, events: &mut Vec<Event>) -> Result<Nanos, SessionError> {
        // First, since what the last burst left behind may use up what the next one needs.
        self.budget.book_lingering(self.bursts.take_lingering());
        let come = self.look_how_far();
        if self.is_left_alone(come) {
            return Ok(DRAIN_EVERY);
        }
        if let Some(class) = self.class_to_pace() {
            return self.pace_if_due(class, come, events);
        }
        let Some(kind) = self.budget.turn(&self.kinds(), self.ledger.parts()) else {
            return Ok(DRAIN_EVERY);
        };
        let (choice, words) = match kind {
            Kind::Pymalloc => self.classes_to_watch(),
            Kind::Malloc => None,
        }
        .unzip();
        let way = by_class::way(choice.as_ref());
        let terms = match self.budget.next(kind, way, come) {
            Ok(terms) => {
                Terms { classes: self.classes_to_record(), told: self.blocks_to_tell(), ..terms }
            }
            Err(wait) => return Ok(wait),
        };
        if !self.bursts.is_ready() {
            return Ok(READY_EVERY);
        }
        if words.is_some() && self.waits() {
            return Ok(steer::LOOK_EVERY);
        }
        self.check_filter(kind)?;
        let threads = if words.is_some() { open::threads(self.target.pid) } else { Vec::new() };
        let mut at = Attachment {
            object: &mut self.object,
            tables: &mut self.tables,
            ring: &mut self.ring,
            pid: self.target.pid,
            points: match &words {
                Some(words) => Points::Words(words, &threads),
                None => Points::Functions(self.plan.probes(kind)),
            },
            events,
        };
        let outcome = match self.bursts.run(&mut at, terms) {
            Ok(outcome) => outcome,
            Err(_) if !self.is_alive() => {
                self.target_ended = true;
                return Ok(Nanos(0));
            }
            Err(error) if choice.is_some() && self.by_class.is_none() => {
                self.rare.refuse(&error);
                return Ok(Nanos(0));
            }
            Err(error) => return Err(error.into()),
        };
        self.budget.book(kind, way, come.now, &outcome, &terms);
        self.burst_count += 1;
        self.first_burst.get_or_insert(outcome.opened);
        tracing::debug!(
            burst = outcome.burst,
            ?kind,
            opened_ns = outcome.opened.0,
            open_ms = outcome.open().seconds() * 1e3,
            spent_ms = outcome.spent.seconds() * 1e3,
            cost_ms = outcome.cost().seconds() * 1e3,
            own_ms = outcome.own().seconds() * 1e3,
            hits = outcome.counts.get(Counter::Hits),
            closed_hits = outcome.closed_hits(),
            classes = terms.classes.count_ones(),
            attach_ms = outcome.attach_time.seconds() * 1e3,
            detach_ms = outcome.detach_time.seconds() * 1e3,
            "burst"
        );
        let counts = self.tables.take_sites()?;
        if kind == Kind::Pymalloc {
            self.note_pymalloc(&outcome, choice.as_ref(), terms.classes, &counts);
            if choice.is_none() && terms.classes == steer::ALL {
                self.rare.saw_all(&counts);
            }
            self.note_churn(&counts);
        }
        let mut blocks = self.tables.take_live()?;
        self.ring.drain(events);
        self.digest(events);
        if choice.is_some() && self.by_class.is_none() && self.rare.is_restless() {
            blocks.clear();
        }
        let watched = match kind {
            Kind::Pymalloc => Watched::Pymalloc,
            Kind::Malloc => Watched::Malloc,
        };
        let malloc_s = (kind == Kind::Malloc).then(|| outcome.recorded().seconds());
        self.ledger.survivors.gone(&self.tables.gone()?, malloc_s);
        self.check_codes(&counts)?;
        let memory = &self.target.memory;
        self.ledger.burst(memory, &self.stacks, watched, &counts, &blocks);
        self.tables.watch(self.ledger.survivors.to_watch(MOST_WATCHED))?;
        Ok(Nanos(0))
    }

    /// Lets the programs' own lines into the log.
    fn pass_on_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Takes in what the kernel sent.
    fn digest(&mut self, events: &mut Vec<Event>) {
        let mut ended = Vec::new();
        for event in events.drain(..) {
            match event {
                Event::Stack { id, frames } => {
                    if let Some(codes) = &mut self.codes {
                        self.stacks.insert(id, &frames, codes, &self.target.memory);
                    }
                }
                Event::NativeStack { id, stack, registers, thread, bytes } => {
                    let native = self.unwinder.unwind(&mut self.modules, registers, &bytes);
                    let whole = self.options.native == Native::Whole;
                    self.stacks.insert_native(id, stack, &native, &self.owners, whole, &thread);
                }
                Event::Mmap { region, anonymous: true, weight, origin, .. } => {
                    self.refer(origin.stack);
                    self.ledger.mapped(&self.stacks, region, weight, origin);
                }
                Event::Munmap { region, time } => self.ledger.unmapped(region, time),
                Event::Mremap { old, new, origin } => {
                    self.refer(origin.stack);
                    self.ledger.remapped(&self.stacks, old, new, origin);
                }
                Event::Brk { grown, origin } => {
                    self.refer(origin.stack);
                    self.ledger.fresh.break_grew(&self.stacks, origin.stack, grown);
                }
                Event::Mmap { code: true, .. } => self.code_changed = true,
                Event::Gpu(call) => self.gpu_call(call),
                Event::Freed { content } => ended.push(content),
                Event::Exec => self.target_ended = true,
                Event::Exit { tid } if tid.0 == self.target.pid.0 => {
                    tracing::debug!("the main thread ended");
                }
                Event::Exit { .. } => self.rare.thread_ended(),
                Event::Fork { .. } => self.children += 1,
                Event::Mmap { .. } | Event::GateClosed { .. } => {}
            }
        }
        self.note_dying(&ended);
    }

    fn housekeeping(
        &mut self,
        tell: &mut impl FnMut(&Session, Status),
        until: Nanos,
    ) -> Result<(), SessionError> {
        let time = now();
        if time >= self.census_due {
            self.take_census(time)?;
            self.check_allocators()?;
        }
        self.book_gpus(time)?;
        let (pid, faults) = (self.target.pid, &mut self.faults);
        let watched = faults.step(&mut self.object, pid, || open::threads(pid), time);
        if watched.is_err() && self.is_alive() {
            watched?;
        }
        if time >= self.usage_due {
            self.usage_due = Nanos(time.0 + USAGE_EVERY.0);
            self.read_usage(time);
            if time >= self.proportional_due {
                self.read_proportional(time);
            }
            self.pace_mappings(time)?;
            if std::mem::take(&mut self.code_changed) {
                self.tables.set_code(&self.modules.code())?;
                self.find_gpus()?;
            }
            self.look_at_gpus(time)?;
            self.judge_so_far(time);
            let status = self.status(time, until);
            tell(self, status);
        }
        Ok(())
    }

    fn status(&self, time: Nanos, until: Nanos) -> Status {
        let elapsed = self.ledger.seconds(time);
        let growth = self.ledger.rss_range().map(|(first, last)| (last - first) / elapsed);
        Status {
            left: Nanos(until.0.saturating_sub(time.0)),
            bursts: self.burst_count,
            spent: self.budget.spent_share(self.come),
            rss: self.usage.rss,
            growth: growth.filter(|_| elapsed > 1.0),
        }
    }

    /// How far the target has come by now; its processor time stays what it was where it has ended.
    fn look_how_far(&mut self) -> Moment {
        let worked = process_time(self.target.pid).unwrap_or(self.come.worked);
        self.come = Moment { now: now(), worked };
        self.come
    }

    /// Is it still the same process?
    fn is_alive(&self) -> bool {
        process::start_ticks(self.target.pid).is_ok_and(|t| t == self.target.start_ticks)
            && match &self.target.python {
                Ok(python) => self.target.memory.half(python.runtime).is_ok(),
                Err(_) => true,
            }
    }
}
