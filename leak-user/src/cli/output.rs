//! Where a report goes: standard output, or a file that is whole or unchanged.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::options::Format;
use crate::sink::{Json, Sink, Terminal, Text, View};

/// A report could not be put where it should go.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The file cannot be made; found out before anything is observed.
    #[error("cannot write `{}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing failed; what was in the file before is still there.
    #[error("could not write the report to `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard output failed otherwise than by being closed.
    #[error("could not write to standard output")]
    Stdout(#[source] io::Error),
}

/// An open destination.
#[derive(Debug)]
pub struct Output(Kind);

#[derive(Debug)]
enum Kind {
    Stdout,
    /// A pipe, terminal or device: nothing that could be lost, nothing to rename.
    Stream {
        path: PathBuf,
        file: File,
    },
    File {
        path: PathBuf,
        temporary: NamedTempFile,
    },
}

impl Output {
    /// Opens `path`, or standard output if None. A file is written beside its final place, and gets
    /// there by [`Output::write`] only.
    ///
    /// # Errors
    /// [`OutputError::Open`].
    pub fn open(path: Option<&Path>) -> Result<Self, OutputError> {
        let Some(path) = path else { return Ok(Self(Kind::Stdout)) };
        open(path).map(Self).map_err(|source| OutputError::Open { path: path.to_owned(), source })
    }

    /// The sink for a form of the report, at its destination's width and with its colours, and for people with the table
    /// that they ask for.
    #[must_use]
    pub fn sink(&self, format: Format, view: Option<View>) -> Box<dyn Sink> {
        let terminal = match self.0 {
            Kind::Stdout => Terminal::of_stdout(),
            Kind::Stream { .. } | Kind::File { .. } => Terminal::NONE,
        };
        match format {
            Format::Text => Box::new(Text::new(terminal, view)),
            Format::Json => Box::new(Json),
        }
    }

    /// Writes the whole report. A reader of standard output that went away is no error.
    ///
    /// # Errors
    /// [`OutputError::Write`], [`OutputError::Stdout`].
    pub fn write(mut self, report: &[u8]) -> Result<(), OutputError> {
        self.append(report)?;
        self.finish()
    }

    /// Writes a part of the report. Is there anybody to read more of it?
    ///
    /// # Errors
    /// [`OutputError::Write`], [`OutputError::Stdout`].
    pub fn append(&mut self, part: &[u8]) -> Result<bool, OutputError> {
        let write = |path: &Path, source| OutputError::Write { path: path.to_owned(), source };
        match &mut self.0 {
            Kind::Stdout => {
                let mut out = io::stdout().lock();
                match out.write_all(part).and_then(|()| out.flush()) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
                    written => written.map_err(OutputError::Stdout)?,
                }
            }
            Kind::Stream { path, file } => {
                file.write_all(part).map_err(|error| write(path, error))?;
            }
            Kind::File { path, temporary } => {
                temporary.write_all(part).map_err(|error| write(path, error))?;
            }
        }
        Ok(true)
    }

    /// Has all parts in their final place.
    ///
    /// # Errors
    /// [`OutputError::Write`].
    pub fn finish(self) -> Result<(), OutputError> {
        match self.0 {
            Kind::Stdout | Kind::Stream { .. } => Ok(()),
            Kind::File { path, temporary } => {
                commit(temporary, &path).map_err(|source| OutputError::Write { path, source })
            }
        }
    }
}

fn open(path: &Path) -> io::Result<Kind> {
    let existing = match fs::metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(metadata) = &existing {
        // Opening for writing shows what a rename would hide: a directory, a read-only file.
        let file = OpenOptions::new().write(true).open(path)?;
        if !metadata.is_file() {
            return Ok(Kind::Stream { path: path.to_owned(), file });
        }
    }
    // The file that a link points to is replaced, not the link.
    let path = if existing.is_some() { fs::canonicalize(path)? } else { path.to_owned() };
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mode = existing.as_ref().map_or(0o666, |metadata| metadata.mode() & 0o777);
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let temporary = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".tmp")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)?;
    if let Some(metadata) = &existing {
        // The umask took its part of the mode; the old file's mode and owner are what counts.
        temporary.as_file().set_permissions(Permissions::from_mode(mode))?;
        if chown(temporary.path(), Some(metadata.uid()), Some(metadata.gid())).is_err() {
            tracing::debug!("the report's file will belong to the user of this process");
        }
    }
    Ok(Kind::File { path, temporary })
}

fn commit(temporary: NamedTempFile, path: &Path) -> io::Result<()> {
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_appears_whole_and_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        let output = Output::open(Some(&path)).unwrap();
        assert!(!path.exists());
        output.write(b"{}\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"{}\n");
        assert_eq!(names(directory.path()), ["report.json"]);
    }

    #[test]
    fn an_old_file_stays_until_the_new_one_is_whole_and_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.txt");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        drop(Output::open(Some(&path)).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(directory.path()), ["report.txt"]);
        let output = Output::open(Some(&path)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        output.write(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn parts_follow_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        let mut output = Output::open(Some(&path)).unwrap();
        assert!(output.append(b"1\n").unwrap());
        assert!(!path.exists());
        assert!(output.append(b"2\n").unwrap());
        output.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"1\n2\n");
    }

    #[test]
    fn a_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        Output::open(Some(&link)).unwrap().write(b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    }

    #[test]
    fn an_unwritable_path_fails_at_once() {
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path().to_owned(), directory.path().join("none/report")] {
            let error = Output::open(Some(&path)).unwrap_err();
            assert!(matches!(error, OutputError::Open { .. }));
            assert!(error.to_string().contains(&path.display().to_string()));
        }
    }

    #[test]
    fn a_device_is_written_to_in_place() {
        Output::open(Some(Path::new("/dev/null"))).unwrap().write(b"gone").unwrap();
        let full = Output::open(Some(Path::new("/dev/full"))).unwrap().write(b"report");
        assert!(matches!(full, Err(OutputError::Write { .. })));
    }
}
