//! What became of blocks whose end was seen: a fair sample of all, in bounded memory; see [`Thinning`].

use std::collections::HashSet;

use leak_common::keys::size_class;

use super::thinning::Thinning;
use crate::{
    units::{Bytes, Nanos},
    verdict::evidence::{End, Fate, SiteId},
};

/// So many ends are remembered at most.
pub(super) const MAX_DEAD: usize = 1 << 16;

/// A block that is followed to its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Followed {
    /// Whose.
    pub site: SiteId,
    /// Its size.
    pub size: Bytes,
    /// How many it stands for.
    pub weight: f64,
    /// When it came.
    pub born: Nanos,
}

impl Followed {
    /// What became of it by `until_s`.
    pub(super) fn fate(&self, born_s: f64, until_s: f64, end: End) -> Fate {
        Fate {
            born_s,
            size: self.size,
            size_class: size_class(self.size.0),
            weight: self.weight,
            alive_until_s: until_s,
            end,
        }
    }
}

/// The ends.
#[derive(Debug, Default)]
pub struct Graveyard {
    dead: Vec<(Followed, Nanos)>,
    thinning: Thinning,
}

impl Graveyard {
    /// A block has ended.
    pub fn bury(&mut self, block: Followed, died: Nanos) {
        if self.thinning.admits() {
            let weight = self.thinning.weight() * block.weight;
            self.dead.push((Followed { weight, ..block }, died));
        }
        if self.dead.len() > MAX_DEAD {
            self.thinning.halve();
            self.dead.retain_mut(|(dead, _)| {
                dead.weight *= 2.0;
                self.thinning.stays()
            });
        }
    }

    /// Forgets the dead of these sites.
    pub fn forget(&mut self, sites: &HashSet<SiteId>) {
        self.dead.retain(|(dead, _)| !sites.contains(&dead.site));
    }

    /// Every end.
    pub fn fates<'a>(
        &'a self,
        seconds: impl Fn(Nanos) -> f64 + 'a,
    ) -> impl Iterator<Item = (SiteId, Fate)> + 'a {
        self.dead.iter().map(move |(dead, died)| {
            (dead.site, dead.fate(seconds(dead.born), seconds(*died), End::Died))
        })
    }
}
