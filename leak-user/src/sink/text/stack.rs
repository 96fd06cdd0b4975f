//! Stacks: the user's own frames stand out from those of libraries.

use super::paths::Paths;
use super::{VALUES, label};
use crate::sink::page::{Line, Page, Paint, location, shorten, width};
use crate::snapshot::files::{self, package};
use crate::snapshot::{Frame, FrameKind, own_frame};

/// Frames of libraries in a row that are still shown one by one.
const RUN: usize = 3;
/// Columns of the functions' names.
const NAMES: std::ops::RangeInclusive<usize> = 8..=28;

/// The frame that is accused: the innermost one, or the innermost Python frame above native ones.
pub(super) fn accused(stack: &[Frame]) -> Option<&Frame> {
    stack.iter().find(|frame| frame.kind == FrameKind::Python).or_else(|| stack.first())
}

/// The first line of the user's own code that leads to the accused one, where that is a library's.
pub(super) fn caller(stack: &[Frame]) -> Option<&Frame> {
    let at = stack.iter().position(|frame| frame.kind == FrameKind::Python)?;
    let found = stack.get(own_frame(stack)?);
    found.filter(|found| !same_line(Some(*found), stack.get(at)))
}

/// The accused function, and the user's own compiled code that it reaches the allocator through.
pub(super) fn culprit(stack: &[Frame]) -> String {
    let Some(accused) = accused(stack) else { return String::new() };
    let compiled = stack.iter().take_while(|frame| frame.kind == FrameKind::Native);
    match compiled.into_iter().find(|frame| is_own_code(frame)) {
        Some(through) if accused.kind == FrameKind::Python => {
            format!("{} → {}", accused.function, through.function)
        }
        _ => accused.function.clone(),
    }
}

/// Writes a stack from its innermost frame outwards.
pub(super) fn write(page: &mut Page, stack: &[Frame], paths: Paths<'_>) {
    let own = own_frames(stack);
    let longest = stack.iter().map(|frame| width(&frame.function)).max().unwrap_or(0);
    let names = longest.clamp(*NAMES.start(), *NAMES.end());
    let mut start = label("stack");
    let mut at = 0;
    while at < stack.len() {
        let run = own[at..].iter().take_while(|&&own| !own).count();
        // The innermost frame always shows, and of a run its innermost one.
        if run > RUN {
            write_frame(page, start, &stack[at], false, names, paths);
            let hidden = &stack[at + 1..at + run];
            let text = format!("… {} frames of {}", hidden.len(), libraries(hidden));
            page.line(&blank().plain("  ").paint(Paint::Dim, &text));
            at += run;
        } else {
            write_frame(page, start, &stack[at], own[at], names, paths);
            at += 1;
        }
        start = blank();
    }
}

fn blank() -> Line {
    Line::from(" ".repeat(VALUES).as_str())
}

fn write_frame(
    page: &mut Page,
    start: Line,
    frame: &Frame,
    own: bool,
    names: usize,
    paths: Paths<'_>,
) {
    let (mark, paint) = if own { ("> ", Paint::Own) } else { ("  ", Paint::Dim) };
    let line = start.paint(paint, mark).paint(paint, &shorten(&frame.function, names));
    let line = line.column(VALUES + 2 + names + 2);
    let room = page.width().saturating_sub(line.width());
    page.line(&line.paint(paint, &location(paths.short(&frame.file), frame.line, room)));
}

/// Is it compiled code of the user's own: neither of the system or a language's library, nor of an installed
/// package?
fn is_own_code(frame: &Frame) -> bool {
    let Some(module) = &frame.module else { return false };
    let is_foreign = |file: &str| files::is_system(file) || package(file).is_some();
    !is_foreign(module) && !is_foreign(&frame.file) && !files::is_standard(module)
}

/// Which frames are the user's. An application that is itself installed as a package has none
/// outside the packages: then theirs count, and only the standard library's do not.
fn own_frames(stack: &[Frame]) -> Vec<bool> {
    let own = |frame: &Frame| match frame.kind {
        FrameKind::Python => !is_standard(frame) && package(&frame.file).is_none(),
        FrameKind::Native => is_own_code(frame),
    };
    let strict: Vec<_> = stack.iter().map(own).collect();
    if strict.contains(&true) {
        return strict;
    }
    stack.iter().map(|frame| !is_standard(frame)).collect()
}

/// Is it the interpreter, its standard library, or compiled code?
fn is_standard(frame: &Frame) -> bool {
    frame.kind == FrameKind::Native || files::is_standard(&frame.file)
}

/// Do two frames stand on the same line?
pub(super) fn same_line(a: Option<&Frame>, b: Option<&Frame>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (&a.file, a.line, &a.function) == (&b.file, b.line, &b.function),
        (None, None) => true,
        _ => false,
    }
}

/// `file:line in function`, the function only where there is room for both.
pub(super) fn place(frame: &Frame, room: usize, paths: Paths<'_>) -> String {
    let file = paths.short(&frame.file);
    let function = format!(" in {}", shorten(&frame.function, 28));
    let base = file.rsplit('/').next().unwrap_or(file);
    let left = room.saturating_sub(width(&function));
    if width(base) + "…/:99999".chars().count() <= left {
        return format!("{}{function}", location(file, frame.line, left));
    }
    location(file, frame.line, room)
}

/// `starlette, anyio and the standard library`.
fn libraries(frames: &[Frame]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for frame in frames {
        let name = match (package(&frame.file), frame.kind) {
            (_, FrameKind::Native) => "compiled code",
            (Some(package), _) => package,
            (None, _) => "the standard library",
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(file: &str) -> Frame {
        Frame {
            kind: FrameKind::Python,
            function: "f".to_owned(),
            file: file.to_owned(),
            line: 1,
            module: None,
            source: None,
        }
    }

    #[test]
    fn own_frames_are_those_outside_of_libraries() {
        let stack = [
            "/usr/lib/python3.11/json/decoder.py",
            "/srv/app/views.py",
            "/srv/venv/lib/python3.12/site-packages/starlette/routing.py",
            "/usr/lib/python3/dist-packages/six.py",
            "<frozen runpy>",
        ]
        .map(frame);
        assert_eq!(own_frames(&stack), [false, true, false, false, false]);
        assert_eq!(libraries(&stack[2..]), "starlette, six, the standard library");
    }

    #[test]
    fn an_installed_application_is_the_users() {
        let stack = [
            "/usr/local/lib/python3.12/site-packages/shop/cart.py",
            "/usr/local/lib/python3.12/asyncio/events.py",
        ]
        .map(frame);
        assert_eq!(own_frames(&stack), [true, false]);
    }

    #[test]
    fn the_accused_frame_is_a_python_one_if_there_is_any() {
        let mut native = frame("libfoo.so");
        native.kind = FrameKind::Native;
        assert_eq!(accused(&[native.clone(), frame("a.py")]).unwrap().file, "a.py");
        let mut inlined = native.clone();
        (inlined.module, inlined.file) = (Some("/srv/ext.so".into()), "/rustc/1/vec.rs".into());
        let mut own = inlined.clone();
        (own.file, own.function) = ("/srv/ext.rs".into(), "keep".into());
        let line = frame("a.py");
        let said = format!("{} → keep", line.function);
        assert_eq!(culprit(&[native.clone(), inlined, own, line.clone()]), said);
        assert_eq!(culprit(&[native.clone(), line.clone()]), line.function);
        assert_eq!(accused(&[native]).unwrap().file, "libfoo.so");
        assert!(accused(&[]).is_none());
    }
}
