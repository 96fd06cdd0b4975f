//! Who belongs to the tree, what became of each, and who is looked at next: bookkeeping alone, no I/O.
//!
//! Every process ends up in exactly one place: attached (it has a report), or not attached by one cause.

use std::collections::HashMap;

use crate::{
    collect::tree::{TreeEvent, What},
    snapshot::{NotAttached, OtherProgram},
    units::{Bytes, Nanos, Pid},
};

/// A program is looked at when it has run so long at the earliest: most that run a command and end are then
/// gone, and an interpreter that was just started has its structures in place.
const RIPE: Nanos = Nanos(200_000_000);

/// … and after programs that ended before there was enough to say, so long at most.
const RIPE_MOST: Nanos = Nanos(3_200_000_000);

/// A program that is not Python, or not yet, is looked at again after so long, since an interpreter may be
/// loading.
const AGAIN: [Nanos; 2] = [Nanos(800_000_000), Nanos(3_000_000_000)];

/// Programs that are told apart among those not attached.
const PROGRAMS: usize = 200;

/// … and those that are reported.
const PROGRAMS_SHOWN: usize = 20;

/// Why a process has no results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Another program.
    NotPython,
    /// It ended before it was looked at.
    EndedFirst,
    /// It ended before there was enough to say.
    TooShort,
    /// It waited for others.
    NoRoom,
    /// It came when the observation was about to end.
    TooLate,
    /// It runs in its parent's memory.
    SharedMemory,
    /// Python that can't be observed.
    Unsupported,
    /// Something failed.
    Failed,
}

impl Cause {
    /// As a report names it.
    fn name(self) -> &'static str {
        match self {
            Self::NotPython => "not_python",
            Self::EndedFirst => "ended_first",
            Self::TooShort => "too_short",
            Self::NoRoom => "no_room",
            Self::TooLate => "too_late",
            Self::SharedMemory => "shared_memory",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
        }
    }

    fn counter(self, counts: &mut NotAttached) -> &mut u64 {
        match self {
            Self::NotPython => &mut counts.not_python,
            Self::EndedFirst => &mut counts.ended_first,
            Self::TooShort => &mut counts.too_short,
            Self::NoRoom => &mut counts.no_room,
            Self::TooLate => &mut counts.too_late,
            Self::SharedMemory => &mut counts.shared_memory,
            Self::Unsupported => &mut counts.unsupported,
            Self::Failed => &mut counts.failed,
        }
    }
}

/// What came of looking at a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There is a report.
    Reported,
    /// None, but it may be worth looking again.
    Again(Cause),
    /// None.
    Nothing(Cause),
}

/// What is known of a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its program's name.
    name: String,
    /// Who made it; 0 for the root.
    pub parent: Pid,
    /// None: it was there before.
    pub born: Option<Nanos>,
    /// Since when it runs its program.
    since: Nanos,
    shares_memory: bool,
    state: State,
    /// How often its program was looked at.
    looks: usize,
    /// Not looked at before.
    due: Nanos,
    /// One of its programs has a report.
    reported: bool,
    /// It was due and had to wait.
    waited: bool,
    /// What its program was taken for when it was looked at.
    taken_for: Option<Cause>,
    /// Its memory at the first look from afar.
    first_rss: Option<Bytes>,
    ended: Option<Nanos>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be looked at.
    Waiting,
    /// Being looked at, since then; `replaced`: its program is another one meanwhile.
    Observed { since: Nanos, replaced: bool },
    /// Looked at.
    Settled(Option<Cause>),
}

/// The tree's processes.
#[derive(Debug)]
pub struct Members {
    living: HashMap<Pid, Member>,
    ripe: Nanos,
    seen: u64,
    attached: u64,
    not_attached: NotAttached,
    born: u64,
    replaced: u64,
    others: HashMap<(String, Cause), (u64, Pid)>,
}

impl Members {
    /// Nobody.
    #[must_use]
    pub fn new() -> Self {
        Self {
            living: HashMap::new(),
            ripe: RIPE,
            seen: 0,
            attached: 0,
            not_attached: NotAttached::default(),
            born: 0,
            replaced: 0,
            others: HashMap::new(),
        }
    }

    /// A process that was there before.
    pub fn found(&mut self, pid: Pid, parent: Pid, name: String, now: Nanos) {
        if !self.living.contains_key(&pid) {
            self.add(pid, Member::new(parent, name, None, now));
        }
    }

