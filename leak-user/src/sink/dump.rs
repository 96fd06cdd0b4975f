//! The stacks of all threads for people: in the form of Python's faulthandler, which tools and eyes know.

use std::fmt::Write as _;

use super::escape::escape;
use crate::snapshot::dump::{Dump, Thread};

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
            let (file, function) = (escape(&frame.file), escape(&frame.function));
            let _ = writeln!(text, "  File \"{file}\", line {} in {function}", frame.line);
        }
        if let Some(problem) = &thread.problem {
            let _ = writeln!(text, "  ({})", escape(problem));
        }
    }
    text
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
    use crate::snapshot::{Frame, FrameKind};

    fn frame(function: &str, file: &str, line: u32) -> Frame {
        let (function, file) = (function.to_owned(), file.to_owned());
        Frame { kind: FrameKind::Python, function, file, line, module: None, source: None }
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
             \x20 <no Python frame>\n"
        );
    }
}
