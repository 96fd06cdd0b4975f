//! The line that looks worst so far.

use super::Session;
use crate::snapshot::suspect::Suspect;
use crate::symbolize::stacks::line_of;
use crate::verdict::{self, evidence::End};

impl Session {
    /// The worst of the lines that would be accused by now.
    #[must_use]
    pub fn suspect(&self) -> Option<Suspect> {
        let evidence = self.evidence().ok()?;
        let worst = verdict::judge(&evidence).accused.into_iter().next()?;
        let frames = self.frames(worst.site)?;
        let leaf = line_of(&frames)?;
        let site = evidence.sites.iter().find(|site| site.id == worst.site)?;
        let alive = site.followed.iter().filter(|fate| fate.end == End::Alive).count();
        Some(Suspect {
            file: leaf.file.to_string(),
            line: leaf.line,
            function: leaf.function.to_string(),
            alive: alive as u64,
            followed: site.followed.len() as u64,
        })
    }
}