    fn add(&mut self, pid: Pid, member: Member) {
        self.seen += 1;
        // One whose end was not told: its id is another's now.
        if let Some(old) = self.living.insert(pid, member) {
            self.leave(pid, old);
        }
    }

    /// Takes in what the kernel told.
    pub fn note(&mut self, event: TreeEvent) {
        let TreeEvent { pid, time, what, name } = event;
        match what {
            What::Born { parent, shares_memory } => {
                self.born += 1;
                let due = Nanos(time.0 + self.ripe.0);
                let new = Member::new(parent, name, Some(time), time);
                let new = Member { due, shares_memory, ..new };
                match self.living.get_mut(&pid) {
                    // It was found in /proc before this was read.
                    Some(known) if known.born.is_none() => {
                        (known.born, known.parent) = (new.born, parent);
                    }
                    _ => self.add(pid, new),
                }
            }
            What::Replaced => {
                let ripe = self.ripe;
                let Some(member) = self.living.get_mut(&pid) else { return };
                self.replaced += 1;
                member.name = name;
                member.since = time;
                member.shares_memory = false;
                member.looks = 0;
                member.taken_for = None;
                member.due = Nanos(time.0 + ripe.0);
                match &mut member.state {
                    // An event from before it was looked at comes late.
                    State::Observed { since, replaced } => *replaced |= time > *since,
                    state => *state = State::Waiting,
                }
            }
            What::Ended => {
                let Some(member) = self.living.get_mut(&pid) else { return };
                member.ended = Some(time);
                if !matches!(member.state, State::Observed { .. })
                    && let Some(member) = self.living.remove(&pid)
                {
                    self.leave(pid, member);
                }
            }
        }
    }

    /// Counts a process that is not followed any more.
    fn leave(&mut self, pid: Pid, member: Member) {
        if member.reported {
            self.attached += 1;
            return;
        }
        let cause = match (member.state, member.taken_for) {
            (State::Settled(Some(cause)), _) | (_, Some(cause)) => cause,
            _ if member.shares_memory => Cause::SharedMemory,
            _ if member.waited => Cause::NoRoom,
            _ if member.ended.is_none() => Cause::TooLate,
            _ => Cause::EndedFirst,
        };
        self.count(pid, cause, member.name);
    }

    fn count(&mut self, pid: Pid, cause: Cause, name: String) {
        *cause.counter(&mut self.not_attached) += 1;
        let key = (name, cause);
        if self.others.len() < PROGRAMS || self.others.contains_key(&key) {
            let (count, latest) = self.others.entry(key).or_insert((0, pid));
            *count += 1;
            *latest = pid;
        }
    }

