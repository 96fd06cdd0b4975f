//! Who may name whom: the rules of ARCHITECTURE.md that the compiler doesn't check.

use leak_tests::interpreter::root;
use std::fs;
use std::path::PathBuf;

/// Every Rust file under a directory of the workspace.
fn sources(directory: &str) -> Vec<PathBuf> {
    let mut open = vec![root().join(directory)];
    let mut files = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().map_while(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// `file:line: text` of each line of code (no comment) that is `wanted`.
fn lines(files: &[PathBuf], wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for (at, line) in fs::read_to_string(file).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if wanted(code) {
                let file = file.strip_prefix(root()).unwrap_or(file);
                found.push(format!("{}:{}: {}", file.display(), at + 1, line.trim()));
            }
        }
    }
    found
}

/// Does the code name this crate or module at the begin of a path?
fn names(code: &str, path: &str) -> bool {
    let start = |at: usize| {
        !code[..at].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before))
    };
    code.match_indices(path).any(|(at, _)| start(at))
}

#[test]
fn only_probe_names_aya() {
    let probe = root().join("leak-user/src/probe");
    let mut files = sources("leak-user/src");
    assert!(!files.is_empty());
    files.retain(|file| !file.starts_with(&probe));
    let named = lines(&files, |code| {
        ["aya::", "aya_log::", "aya_obj::"].into_iter().any(|path| names(code, path))
    });
    assert!(named.is_empty(), "outside probe/:\n{}", named.join("\n"));
}

#[test]
fn sinks_see_only_the_snapshot() {
    for directory in ["leak-user/src/sink", "leak-user/src/tui"] {
        let named = lines(&sources(directory), |code| {
            code.match_indices("crate::").any(|(at, prefix)| {
                let module: String = code[at + prefix.len()..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                !["snapshot", "units", "sink", "tui", ""].contains(&module.as_str())
            })
        });
        assert!(named.is_empty(), "{}", named.join("\n"));
    }
}

#[test]
fn what_crosses_the_boundary_needs_no_std() {
    let library = root().join("leak-common/src/lib.rs");
    let text = fs::read_to_string(library).unwrap();
    assert!(text.contains("#![no_std]") || text.contains("cfg_attr(not(test), no_std)"), "{text}");
}

#[test]
fn the_product_speaks_of_itself_alone() {
    let files = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];
    let mut files: Vec<PathBuf> = files.iter().map(|name| root().join(name)).collect();
    for directory in ["leak-common", "leak-ebpf", "leak-user", "xtask", "tests"] {
        files.extend(sources(directory));
    }
    let mut found = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        for foreign in ["root", "home"].map(|top| format!("/{top}/")) {
            // Not `/proc/PID/root/`.
            let begins = |(at, _): (usize, _)| {
                !text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '}')
            };
            if text.match_indices(&foreign).any(begins) {
                found.push(format!("{} names {foreign}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_crate_is_recognised_only_at_the_begin_of_a_path() {
    assert!(names("use aya::Ebpf;", "aya::"));
    assert!(names("fn f(x: &aya::Ebpf)", "aya::"));
    assert!(!names("use playa::x;", "aya::"));
    assert!(!names("use crate::aya::x;", "aya::"));
}
