//! The test programs and what is true of them.

use crate::interpreter::{Interpreter, root};
use crate::target::Target;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Names of the programs that leak, or with `--clean` don't.
pub const NAMES: [&str; 4] = ["small", "numpy_arrays", "mmap_buffers", "fastapi_visits"];

/// Names of further programs, which do what services do, at a pace of their own: what tracing costs is measured on them,
/// too. They leak a little, or with `--clean` don't.
pub const WORKLOADS: [&str; 7] = [
    "pandas_batches",
    "asyncio_http",
    "json_models",
    "eight_threads",
    "idle",
    "fork_heavy",
    "compile_like",
];

/// A line that leaks: where an accusation of the program may point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeakingLine {
    /// The innermost function around it.
    pub function: String,
    /// Its number, from 1.
    pub line: u64,
}

/// A program of `programs/` and the truth that its comments hold: `# domain: NAME` once, `# native: FUNCTION`
/// where the culprit is compiled code, `# kept by: MODULE.NAME` where what stays hangs from one variable, `# LEAK` at the end of each line that allocates what stays.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// The allocator that its leak comes from, as a report names it.
    pub domain: String,
    /// The compiled function that must lie between the line and the allocator, if the culprit is one.
    pub native: Option<String>,
    /// The variable that what stays hangs from, if it is one.
    pub kept_by: Option<String>,
    /// Where an accusation may point.
    pub leaks: Vec<LeakingLine>,
}

/// A running program, and the load that it is under if it needs any.
#[derive(Debug)]
pub struct Running {
    /// The program itself.
    pub target: Target,
    /// Dropped after the target, so that the load ends for want of it.
    _load: Option<Target>,
}

impl Program {
    /// Reads the program of this name.
    ///
    /// # Errors
    /// If there is none, or its comments don't hold the truth.
    pub fn open(name: &str) -> Result<Self> {
        let path = directory().join(format!("{name}.py"));
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let domain = text.lines().find_map(|line| line.strip_prefix("# domain: "));
        let domain = domain.with_context(|| format!("{name}.py names no domain"))?.to_owned();
        let said = |what: &str| text.lines().find_map(|line| line.strip_prefix(what));
        let native = said("# native: ").map(str::to_owned);
        let kept_by = said("# kept by: ").map(str::to_owned);
        let leaks = leaking_lines(&text);
        Ok(Self { path, domain, native, kept_by, leaks })
    }

    /// Starts it, with the steady load that it needs, and waits until it is warm.
    ///
    /// # Errors
    /// If it or its load doesn't come up.
    pub fn start(&self, python: &Interpreter, args: &[&str]) -> Result<Running> {
        self.spawn(python, python.run(&self.path)?.args(args))
    }

    /// The same by a command of the caller's.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub fn spawn(&self, python: &Interpreter, command: &mut Command) -> Result<Running> {
        let target = Target::spawn(command)?;
        // What it says is what the load is told: its port, and the pace if it isn't the usual one.
        let told: Vec<_> = target.ready().split_whitespace().map(str::to_owned).collect();
        let load = if told.is_empty() {
            None
        } else {
            let mut command = Command::new(&python.path);
            Some(Target::spawn(command.arg(directory().join("load.py")).args(told))?)
        };
        Ok(Running { target, _load: load })
    }

    /// Does a chain of a report name what keeps alive what stays?
    pub fn is_kept_by(&self, chain: &Value) -> bool {
        let words = chain.as_array().map_or(&[][..], Vec::as_slice);
        self.kept_by.as_deref().is_none_or(|keeper| words.iter().any(|word| word == keeper))
    }

    /// Is this stack of a report (innermost frame first) one that may be accused? Its first Python frame
    /// must be a leaking line, and the native culprit, where there is one, must come before it.
    pub fn is_culprit(&self, stack: &Value) -> bool {
        let frames = stack.as_array().map_or(&[][..], Vec::as_slice);
        let Some(line) = frames.iter().position(|frame| frame["kind"] == "python") else {
            return false;
        };
        let (frame, compiled) = (&frames[line], &frames[..line]);
        let is_it = |name: &str| compiled.iter().any(|frame| is_function(frame, name));
        if !self.native.as_deref().is_none_or(is_it) {
            return false;
        }
        let function = frame["function"].as_str().unwrap_or("");
        let function = function.rsplit('.').next().unwrap_or(function);
        // Under another root, the path begins elsewhere.
        let is_own = |file: &str| self.path.ends_with(file.trim_start_matches('/'));
        frame["file"].as_str().is_some_and(is_own)
            && self
                .leaks
                .iter()
                .any(|leak| leak.function == function && frame["line"].as_u64() == Some(leak.line))
    }
}

/// Is the frame of this function? Its name may have a path before it and a hash behind, and arguments.
pub fn is_function(frame: &Value, name: &str) -> bool {
    let shown = frame["function"].as_str().unwrap_or("");
    let shown = shown.split(['(', '<']).next().unwrap_or(shown);
    shown.split("::").any(|part| part == name)
}

/// Where the programs are.
pub fn directory() -> PathBuf {
    root().join("tests/programs")
}

/// The lines that a program marks as leaking.
pub(crate) fn leaking_lines(text: &str) -> Vec<LeakingLine> {
    let mut functions: Vec<(usize, &str)> = Vec::new();
    let mut leaks = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let code = line.trim_start();
        if code.is_empty() {
            continue;
        }
        let indent = line.len() - code.len();
        functions.retain(|(outer, _)| *outer < indent);
        let definition = code.strip_prefix("async ").unwrap_or(code).strip_prefix("def ");
        if let Some((name, _)) = definition.and_then(|rest| rest.split_once('(')) {
            functions.push((indent, name));
        }
        if code.ends_with("# LEAK") {
            let function = functions.last().map_or("<module>", |(_, name)| name).to_owned();
            leaks.push(LeakingLine { function, line: at as u64 + 1 });
        }
    }
    leaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_is_read_from_the_comments() {
        let text =
            "def a(x):\n    def b():\n        y = []  # LEAK\n\n    z = 1  # LEAK\nw = 2  # LEAK\n";
        let leak = |function: &str, line| LeakingLine { function: function.to_owned(), line };
        assert_eq!(leaking_lines(text), [leak("b", 3), leak("a", 5), leak("<module>", 6)]);
    }

    #[test]
    fn every_program_tells_its_truth() {
        for name in NAMES.into_iter().chain(WORKLOADS) {
            let program = Program::open(name).unwrap();
            assert!(!program.leaks.is_empty(), "{name}");
        }
    }

    #[test]
    fn only_a_leaking_line_is_a_culprit() {
        let program = Program::open("small").unwrap();
        let LeakingLine { function, line } = program.leaks[1].clone();
        let stack = |line| {
            serde_json::json!([
                {"kind": "native", "function": "_PyObject_Malloc"},
                {"kind": "python", "function": function, "file": program.path, "line": line},
            ])
        };
        assert!(program.is_culprit(&stack(line)));
        assert!(!program.is_culprit(&stack(line + 100)));
        assert!(!program.is_culprit(&Value::Null));
        let through = Program { native: Some("remember".to_owned()), ..program.clone() };
        assert!(!through.is_culprit(&stack(line)));
        let frame = |function: &str| serde_json::json!({"kind": "native", "function": function});
        assert!(is_function(&frame("app::remember::h12(int)"), "remember"));
        assert!(!is_function(&frame("remember_all"), "remember"));
    }
}