    /// Those that are due.
    pub fn due(&self, now: Nanos) -> impl Iterator<Item = Pid> + '_ {
        self.living
            .iter()
            .filter(move |(_, member)| {
                member.state == State::Waiting && !member.shares_memory && member.due <= now
            })
            .map(|(pid, _)| *pid)
    }

    /// Of two that are due, which comes first: one that grew more, then the larger one, since what is young
    /// and small is most likely to be gone soon. `rss`: its memory now.
    pub fn urgency(&mut self, pid: Pid, rss: Bytes) -> (u64, u64) {
        let Some(member) = self.living.get_mut(&pid) else { return (0, 0) };
        let first = *member.first_rss.get_or_insert(rss);
        (rss.0.saturating_sub(first.0), rss.0)
    }

    /// These are due and have to wait for others.
    pub fn wait(&mut self, pids: impl IntoIterator<Item = Pid>) {
        for pid in pids {
            if let Some(member) = self.living.get_mut(&pid) {
                member.waited = true;
            }
        }
    }

    /// Those that live and were to be looked at once more.
    pub fn waiting(&self) -> Vec<Pid> {
        let waiting = |member: &Member| member.state == State::Waiting && member.ended.is_none();
        self.living.iter().filter(|(_, member)| waiting(member)).map(|(pid, _)| *pid).collect()
    }

    /// It will not be observed for this reason, whatever it waited for.
    pub fn take_for(&mut self, pid: Pid, cause: Cause) {
        if let Some(member) = self.living.get_mut(&pid) {
            member.taken_for = Some(cause);
        }
    }

    /// It is being looked at from now on.
    pub fn begin(&mut self, pid: Pid, now: Nanos) {
        if let Some(member) = self.living.get_mut(&pid) {
            member.state = State::Observed { since: now, replaced: false };
            member.looks += 1;
            member.waited = false;
        }
    }

    /// What came of it.
    pub fn finish(&mut self, pid: Pid, outcome: Outcome, now: Nanos) {
        self.learn(outcome);
        let Some(mut member) = self.living.remove(&pid) else { return };
        let State::Observed { replaced, .. } = member.state else {
            self.living.insert(pid, member);
            return;
        };
        member.reported |= outcome == Outcome::Reported;
        if let (Outcome::Again(cause), false) = (outcome, replaced) {
            member.taken_for = Some(cause);
        }
        let again = member.looks.checked_sub(1).and_then(|looks| AGAIN.get(looks));
        (member.state, member.due) = match (outcome, again) {
            _ if replaced => (State::Waiting, member.due),
            (Outcome::Again(_), Some(wait)) => (State::Waiting, Nanos(now.0 + wait.0)),
            // Gone, says who looked; the kernel's word for it is under way.
            (Outcome::Nothing(Cause::EndedFirst), _) => (State::Waiting, Nanos(u64::MAX)),
            (Outcome::Reported, _) => (State::Settled(None), member.due),
            (Outcome::Again(cause) | Outcome::Nothing(cause), _) => {
                (State::Settled(Some(cause)), member.due)
            }
        };
        if member.ended.is_some() {
            self.leave(pid, member);
        } else {
            self.living.insert(pid, member);
        }
    }

    /// Programs that are gone before there is enough to say cost a start each: the next must have lived longer.
    fn learn(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Nothing(Cause::TooShort | Cause::EndedFirst) => {
                self.ripe = Nanos((self.ripe.0 * 2).min(RIPE_MOST.0));
            }
            Outcome::Reported => self.ripe = Nanos((self.ripe.0 / 2).max(RIPE.0)),
            _ => {}
        }
    }

    /// Births that the kernel told of.
    #[must_use]
    pub fn born(&self) -> u64 {
        self.born
    }

    /// How many live.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.living.values().filter(|member| member.ended.is_none()).count()
    }

    /// A living one, or one whose report is under way.
    #[must_use]
    pub fn get(&self, pid: Pid) -> Option<&Member> {
        self.living.get(&pid)
    }

    /// The end of the observation: what became of all. `unreported`: births that the kernel counted and could
    /// not tell of.
    pub fn close(mut self, unreported: u64) -> Sums {
        let alive = self.alive() as u64;
        let rest: Vec<(Pid, Member)> = self.living.drain().collect();
        for (pid, member) in rest {
            self.leave(pid, member);
        }
        self.not_attached.unreported = unreported;
        let mut others: Vec<OtherProgram> = self
            .others
            .into_iter()
            .map(|((program, cause), (count, pid))| OtherProgram {
                program,
                cause: cause.name().to_owned(),
                count,
                pid: pid.0,
            })
            .collect();
        others.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.pid.cmp(&b.pid)));
        others.truncate(PROGRAMS_SHOWN);
        Sums {
            seen: self.seen + unreported,
            attached: self.attached,
            not_attached: self.not_attached,
            born: self.born + unreported,
            replaced: self.replaced,
            alive,
            others,
        }
    }
}

impl Default for Members {
    fn default() -> Self {
        Self::new()
    }
}

impl Member {
    fn new(parent: Pid, name: String, born: Option<Nanos>, since: Nanos) -> Self {
        Self {
            name,
            parent,
            born,
            since,
            shares_memory: false,
            state: State::Waiting,
            looks: 0,
            due: since,
            reported: false,
            waited: false,
            taken_for: None,
            first_rss: None,
            ended: None,
        }
    }

    /// When its program began, where that was seen.
    #[must_use]
    pub fn since(&self) -> Option<Nanos> {
        self.born.map(|_| self.since)
    }

    /// When it ended.
    #[must_use]
    pub fn ended(&self) -> Option<Nanos> {
        self.ended
    }
}

/// What became of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// Processes: `attached` and all of `not_attached`.
    pub seen: u64,
    /// With a report.
    pub attached: u64,
    /// Without one, by cause.
    pub not_attached: NotAttached,
    /// Births.
    pub born: u64,
    /// Programs replaced.
    pub replaced: u64,
    /// Living at the end.
    pub alive: u64,
    /// What was not attached, by program.
    pub others: Vec<OtherProgram>,
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
