//! One block that is followed, and when it is looked at.

use leak_common::keys::LiveBlock;

use super::super::block_bytes;
use super::look::{Look, Looker, Seen};
use crate::{
    target::memory::Memory,
    units::{Addr, Nanos},
    verdict::evidence::{End, Fate, SiteId},
};

/// First look after so many seconds; then after half the block's age.
const FIRST_LOOK_S: f64 = 0.4;

/// What is known of a block.
#[derive(Debug)]
pub(super) struct Followed {
    pub site: SiteId,
    pub addr: Addr,
    pub look: Look,
    pub fate: Fate,
    next_look_s: f64,
}

/// Looks at those blocks whose time has come, or at all that live (`all`).
pub(super) fn look_at(
    looker: &mut Looker,
    memory: &impl Memory,
    blocks: &mut [Followed],
    now_s: f64,
    all: bool,
) {
    let is_due = |f: &Followed| f.fate.end == End::Alive && (all || f.next_look_s <= now_s);
    let due: Vec<usize> = (0..blocks.len()).filter(|at| is_due(&blocks[*at])).collect();
    let seen: Vec<Seen<'_>> = due.iter().map(|at| blocks[*at].seen()).collect();
    let outcomes = looker.again(memory, &seen);
    for (at, outcome) in due.into_iter().zip(outcomes) {
        match outcome {
            Some(end) => blocks[at].ended(end, now_s),
            None => blocks[at].next_look_s = now_s + FIRST_LOOK_S,
        }
    }
}

impl Followed {
    pub fn new(
        site: SiteId,
        addr: Addr,
        block: &LiveBlock,
        look: Look,
        start: Nanos,
        weight: f64,
    ) -> Self {
        let seconds = |ns: u64| Nanos(ns.saturating_sub(start.0)).seconds();
        let born_s = seconds(block.born_ns);
        let alive_until_s = if block.noted_ns == 0 { born_s } else { seconds(block.noted_ns) };
        let fate = Fate {
            born_s,
            size: block_bytes(block.size, block.site.size_class),
            size_class: block.site.size_class,
            weight,
            alive_until_s,
            end: End::Alive,
        };
        Self { site, addr, look, next_look_s: alive_until_s + FIRST_LOOK_S, fate }
    }

    /// Has it been looked at by now, or been seen to go?
    pub fn was_looked_at(&self, now_s: f64) -> bool {
        self.fate.end != End::Alive || self.fate.alive_until_s >= now_s
    }

    /// Does it live, as far as its content and what is around it tell?
    pub fn may_be_another(&self) -> bool {
        self.fate.end == End::Alive && self.look.may_be_another()
    }

    fn seen(&self) -> Seen<'_> {
        Seen { addr: self.addr, size: self.fate.size, look: &self.look }
    }

    pub fn ended(&mut self, end: End, now_s: f64) {
        self.fate.end = end;
        if end == End::Alive {
            self.fate.alive_until_s = now_s;
            self.next_look_s = now_s + FIRST_LOOK_S.max((now_s - self.fate.born_s) / 2.0);
        }
    }
}
