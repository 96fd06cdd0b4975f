//! One burst: attach, open the gate, wait for its end, drop everything at once.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use aya::maps::{Array, MapData};
use leak_common::{config::Gate, counters::Counter};

use super::{
    attach::{self, Attached, Detaching},
    classes::{self, Breakpoints, Watch},
    error::ProbeError,
    keeper::Keeper,
    object::Object,
    outcome::{Outcome, Terms, felt},
    plan::Probe,
    priority::Ahead,
    ring::Ring,
    tables::{Counts, Tables, take},
    turn::Turn,
};
use crate::{
    clock::{now, process_time},
    collect::decode::Event,
    target::{elsewhere::Elsewhere, memory::ProcessMemory},
    units::{Nanos, Pid, Tid},
};

/// Whether a burst is felt, and has gone on for long enough then, is looked at so often.
const LOOK_EVERY: Nanos = Nanos(2_000_000);

/// The kernel closes the gate at the first hit after its end. A target that makes none for so long hands out nothing
/// that could be mistaken for what the burst saw.
const GRACE: Nanos = Nanos(2_000_000);

/// The gate's user side.
pub struct Bursts {
    gate: Array<MapData, Gate>,
    deadline: Array<MapData, u64>,
    generation: u64,
    last: u64,
    current: Option<Current>,
    /// Detaches under way, with the share of the target's time that the burst's probes took.
    detaching: Vec<(Detaching, f64)>,
    /// What breakpoints that were slow to go took of the target's time, not booked yet.
    lingering: Nanos,
    /// Breakpoints that the kernel refused so far.
    refused: u64,
    /// What had been counted when the latest burst was closed.
    booked: Counts,
    turn: Option<Turn>,
    shares_turn: bool,
    keeper: Rc<Keeper>,
    elsewhere: Elsewhere,
}

/// What a burst attaches.
#[derive(Debug, Clone, Copy)]
pub enum Points<'a> {
    /// Probes on functions.
    Functions(&'a [Probe]),
    /// Breakpoints on words, in these threads.
    Words(&'a [Watch], &'a [Tid]),
}

enum Held {
    Functions(Attached),
    Words(Breakpoints),
}

/// A burst whose probes are attached.
struct Current {
    attached: Held,
    gate: Gate,
    /// What a hit costs beside the program's own time.
    trap: Nanos,
    pid: Pid,
    /// The target's processor time when the gate was opened.
    worked: Nanos,
    opened: Nanos,
    attach_time: Nanos,
}

impl Bursts {
    /// Takes the gate out of the object.
    ///
    /// # Errors
    /// [`ProbeError`] where the object has none.
    pub fn new(
        object: &mut Object,
        keeper: Rc<Keeper>,
        elsewhere: Elsewhere,
    ) -> Result<Self, ProbeError> {
        Ok(Self {
            gate: take(object, "GATE")?,
            deadline: take(object, "DEADLINE")?,
            generation: 0,
            last: 0,
            current: None,
            detaching: Vec::new(),
            lingering: Nanos(0),
            refused: 0,
            booked: Counts::default(),
            turn: None,
            shares_turn: object.places_at_once(),
            keeper,
            elsewhere,
        })
    }

    /// Breakpoints that the kernel refused so far, in threads that lived: what they allocated was not seen.
    #[must_use]
    pub fn refused_breakpoints(&self) -> u64 {
        self.refused
    }

