//! Tests that can't run here say so.

use std::io::Write as _;

/// Leaves the test, with a visible line that names it and the reason.
///
/// Straight to the standard error stream, since the test harness swallows what `println!` says in a
/// test that passes. `cargo xtask test` counts these lines.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::skip::say(&format!($($reason)*));
        return Default::default();
    }};
}

/// Prints `SKIPPED test: reason`.
pub fn say(reason: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    // Nothing is left to tell it to if the stream is closed.
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
}

/// Is this process root's? Only root may trace.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Was every test asked for on every interpreter (`cargo xtask test --all`)?
pub fn is_all() -> bool {
    std::env::var_os("LEAKTRACE_TESTS_ALL").is_some()
}

/// Were only the quick tests asked for (`cargo xtask test --fast`)?
pub fn is_fast() -> bool {
    std::env::var_os("LEAKTRACE_TESTS_FAST").is_some()
}
