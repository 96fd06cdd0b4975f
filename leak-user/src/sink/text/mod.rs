//! The report for people: the verdict first, then what to do with it, then what it rests on.

mod cost;
#[cfg(test)]
pub(crate) mod examples;
mod findings;
mod fresh;
mod gpu;
mod groups;
mod headline;
pub(crate) mod memory;
pub(crate) mod number;
mod others;
mod paths;
mod site;
mod stack;
mod suspects;
#[cfg(test)]
mod tests;
mod tree;

use super::page::{Line, Page, Paint};
use super::{Sink, SinkError, Terminal, View};
use crate::snapshot::Snapshot;
use findings::Finding;
use paths::Paths;

/// Leaks shown in full; of further ones, each line gets a row.
const IN_FULL: usize = 5;

/// `--format text`.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    terminal: Terminal,
    view: Option<View>,
}

impl Text {
    /// Text for this terminal, with a table of what is asked for.
    #[must_use]
    pub fn new(terminal: Terminal, view: Option<View>) -> Self {
        Self { terminal, view }
    }
}

impl Sink for Text {
    fn render(&self, snapshot: &Snapshot) -> Result<Vec<u8>, SinkError> {
        let mut page = Page::new(self.terminal);
        if let Some(tree) = &snapshot.tree {
            tree::write(&mut page, snapshot, tree);
            return Ok(page.finish().into_bytes());
        }
        let paths = Paths::of(&snapshot.target);
        headline::write(&mut page, snapshot);
        let mut findings = findings::of(&snapshot.leaks);
        let rest = findings.split_off(findings.len().min(IN_FULL));
        for finding in &findings {
            page.blank();
            site::write(&mut page, finding.worst, paths, None);
            findings::parts(&mut page, finding, paths);
        }
        suspects::write(&mut page, snapshot, paths);
        let rest: Vec<_> = rest.iter().flat_map(Finding::sites).collect();
        others::write(&mut page, "Further leaking lines", rest, paths);
        match self.view {
            None => {
                let name = "Other lines that hold memory, not accused";
                others::write(&mut page, name, &snapshot.sites, paths);
            }
            Some(view) => {
                let all = snapshot.leaks.iter().chain(&snapshot.sites);
                others::write_by(&mut page, &view.title(), all, paths, view);
            }
        }
        fresh::write(&mut page, snapshot, paths);
        memory::write(&mut page, &snapshot.memory, "Where the memory is");
        gpu::write(&mut page, snapshot.gpu.as_ref(), paths);
        cost::write(&mut page, snapshot);
        Ok(page.finish().into_bytes())
    }
}

/// Where the values of labelled lines begin.
const VALUES: usize = 14;

/// The start of a labelled line.
fn label(name: &str) -> Line {
    Line::from("   ").paint(Paint::Dim, name).column(VALUES)
}

/// The title of a section.
fn title(page: &mut Page, name: &str) {
    page.blank();
    page.line(&Line::default().paint(Paint::Bold, name));
}