    /// What has been counted so far (while calibrating) is nobody's.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn forget_counts(&mut self, tables: &Tables) -> Result<(), ProbeError> {
        self.booked = tables.counts()?;
        Ok(())
    }

    /// From the next burst on, every stack gets a new id and is sent again.
    pub fn new_generation(&mut self) {
        self.generation += 1;
    }

    /// Has the kernel let go of all earlier probes? As long as it has not, new ones would be attached
    /// one by one while it cleans up, and be hit for nothing until the last of them is there.
    /// The same goes for those of another leaktrace, or another session where each probe is let go by itself.
    pub fn is_ready(&mut self) -> bool {
        self.let_go();
        // The calibration's too, the last of which nobody has waited for.
        if !self.detaching.is_empty() || !self.keeper.is_released(Duration::ZERO) {
            return false;
        }
        if self.turn.is_none() {
            self.turn = Turn::take(self.shares_turn);
        }
        self.turn.is_some()
    }

    /// Lets another leaktrace attach, once the kernel has let go of all probes.
    pub fn rest(&mut self) {
        self.let_go();
        if self.detaching.is_empty() && self.current.is_none() {
            self.turn = None;
        }
    }

    fn let_go(&mut self) {
        let lingering = &mut self.lingering;
        self.detaching.retain(|(detaching, share)| {
            let Some(lingered) = detaching.finished() else { return true };
            lingering.0 += (lingered.as_nanos() as f64 * share) as u64;
            false
        });
    }

    /// Waits until the kernel has let go of all probes.
    pub fn settle(&mut self) {
        while !self.detaching.is_empty() {
            for (detaching, _) in &self.detaching {
                detaching.wait();
            }
            self.let_go();
        }
    }

    /// What breakpoints that were slow to go, and have gone, have cost the target since this was last
    /// asked.
    pub fn take_lingering(&mut self) -> Nanos {
        self.let_go();
        std::mem::take(&mut self.lingering)
    }

    /// Runs one burst from attach to drop. Events that arrive meanwhile are added to `events`.
    ///
    /// # Errors
    /// [`ProbeError`] where a probe can't be attached (the target has ended, say) or a map fails.
    pub fn run(&mut self, at: &mut Attachment<'_>, terms: Terms) -> Result<Outcome, ProbeError> {
        if let Points::Functions(probes) = at.points {
            at.object.verify(probes)?;
        }
        self.elsewhere.go(Some(self.keeper.pid()));
        let ahead = Ahead::of_the_others();
        if let Err(error) = &ahead {
            tracing::debug!(%error, "the burst waits for its turn on a core");
        }
        self.open(at.object, at.pid, at.points, terms)?;
        let deadline = Nanos(now().0.saturating_add(terms.longest.0));
        let first = at.events.len();
        let closed = Event::GateClosed { burst: self.last };
        loop {
            let time = now();
            if time >= deadline || self.was_felt_enough(&terms)? {
                self.end_at(time)?;
                break;
            }
            at.ring.wait(LOOK_EVERY.min(Nanos(deadline.0 - time.0)));
            at.ring.drain(at.events);
            if at.events[first..].contains(&closed) {
                return self.close(at.tables);
            }
        }
        at.ring.wait(GRACE);
        at.ring.drain(at.events);
        if terms.note_content && !at.events[first..].contains(&closed) {
            self.note_content(at)?;
        }
        self.close(at.tables)
    }

    /// Notes what the burst's blocks hold, in place of the kernel, as long as no hit comes: nothing is handed out or
    /// freed meanwhile, and each block is still the one that the burst saw. Later it could be another.
    fn note_content(&self, at: &mut Attachment<'_>) -> Result<(), ProbeError> {
        at.tables.note_content(&ProcessMemory::new(at.pid))?;
        if self.gate.get(&0, 0).map_err(map_failed)?.burst == 0 {
            // One came: the kernel has noted it, or is about to have.
            at.tables.forget_notes();
            at.ring.wait(GRACE);
            at.ring.drain(at.events);
        }
        Ok(())
    }

    /// Has the target done as much of its own work as it may while it feels the burst that is open?
    fn was_felt_enough(&self, terms: &Terms) -> Result<bool, ProbeError> {
        let Some(current) = &self.current else { return Ok(true) };
        let gate = self.gate.get(&0, 0).map_err(map_failed)?;
        let passed_over = terms.skip.saturating_sub(gate.skip) * current.trap.0;
        let spent = Nanos(gate.spent_ns + passed_over);
        let worked = worked_since(current.pid, current.worked);
        Ok(felt(spent, worked) >= terms.felt)
    }

    fn end_at(&mut self, time: Nanos) -> Result<(), ProbeError> {
        self.deadline.set(0, time.0, 0).map_err(map_failed)
    }

    /// Attaches and opens the gate.
    ///
    /// # Errors
    /// As [`Bursts::run`].
    pub fn open(
        &mut self,
        object: &mut Object,
        pid: Pid,
        points: Points<'_>,
        terms: Terms,
    ) -> Result<(), ProbeError> {
        self.last += 1;
        let start = Instant::now();
        let (attached, trap) = match points {
            Points::Functions(probes) => {
                let attached = attach::attach(object, &self.keeper, pid, probes)?;
                (Held::Functions(attached), terms.costs.trap)
            }
            Points::Words(words, threads) => {
                let set = classes::set(object, words, threads)?;
                self.refused += set.refused;
                (Held::Words(set), terms.costs.breakpoint_trap)
            }
        };
        let attach_time = elapsed(start);
        let (opened, worked) = (now(), process_time(pid).unwrap_or_default());
        let gate = Gate {
            burst: self.last,
            limit_ns: terms.limit.0,
            spent_ns: 0,
            generation: self.generation,
            trap_ns: terms.costs.trap.0,
            return_trap_ns: terms.costs.return_trap.0,
            breakpoint_trap_ns: terms.costs.breakpoint_trap.0,
            note_content: u64::from(terms.note_content),
            skip: terms.skip,
            classes: terms.classes,
            told: terms.told,
        };
        self.current = Some(Current { attached, gate, trap, pid, worked, opened, attach_time });
        self.end_at(Nanos(opened.0.saturating_add(terms.longest.0)))?;
        self.set(gate)
    }

    /// Gives the burst that is open a new number, so that what is recorded from now on can be told
    /// from what was before; only while tracing everything.
    ///
    /// # Errors
    /// [`ProbeError::Map`].
    pub fn renumber(&mut self) -> Result<(), ProbeError> {
        self.last += 1;
        let mut gate = self.gate.get(&0, 0).map_err(map_failed)?;
        gate.burst = self.last;
        gate.generation = self.generation;
        self.set(gate)
    }

    /// The number of the latest burst.
    #[must_use]
    pub fn current(&self) -> u64 {
        self.last
    }

    /// Removes all breakpoints at once and closes the gate.
    ///
    /// # Errors
    /// [`ProbeError::Map`]; the probes are gone all the same.
    pub fn close(&mut self, tables: &Tables) -> Result<Outcome, ProbeError> {
        let Some(current) = self.current.take() else { return Err(ProbeError::NoBurst) };
        let Current { attached, gate, trap, pid, worked, opened, attach_time } = current;
        let (closed, worked) = (now(), worked_since(pid, worked));
        let start = Instant::now();
        let detaching = match attached {
            Held::Functions(attached) => Some(attached.detach()),
            Held::Words(breakpoints) => {
                drop(breakpoints);
                None
            }
        };
        let spent = Nanos(self.gate.get(&0, 0).map_err(map_failed)?.spent_ns);
        let open = closed.0.saturating_sub(opened.0).max(1);
        let share = (spent.0 as f64 / open as f64).min(1.0);
        self.detaching.extend(detaching.map(|detaching| (detaching, share)));
        self.set(Gate { burst: 0, spent_ns: spent.0, generation: self.generation, ..gate })?;
        let detach_time = elapsed(start);
        let total = tables.counts()?;
        let counts = total.since(&self.booked);
        self.booked = total;
        Ok(Outcome {
            burst: gate.burst,
            opened,
            closed,
            spent,
            worked,
            counts,
            closed_cost: Nanos(counts.get(Counter::ClosedHits) * trap.0),
            attach_time,
            detach_time,
        })
    }

    fn set(&mut self, gate: Gate) -> Result<(), ProbeError> {
        self.gate.set(0, gate, 0).map_err(map_failed)
    }
}

/// What a burst works on.
pub struct Attachment<'a> {
    /// The object.
    pub object: &'a mut Object,
    /// Its maps.
    pub tables: &'a mut Tables,
    /// Its ring.
    pub ring: &'a mut Ring,
    /// The target.
    pub pid: Pid,
    /// What is attached.
    pub points: Points<'a>,
    /// Where events go.
    pub events: &'a mut Vec<Event>,
}

impl Drop for Bursts {
    /// The kernel would remove the probes anyway; waiting here keeps a process that goes on (a test)
    /// from counting them as left behind.
    fn drop(&mut self) {
        self.settle();
    }
}

/// The processor time that a process has taken since it had taken so much; none where it has ended.
fn worked_since(pid: Pid, before: Nanos) -> Nanos {
    Nanos(process_time(pid).map_or(0, |worked| worked.0.saturating_sub(before.0)))
}

fn map_failed(source: aya::maps::MapError) -> ProbeError {
    ProbeError::Map { map: "GATE", source }
}

fn elapsed(start: Instant) -> Nanos {
    Nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}
