//! The line that a terminal shows while a process is observed.

mod common;

use leak_tests::leaktrace;
use leak_tests::program::Program;
use nix::pty::{OpenptyResult, Winsize, openpty};
use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};

/// Wide enough for all of the line.
const WINDOW: Winsize = Winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };

/// All that leaktrace writes to a terminal while it observes a process.
fn shown(pid: u32) -> String {
    let OpenptyResult { master, slave } = openpty(&WINDOW, None).unwrap();
    let mut leaktrace = Command::new(leaktrace::binary().unwrap());
    leaktrace.args(["--pid", &pid.to_string(), "--duration", "20s"]).env("TERM", "xterm");
    let mut child = leaktrace.stdout(Stdio::null()).stderr(slave).spawn().unwrap();
    // Our end of what it writes to: the terminal ends when nobody holds it any more.
    drop(leaktrace);
    let mut bytes = Vec::new();
    // A terminal's end is an error (EIO), after all that was written.
    let _ = File::from(master).read_to_end(&mut bytes);
    assert!(child.wait().unwrap().success());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn the_suspect_is_named_while_observing() {
    let python = any_python!();
    let program = Program::open("small").unwrap();
    let running = program.start(&python, &[]).unwrap();
    let shown = shown(running.target.pid());
    let place = |line: u64| format!("small.py:{line}");
    let suspects = || shown.split("suspect ").skip(1);
    assert!(suspects().count() > 0, "{shown:?}");
    for suspect in suspects() {
        let is_leak = program.leaks.iter().any(|leak| suspect.contains(&place(leak.line)));
        assert!(is_leak, "{suspect:?}");
    }
}
