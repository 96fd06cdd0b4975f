//! The stacks of all threads for people: in the form of Python's faulthandler, which tools and eyes know.

use std::fmt::Write as _;

use super::escape::escape;
use crate::snapshot::dump::{Dump, Thread};
use crate::snapshot::{Frame, FrameKind};

/// The dump as text. Every character that the target chose is escaped.
#[must_use]
pub fn text(dump: &Dump) -> String {
    let mut text = String::new();
    for (number, thread) in dump.threads.iter().enumerate() {
        if number > 0 {
            text.push('\n');
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", head(thread));
        if thread.stack.is_empty() {
            let _ = writeln!(text, "  <no Python frame>");
        }
        for frame in &thread.stack {
            let _ = writeln!(text, "  {}", line(frame));
        }
        for problem in thread.problem.iter().chain(&thread.native_problem) {
            let _ = writeln!(text, "  ({})", escape(problem));
        }
    }
    text
}

/// `File "app.py", line 7 in serve`, and of compiled code `C    do_wait in libc.so.6 (wait.c:31)`.
fn line(frame: &Frame) -> String {
    let function = escape(&frame.function);
    match frame.kind {
        FrameKind::Python => {
            format!("File \"{}\", line {} in {function}", escape(&frame.file), frame.line)
        }
        FrameKind::Native => {
            let name = |path: &str| escape(path.rsplit('/').next().unwrap_or(path)).into_owned();
            let within = frame.module.as_deref().map(|module| format!(" in {}", name(module)));
            let source = format!(" ({}:{})", name(&frame.file), frame.line);
            let source = (frame.line > 0).then_some(source);
            format!("C    {function}{}{}", within.unwrap_or_default(), source.unwrap_or_default())
        }
    }
}

/// `Thread 0x00007f0123456780 [worker, tid 4711, holds the GIL] (most recent call first):`
fn head(thread: &Thread) -> String {
    let ident = thread.ident.map_or_else(String::new, |ident| format!("0x{ident:016x} "));
    let mut about = format!("{}, tid {}", escape(&thread.name), thread.tid);
    if let Some(interpreter) = thread.interpreter.filter(|id| *id != 0) {
        let _ = write!(about, ", interpreter {interpreter}");
    }
    if thread.holds_gil == Some(true) {
        about.push_str(", holds the GIL");
    }
    format!("Thread {ident}[{about}] (most recent call first):")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::dump::{Losses, SCHEMA, Target};

    fn frame(function: &str, file: &str, line: u32) -> Frame {
        let (function, file) = (function.to_owned(), file.to_owned());
        Frame { kind: FrameKind::Python, function, file, line, module: None, source: None }
    }

    fn native(function: &str, file: &str, line: u32) -> Frame {
        let module = Some("/lib/libc.so.6".to_owned());
        Frame { kind: FrameKind::Native, module, ..frame(function, file, line) }
    }

    #[test]
    fn in_the_form_of_faulthandler() {
        let thread = |tid, name: &str, stack| Thread {
            tid,
            name: name.to_owned(),
            ident: Some(0x7f01_2345_6780),
            interpreter: Some(0),
            holds_gil: Some(false),
            stack,
            problem: None,
            native_problem: None,
        };
        let main = thread(
            7,
            "python3",
            vec![frame("Shop.sell", "/srv/büro/蛇.py", 12), frame("<module>", "/srv/a.py", 3)],
        );
        let other = thread(8, "e\x1b[31m\nvil", vec![frame("f\n", "\u{202e}x", 0)]);
        let dump = Dump {
            schema: SCHEMA.to_owned(),
            leaktrace: "0.1.0".to_owned(),
            target: Target {
                pid: 7,
                python: "3.11.7".to_owned(),
                exe: String::new(),
                cmdline: Vec::new(),
            },
            losses: Losses::default(),
            threads: vec![
                Thread { holds_gil: Some(true), ..main },
                Thread { interpreter: Some(2), problem: Some("it ran on".to_owned()), ..other },
                Thread { ident: None, interpreter: None, ..thread(9, "pool", Vec::new()) },
                Thread {
                    native_problem: Some("it can't be followed".to_owned()),
                    ..thread(
                        10,
                        "c",
                        vec![native("wait\n", "/src/wait.c", 31), native("go", "", 0)],
                    )
                },
            ],
        };
        assert_eq!(
            text(&dump),
            "Thread 0x00007f0123456780 [python3, tid 7, holds the GIL] (most recent call first):\n\
             \x20 File \"/srv/büro/蛇.py\", line 12 in Shop.sell\n\
             \x20 File \"/srv/a.py\", line 3 in <module>\n\
             \n\
             Thread 0x00007f0123456780 [e\\x1b[31m\\nvil, tid 8, interpreter 2] (most recent call \
             first):\n\
             \x20 File \"\\u202ex\", line 0 in f\\n\n\
             \x20 (it ran on)\n\
             \n\
             Thread [pool, tid 9] (most recent call first):\n\
             \x20 <no Python frame>\n\
             \n\
             Thread 0x00007f0123456780 [c, tid 10] (most recent call first):\n\
             \x20 C    wait\\n in libc.so.6 (wait.c:31)\n\
             \x20 C    go in libc.so.6\n\
             \x20 (it can't be followed)\n"
        );
    }
}
