//! The zoo: services that leak or only look as if they did, and the truth about each. Its README says how a folder is
//! made up.

use crate::interpreter::{self, Interpreter};
use crate::program::{self, LeakingLine};
use crate::target::Target;
use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `truth.toml` says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// What the service does, and what stays.
    pub summary: String,
    /// Does it leak?
    pub leaks: bool,
    /// Where what stays lies, as a report names it.
    #[serde(default)]
    pub domain: String,
    /// Types that pile up; a report that names one is right.
    #[serde(default)]
    pub types: Vec<String>,
    /// The variable that all hangs from, if it is one.
    pub kept_by: Option<String>,
    /// Bytes that are kept a second, about.
    pub rate: Option<f64>,
    /// Which process it is.
    pub process: Process,
    /// Packages of requirements.txt that it needs.
    pub packages: Vec<String>,
    /// The only version of Python that it runs on, if it is one.
    pub python: Option<String>,
}

/// Which process leaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Process {
    /// The one that was started.
    #[serde(rename = "self")]
    Itself,
    /// One that it has started, and names when it is ready.
    Child,
}

/// A service of the zoo.
#[derive(Debug, Clone)]
pub struct Specimen {
    /// Its folder's name.
    pub name: String,
    /// The truth about it.
    pub truth: Truth,
    folder: PathBuf,
    leaks: Vec<LeakingLine>,
}

/// Which of a service's two variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// As it is.
    Leaking,
    /// The same work, and nothing stays.
    Clean,
}

/// One that runs.
#[derive(Debug)]
pub struct Running {
    /// The process that was started.
    pub target: Target,
    /// The one to observe.
    pub pid: u32,
}

/// Where they are.
pub fn directory() -> PathBuf {
    interpreter::root().join("tests/zoo")
}

/// All of them, by name.
///
/// # Errors
/// If one holds no truth.
pub fn all() -> Result<Vec<Specimen>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    names.iter().map(|name| Specimen::open(name)).collect()
}

impl Specimen {
    /// Reads the one of this name.
    ///
    /// # Errors
    /// If there is none, or it doesn't hold the truth.
    pub fn open(name: &str) -> Result<Self> {
        let folder = directory().join(name);
        let read = |file: &str| {
            let path = folder.join(file);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let truth: Truth =
            toml::from_str(&read("truth.toml")?).with_context(|| format!("{name}/truth.toml"))?;
        let leaks = program::leaking_lines(&read("run.py")?);
        ensure!(truth.leaks != leaks.is_empty(), "{name}: truth.toml and run.py disagree");
        Ok(Self { name: name.to_owned(), truth, folder, leaks })
    }

    /// Those that there are of it.
    pub fn variants(&self) -> &'static [Variant] {
        if self.truth.leaks { &[Variant::Leaking, Variant::Clean] } else { &[Variant::Clean] }
    }

    /// The requirements of a variant, where the variants are releases of a package.
    pub fn requirements(&self, variant: Variant) -> Option<PathBuf> {
        let file = match variant {
            Variant::Leaking => "leaking.txt",
            Variant::Clean => "fixed.txt",
        };
        Some(self.folder.join(file)).filter(|path| path.exists())
    }

    /// Where the packages of such a variant are.
    pub fn packages(&self, variant: Variant) -> PathBuf {
        let variant = match variant {
            Variant::Leaking => "leaking",
            Variant::Clean => "fixed",
        };
        interpreter::home("zoo").join(&self.name).join(variant)
    }

    /// The interpreter that it runs on: the given one, unless it runs on another only.
    ///
    /// # Errors
    /// If that one isn't here.
    pub fn interpreter(&self, usual: &Interpreter) -> Result<Interpreter> {
        let Some(version) = &self.truth.python else { return Ok(usual.clone()) };
        let name = format!("py{version}");
        if usual.name == name {
            return Ok(usual.clone());
        }
        interpreter::find(&name).with_context(|| format!("{} needs {name}", self.name))
    }

    /// Starts it and waits until it is warm.
    ///
    /// # Errors
    /// If it doesn't come up.
    pub fn start(&self, python: &Interpreter, variant: Variant) -> Result<Running> {
        let target = Target::spawn(&mut self.command(python, variant, &[]))?;
        let pid = match self.truth.process {
            Process::Itself => target.pid(),
            Process::Child => target.ready().parse().context("it names no process")?,
        };
        Ok(Running { target, pid })
    }

    /// A command that runs it, by a Python script with its arguments or by itself.
    pub fn command(&self, python: &Interpreter, variant: Variant, by: &[&str]) -> Command {
        let mut command = Command::new(&python.path);
        command.args(by).arg(self.folder.join("run.py"));
        let mut path = program::directory().into_os_string();
        if self.requirements(variant).is_some() {
            path.push(":");
            path.push(self.packages(variant));
        } else if self.truth.leaks && variant == Variant::Clean {
            command.arg("--clean");
        }
        command.env("PYTHONPATH", path);
        command
    }

    /// Is this stack of a report (innermost frame first) one that may be accused? Its first frame of the program's own
    /// must be a leaking line.
    pub fn is_culprit(&self, stack: &Value) -> bool {
        let frames = stack.as_array().map_or(&[][..], Vec::as_slice);
        let is_own = |frame: &&Value| {
            frame["kind"] == "python"
                && frame["file"]
                    .as_str()
                    .is_some_and(|file| Path::new(file).starts_with(&self.folder))
        };
        let Some(own) = frames.iter().find(is_own) else { return false };
        self.leaks.iter().any(|leak| own["line"].as_u64() == Some(leak.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_specimen_tells_its_truth() {
        let all = all().unwrap();
        assert!(all.len() >= 40, "{}", all.len());
        for Specimen { name, truth, .. } in all {
            assert!(!truth.summary.is_empty(), "{name}");
            let domains = ["pymalloc", "malloc", "mmap"];
            assert_eq!(truth.leaks, domains.contains(&truth.domain.as_str()), "{name}");
            assert_eq!(truth.leaks, truth.rate.is_some_and(|rate| rate > 0.0), "{name}");
        }
    }

    #[test]
    fn the_first_own_line_counts() {
        let specimen = Specimen::open("dict_cache").unwrap();
        let own =
            |line| json!({"kind": "python", "file": specimen.folder.join("run.py"), "line": line});
        let library =
            json!({"kind": "python", "file": "/usr/lib/python3.12/json/decoder.py", "line": 1});
        let (leak, other) = (specimen.leaks[0].line, 1);
        assert!(specimen.is_culprit(&json!([library, own(leak), own(other)])));
        assert!(!specimen.is_culprit(&json!([library, own(other), own(leak)])));
        assert!(!specimen.is_culprit(&json!([library])));
    }
}
