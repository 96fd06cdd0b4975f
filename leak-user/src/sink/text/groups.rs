//! What sites have in common: a line, a function, a file, a package, a type, or the calls that lead to them.

use super::paths::Paths;
use super::stack;
use crate::sink::page::{shorten, width};
use crate::sink::{By, View};
use crate::snapshot::files::{is_standard, package};
use crate::snapshot::{Frame, FrameKind, Site};

/// What a row stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Label<'a> {
    /// A line.
    Line(Option<&'a Frame>),
    /// A function of a file.
    Function(&'a str, &'a str),
    /// A file.
    File(&'a str),
    /// Any other name.
    Name(&'a str),
    /// A stack, innermost frame first.
    Calls(&'a [Frame]),
}

impl PartialEq for Label<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Line(a), Self::Line(b)) => stack::same_line(*a, *b),
            (Self::Function(a, in_a), Self::Function(b, in_b)) => (a, in_a) == (b, in_b),
            (Self::File(a), Self::File(b)) | (Self::Name(a), Self::Name(b)) => a == b,
            (Self::Calls(a), Self::Calls(b)) => a == b,
            _ => false,
        }
    }
}

impl Label<'_> {
    /// In so many columns.
    pub(super) fn shown(&self, room: usize, paths: Paths<'_>) -> String {
        match self {
            Self::Line(Some(frame)) => stack::place(frame, room, paths),
            Self::Line(None) => "unknown".to_owned(),
            Self::Function(function, file) => {
                let whole = format!("{function} in {}", paths.short(file));
                let fits = width(&whole) <= room;
                if fits { whole } else { shorten(&format!("{function} in {}", base(file)), room) }
            }
            Self::File(file) => shorten(paths.short(file), room),
            Self::Name(name) => shorten(name, room),
            Self::Calls(frames) => calls(frames, room),
        }
    }
}

fn base(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

/// As many of the innermost calls as there is room for.
fn calls(frames: &[Frame], room: usize) -> String {
    let mut shown = String::new();
    for frame in frames.iter().filter(|frame| frame.kind == FrameKind::Python) {
        let call = format!("{}:{} {}", base(&frame.file), frame.line, frame.function);
        if shown.is_empty() {
            shown = shorten(&call, room);
        } else if width(&shown) + " < ".len() + width(&call) <= room {
            shown = format!("{shown} < {call}");
        } else {
            break;
        }
    }
    if shown.is_empty() { "no Python".to_owned() } else { shown }
}

/// What a site counts for, each with its share of it. Cumulative: for all that its stack goes through.
pub(super) fn labels(site: &Site, view: View) -> Vec<(Label<'_>, f64)> {
    match view.by {
        By::Type => return types(site),
        By::Traceback => return vec![(Label::Calls(&site.stack), 1.0)],
        By::Line | By::Function | By::File | By::Package => {}
    }
    let label = |frame| of_frame(frame, view.by);
    let mut labels: Vec<Label<'_>> = Vec::new();
    if view.cumulative {
        for frame in site.stack.iter().filter(|frame| frame.kind == FrameKind::Python) {
            let label = label(Some(frame));
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
    }
    if labels.is_empty() {
        labels.push(label(stack::accused(&site.stack)));
    }
    labels.into_iter().map(|label| (label, 1.0)).collect()
}

fn of_frame(frame: Option<&Frame>, by: By) -> Label<'_> {
    let Some(known) = frame else { return Label::Line(None) };
    match by {
        By::Function => Label::Function(&known.function, &known.file),
        By::File => Label::File(&known.file),
        By::Package => Label::Name(match package(&known.file) {
            Some(package) => package,
            None if known.kind == FrameKind::Native => "compiled code",
            None if is_standard(&known.file) => "the standard library",
            None => "own code",
        }),
        By::Line | By::Type | By::Traceback => Label::Line(frame),
    }
}

fn types(site: &Site) -> Vec<(Label<'_>, f64)> {
    let named: f64 = site.types.iter().map(|kind| kind.share).sum();
    let types = site.types.iter().map(|kind| (Label::Name(kind.name.as_str()), kind.share));
    let rest = (Label::Name("no object, or of a type that is not known"), 1.0 - named);
    types.chain([rest]).filter(|(_, share)| *share > 1e-6).collect()
}

#[cfg(test)]
mod tests {
    use super::super::examples;
    use super::*;

    fn shown(view: View) -> Vec<(String, f64)> {
        let site = examples::leak().leaks.remove(0);
        let target = examples::leak().target;
        let paths = Paths::of(&target);
        labels(&site, view).iter().map(|(label, share)| (label.shown(200, paths), *share)).collect()
    }

    fn by(by: By, cumulative: bool) -> View {
        View { by, cumulative, ..View::default() }
    }

    #[test]
    fn a_site_counts_once_for_each_thing_that_it_goes_through() {
        let stack = examples::leak().leaks.remove(0).stack;
        for kind in [By::Line, By::Function, By::File, By::Package] {
            assert_eq!(shown(by(kind, false)).len(), 1);
            let all = shown(by(kind, true));
            assert!(!all.is_empty() && all.len() <= stack.len(), "{all:?}");
            let mut names: Vec<_> = all.iter().map(|(name, _)| name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all.len());
        }
        assert!(shown(by(By::Line, true)).len() > 1);
    }

    #[test]
    fn types_share_what_a_site_holds() {
        let types = shown(by(By::Type, false));
        let sum: f64 = types.iter().map(|(_, share)| share).sum();
        assert!((sum - 1.0).abs() < 1e-9 && types.len() > 1, "{types:?}");
    }
}
