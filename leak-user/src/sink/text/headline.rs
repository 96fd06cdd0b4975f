//! The verdict in one line, and what it means for the service.

use super::stack;
use super::{findings, number};
use crate::sink::page::{Line, Page, Paint, location, shorten};
use crate::snapshot::{Memory, Site, Snapshot, Target, Verdict};
use crate::units::Bytes;

/// Writes the verdict, its meaning and the reasons.
pub(super) fn write(page: &mut Page, snapshot: &Snapshot) {
    page.line(&verdict(page.width(), snapshot.verdict, &snapshot.leaks));
    page.wrapped(Line::from("  "), Paint::Plain, &meaning(snapshot).join(" "));
    for reason in &snapshot.reasons {
        page.wrapped(Line::from("  ").paint(Paint::Dim, "· "), Paint::Plain, reason);
    }
    about(page, &snapshot.target);
}

/// Writes which process it is.
pub(super) fn about(page: &mut Page, target: &Target) {
    page.blank();
    let about = format!("pid {} · Python {} · {}", target.pid, target.python, target.allocator);
    page.line(&Line::from("  ").paint(Paint::Dim, &about));
    page.line(&Line::from("  ").paint(Paint::Dim, &command(target)));
    if let Some(cwd) = &target.cwd {
        page.line(&Line::from("  ").paint(Paint::Dim, &format!("in {cwd}")));
    }
}

/// The arguments, the program by its name alone: which interpreter it is stands above.
pub(super) fn command(target: &Target) -> String {
    let Some((program, arguments)) = target.cmdline.split_first() else {
        return target.exe.clone();
    };
    let name = program.rsplit('/').next().unwrap_or(program);
    std::iter::once(name).chain(arguments.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

/// The verdict and the worst line, in one line.
pub(super) fn verdict(width: usize, verdict: Verdict, leaks: &[Site]) -> Line {
    match (verdict, leaks.first()) {
        (Verdict::Leak, Some(worst)) => {
            let growth: f64 = leaks.iter().map(|leak| leak.growth_bytes_per_s).sum();
            let growth = format!(": {} ({})", number::rate(growth), number::hourly(growth));
            let others = match findings::of(leaks).len() - 1 {
                0 => String::new(),
                more => format!(" and {}", number::counted(more as u64, "other")),
            };
            let line = Line::default().paint(Paint::Bad, "LEAK").plain("  ");
            let Some(frame) = stack::accused(&worst.stack) else {
                return line.plain("a line that could not be named").plain(&growth);
            };
            // The growth must be seen even where the path is long.
            let fixed = line.width() + growth.chars().count() + others.len();
            let room = width.saturating_sub(fixed).max(12);
            let name = frame.file.rsplit('/').next().unwrap_or(&frame.file);
            let place = location(name, frame.line, room);
            let left = room.saturating_sub(place.chars().count());
            let line = line.paint(Paint::Bold, &place);
            let line = if left > 8 {
                line.plain(" in ")
                    .paint(Paint::Bold, &shorten(&stack::culprit(&worst.stack), left - 4))
            } else {
                line
            };
            line.plain(&others).plain(&growth)
        }
        (Verdict::Leak, None) => {
            Line::default().paint(Paint::Bad, "LEAK").plain("  no line could be named")
        }
        (Verdict::NoLeak, _) => Line::default()
            .paint(Paint::Good, "NO LEAK")
            .plain("  no line keeps allocating memory that stays"),
        (Verdict::Inconclusive, _) => Line::default()
            .paint(Paint::Doubt, "INCONCLUSIVE")
            .plain("  neither a leak nor its absence could be shown"),
    }
}

/// What an on-call person wants to know next, in sentences.
fn meaning(snapshot: &Snapshot) -> Vec<String> {
    let memory = &snapshot.memory;
    let (low, high) = memory.growth_interval;
    let rss = Bytes(memory.rss_bytes);
    let observed = number::seconds(snapshot.observed.duration_s);
    let mut sentences = Vec::new();
    if snapshot.target.ended {
        sentences.push(format!("The process ended after {observed} of observation."));
    }
    if memory.rss_bytes == 0 {
        sentences.push("Its memory could not be measured.".to_owned());
    } else if low > 0.0 {
        let growth = memory.growth_bytes_per_s;
        sentences.push(format!(
            "RSS is {rss} and grows by {} ({}){}",
            number::rate(growth).trim_start_matches('+'),
            number::hourly(growth).trim_start_matches('+'),
            doubling(memory.rss_bytes, growth, (low, high))
        ));
        sentences.extend(until_limit(memory));
    } else if high < 0.0 {
        sentences.push(format!(
            "RSS is {rss} and shrinks by {}.",
            number::rate(memory.growth_bytes_per_s).trim_start_matches('-')
        ));
    } else {
        let within = number::interval((low, high))
            .map_or_else(String::new, |interval| format!(" ({interval})"));
        sentences.push(format!("RSS is {rss} and did not measurably grow in {observed}{within}."));
    }
    if snapshot.verdict == Verdict::Inconclusive && !snapshot.target.ended {
        sentences.push(format!("Observe longer: {}.", longer(snapshot.observed.duration_s)));
    }
    sentences
}

/// `; at this rate it doubles in 6 to 8 min.`, as far as that can be said.
fn doubling(rss: u64, growth: f64, (low, high): (f64, f64)) -> String {
    let until = |growth: f64| number::span(rss as f64 / growth);
    // An end ten times as far as the other says nothing.
    let late = until(low).filter(|_| low * 10.0 > high);
    let when = match (until(high), until(growth), late) {
        (Some(early), _, Some(late)) if early != late => {
            match (early.split_once(' '), late.split_once(' ')) {
                (Some((number, unit)), Some((_, other))) if unit == other => {
                    format!("in {number} to {late}")
                }
                _ => format!("in {early} to {late}"),
            }
        }
        (Some(early), _, None) => format!("in {early} at the earliest"),
        (_, Some(about), _) => format!("in about {about}"),
        _ => return ".".to_owned(),
    };
    format!("; at this rate it doubles {when}.")
}

/// When the memory limit is reached. Others in the control group only bring that forward, so it is
/// a latest time.
fn until_limit(memory: &Memory) -> Option<String> {
    let limit = memory.limit_bytes?;
    let left = limit.saturating_sub(memory.rss_bytes);
    let span = number::span(left as f64 / memory.growth_bytes_per_s)?;
    let limit = Bytes(limit);
    Some(format!("Its memory limit of {limit} is then reached in about {span}, or sooner."))
}

/// The option that asks for about four times as much.
fn longer(duration_s: f64) -> String {
    let seconds =
        if duration_s.is_finite() { (duration_s * 4.0).clamp(60.0, 86_400.0) } else { 60.0 };
    format!("--duration {}m", (seconds / 60.0).ceil())
}
