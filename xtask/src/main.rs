//! Sets up, builds, tests and measures leaktrace.
fn main() {}
