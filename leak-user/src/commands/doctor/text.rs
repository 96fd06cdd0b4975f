//! The table for people.

use super::check::{Check, Report, State};
use crate::sink::Terminal;
use crate::sink::page::{Line, Page, Paint};

/// Where names and findings begin.
const NAMES: usize = 11;
const FINDINGS: usize = 27;

pub(super) fn render(report: &Report, terminal: Terminal) -> String {
    let mut page = Page::new(terminal);
    section(&mut page, "This machine", &report.machine);
    if let Some(process) = &report.process {
        page.blank();
        section(&mut page, &format!("Process {}", process.pid), &process.checks);
    }
    page.blank();
    let checks = || report.machine.iter().chain(report.process.iter().flat_map(|p| &p.checks));
    let missing: Vec<_> =
        checks().filter(|check| check.state == State::Missing).map(|check| check.name).collect();
    if report.usable {
        page.line(&Line::default().paint(Paint::Good, "Tracing would work."));
    } else {
        let text = format!("Tracing would not work: {}.", missing.join(", "));
        page.wrapped(Line::default(), Paint::Bad, &text);
    }
    page.finish()
}

fn section(page: &mut Page, name: &str, checks: &[Check]) {
    page.line(&Line::default().paint(Paint::Bold, name));
    for check in checks {
        let (paint, word) = match check.state {
            State::Ok => (Paint::Good, "ok"),
            State::Note => (Paint::Doubt, "note"),
            State::Missing => (Paint::Bad, "missing"),
        };
        let start = Line::from("  ").paint(paint, word).column(NAMES);
        page.wrapped(start.plain(check.name).column(FINDINGS), Paint::Plain, &check.found);
        if let Some(advice) = &check.advice {
            page.wrapped(Line::default().column(FINDINGS).plain("→ "), Paint::Plain, advice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMINAL: Terminal = Terminal { width: 60, colour: false };

    #[test]
    fn what_is_missing_is_said_with_the_way_out() {
        let machine = vec![
            Check::ok("kernel", "6.18.1"),
            Check::missing("privileges", "CAP_BPF missing").advice("run it with sudo"),
        ];
        assert_eq!(
            render(&Report::new(machine, None, None), TERMINAL),
            "This machine\n\
             \x20 ok       kernel          6.18.1\n\
             \x20 missing  privileges      CAP_BPF missing\n\
             \x20                          → run it with sudo\n\
             \n\
             Tracing would not work: privileges.\n"
        );
    }

    #[test]
    fn a_sound_machine() {
        let report = Report::new(vec![Check::ok("kernel", "6.18.1")], None, None);
        assert!(render(&report, TERMINAL).ends_with("\nTracing would work.\n"));
    }
}
