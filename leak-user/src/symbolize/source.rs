//! The text of source lines, as the target's own file system holds them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::units::Pid;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Longest line that is given, in characters.
const MAX_LINE: usize = 300;

/// Bytes of files that are kept; beyond that the cache starts anew.
const MAX_CACHED: usize = 64 << 20;

/// Files whose absence is remembered.
const MAX_FILES: usize = 1 << 14;

/// Source lines of one process.
#[derive(Debug)]
pub struct SourceLines {
    pid: Pid,
    files: HashMap<String, Option<Arc<[u8]>>>,
    bytes: usize,
}

impl SourceLines {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(pid: Pid) -> Self {
        Self { pid, files: HashMap::new(), bytes: 0 }
    }

    /// The text of a line (1 is the first) without the space around it; None where there is no such
    /// file or line, or nothing in it. The file may have been edited since the target loaded it.
    pub fn line(&mut self, file: &str, line: u32) -> Option<Arc<str>> {
        let text = self.file(file)?;
        let index = usize::try_from(line).ok()?.checked_sub(1)?;
        let line = text.split(|byte| *byte == b'\n').nth(index)?;
        // No character has more than 4 bytes; what is cut off is not looked at.
        let line = line.trim_ascii();
        let line = String::from_utf8_lossy(line.get(..4 * MAX_LINE).unwrap_or(line));
        let line: String = line.chars().take(MAX_LINE).collect();
        (!line.is_empty()).then(|| line.into())
    }

    fn file(&mut self, path: &str) -> Option<Arc<[u8]>> {
        if let Some(known) = self.files.get(path) {
            return known.clone();
        }
        let text = self.read(path);
        let size = text.as_ref().map_or(0, |text| text.len());
        if self.bytes + size > MAX_CACHED || self.files.len() >= MAX_FILES {
            self.files.clear();
            self.bytes = 0;
        }
        self.bytes += size;
        self.files.insert(path.to_owned(), text.clone());
        text
    }

    fn read(&self, path: &str) -> Option<Arc<[u8]>> {
        if path.is_empty() || path.starts_with('<') {
            return None;
        }
        // Neither a link nor `..` may lead out of the target's root: it names the file, and this
        // process may read more than it may.
        let (start, resolve) = if path.starts_with('/') {
            ("root", ResolveFlag::RESOLVE_IN_ROOT)
        } else {
            ("cwd", ResolveFlag::RESOLVE_BENEATH)
        };
        let start = File::open(format!("/proc/{}/{start}", self.pid)).ok()?;
        let resolve = resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
        let found = File::from(openat2(&start, path, how).ok()?);
        let metadata = found.metadata().ok()?;
        // Opening a pipe or a device can block or do things: look first, then open for reading.
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            return None;
        }
        let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
        let mut text = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut text).ok()?;
        Some(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> SourceLines {
        SourceLines::new(Pid(std::process::id()))
    }

    #[test]
    fn gives_lines_trimmed_cut_and_lossy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app ü.py");
        let mut text = b"first\r\n    second = 2  \n\n\xff\xfe = 3\n".to_vec();
        text.extend(std::iter::repeat_n("é".as_bytes(), 1000).flatten());
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let mut lines = own();
        assert_eq!(lines.line(path, 1).as_deref(), Some("first"));
        assert_eq!(lines.line(path, 2).as_deref(), Some("second = 2"));
        assert_eq!(lines.line(path, 3), None);
        assert_eq!(lines.line(path, 4).as_deref(), Some("\u{fffd}\u{fffd} = 3"));
        assert_eq!(lines.line(path, 5).unwrap().chars().count(), 300);
        assert_eq!((lines.line(path, 6), lines.line(path, 0)), (None, None));
    }

    #[test]
    fn only_regular_files_of_a_fair_size() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        nix::unistd::mkfifo(at("pipe").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        File::create(at("large")).unwrap().set_len(MAX_FILE + 1).unwrap();
        std::fs::write(at("fine"), "x").unwrap();
        let mut lines = own();
        for path in [&at("pipe"), &at("large"), &at("none"), "/dev/zero", "<string>", "", "/"] {
            assert_eq!(lines.line(path, 1), None, "{path}");
        }
        assert!(lines.line(&at("fine"), 1).is_some());
    }

    #[test]
    fn relative_paths_start_where_the_target_is() {
        // Tests run in the package's directory.
        let mut lines = own();
        let first = lines.line("src/symbolize/source.rs", 1);
        assert!(first.is_some_and(|text| text.starts_with("//! The text of source lines")));
        assert_eq!(lines.line("../Cargo.toml", 1), None, "not out of it");
    }
}
