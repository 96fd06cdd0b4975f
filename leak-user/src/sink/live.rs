//! The line that moves while the target is observed, on standard error.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Terminal;
use super::page::{Line, Paint, location};
use super::text::number;
use crate::snapshot::suspect::Suspect;
use crate::units::Bytes;

/// Back to the start of the line, and erase it.
const ERASE: &str = "\r\x1b[K";

/// Is a live line on the terminal? There is one standard error, and the log writes to it too.
static DRAWN: AtomicBool = AtomicBool::new(false);

/// What is known so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Time left.
    pub left: Duration,
    /// Of a process tree: how many are observed, and how many live. Then the rest is their sum, but for the
    /// spent share, which is the highest.
    pub processes: Option<(usize, usize)>,
    /// Bursts so far.
    pub bursts: u32,
    /// Share of the target's time spent so far.
    pub spent: f64,
    /// Share that may be spent; None under `--exact`.
    pub budget: Option<f64>,
    /// Resident now.
    pub rss: Bytes,
    /// Growth of RSS in bytes a second, where it can be told yet.
    pub growth: Option<f64>,
    /// The best suspect so far.
    pub suspect: Option<Suspect>,
}

/// The line; cleared when dropped.
#[derive(Debug)]
pub struct LiveLine {
    shown: bool,
}

impl LiveLine {
    /// A line on standard error if that is a terminal and the user did not ask for quiet; else one
    /// that is never drawn.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { shown: !quiet && !dumb && io::stderr().is_terminal() }
    }

    /// Is it drawn?
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// Draws it anew. A terminal that went away is no error.
    pub fn update(&mut self, progress: &Progress) {
        if !self.shown {
            return;
        }
        // The size anew each time: windows are resized. One column stays free, since a terminal
        // that wraps at the last one would move the line down.
        let mut terminal = Terminal::of_stderr();
        terminal.width -= 1;
        let line = render(progress, terminal);
        let mut err = io::stderr().lock();
        DRAWN.store(true, Ordering::Relaxed);
        if write!(err, "{ERASE}{line}").and_then(|()| err.flush()).is_err() {
            self.shown = false;
        }
    }

    /// Takes it off the terminal.
    pub fn clear(&mut self) {
        erase(&mut io::stderr().lock());
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        self.clear();
    }
}

fn erase(err: &mut impl io::Write) {
    if DRAWN.swap(false, Ordering::Relaxed) {
        // Nothing is left to tell a user whose terminal went away.
        let _ = err.write_all(ERASE.as_bytes()).and_then(|()| err.flush());
    }
}

fn render(progress: &Progress, terminal: Terminal) -> String {
    const DOT: &str = " · ";
    let spent = match progress.budget {
        Some(budget) => {
            format!("{} of {} spent", number::percent(progress.spent), number::percent(budget))
        }
        None => format!("{} spent", number::percent(progress.spent)),
    };
    let over = progress.budget.is_some_and(|budget| progress.spent > budget);
    let growth = match progress.growth {
        Some(growth) => format!("RSS {} ({})", progress.rss, number::rate(growth)),
        None => format!("RSS {}", progress.rss),
    };
    let mut line = Line::default()
        .paint(Paint::Bold, &format!("{} s left", progress.left.as_secs_f64().ceil()))
        .paint(Paint::Dim, DOT);
    if let Some((observed, living)) = progress.processes {
        let processes = number::processes(living as u64);
        line = line.plain(&format!("{observed} of {processes}")).paint(Paint::Dim, DOT);
    }
    line = line
        .plain(&format!("burst {}", progress.bursts))
        .paint(Paint::Dim, DOT)
        .paint(if over { Paint::Doubt } else { Paint::Plain }, &spent)
        .paint(Paint::Dim, DOT)
        .plain(&growth);
    if let Some(suspect) = &progress.suspect {
        let name = suspect.file.rsplit('/').next().unwrap_or(&suspect.file);
        line = line
            .paint(Paint::Dim, DOT)
            .plain("suspect ")
            .paint(Paint::Doubt, &location(name, suspect.line, 30))
            .plain(&format!(
                " {} ({} of {} stay)",
                suspect.function, suspect.alive, suspect.followed
            ));
    }
    line.render(terminal)
}

/// Standard error for the log: takes the live line away before it writes.
#[derive(Debug, Default)]
pub struct LogWriter;

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut err = io::stderr().lock();
        erase(&mut err);
        err.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress {
            left: Duration::from_millis(11_400),
            processes: None,
            bursts: 8,
            spent: 0.008,
            budget: Some(0.01),
            rss: Bytes(412 << 20),
            growth: Some(1.2 * 1_048_576.0),
            suspect: Some(Suspect {
                file: "/srv/app.py".to_owned(),
                line: 41,
                function: "remember".to_owned(),
                alive: 9,
                followed: 9,
            }),
        }
    }

    #[test]
    fn all_of_it_where_there_is_room() {
        assert_eq!(
            render(&progress(), Terminal { width: 120, colour: false }),
            "12 s left · burst 8 · 0.8 % of 1 % spent · RSS 412 MiB (+1.20 MiB/s) · suspect app.py:41 \
             remember (9 of 9 stay)"
        );
    }

    #[test]
    fn cut_to_the_width() {
        let shown = render(&progress(), Terminal { width: 40, colour: false });
        assert_eq!(shown, "12 s left · burst 8 · 0.8 % of 1 % spen…");
    }

    #[test]
    fn what_is_unknown_is_left_out_and_names_are_escaped() {
        let mut p = progress();
        (p.growth, p.budget) = (None, None);
        if let Some(suspect) = &mut p.suspect {
            suspect.function = "a\x1b[2J\n".to_owned();
        }
        let shown = render(&p, Terminal { width: 200, colour: false });
        assert!(
            shown.contains("· 0.8 % spent · RSS 412 MiB · suspect app.py:41 a\\x1b[2J\\n ("),
            "{shown}"
        );
    }
}
