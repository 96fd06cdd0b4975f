//! Interpreters of other releases of Debian, each release under a root of its own below `.venv`.
//!
//! Packages are unpacked, not installed: the machine's own packages and apt settings stay as they are. Their
//! signatures are checked; only the date up to which a mirror's list is valid is not, since mirrors lag.

use super::say;
use crate::step;
use anyhow::{Context as _, Result, bail};
use leak_tests::interpreter;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const APT_LIMIT: Duration = Duration::from_secs(300);
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Unpacks what isn't there yet. A release that can't be had is said, and its tests are skipped.
pub fn interpreters() -> Result<()> {
    let mut suites: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in interpreter::BARE {
        if let Some(suite) = interpreter::suite(name) {
            suites.entry(suite).or_default().push(name);
        }
    }
    for (suite, names) in suites {
        let ready = || names.iter().all(|name| interpreter::find(name).is_some());
        let unpacked = if ready() { Ok(()) } else { unpack(suite, &names) };
        for name in &names {
            match interpreter::find(name) {
                Some(found) => say(
                    "Python",
                    format_args!("{name}: Debian's, of {suite}, {}", found.path.display()),
                ),
                None => say("Python", format_args!("{name}: can't be had, its tests are skipped")),
            }
        }
        if let Err(error) = unpacked {
            say("Python", format_args!("{suite}: {error:#}"));
        }
    }
    Ok(())
}

fn unpack(suite: &str, names: &[&str]) -> Result<()> {
    let Some(first) = names.first() else { return Ok(()) };
    let root = interpreter::home(first);
    let mirror = mirror().context("no mirror of Debian in apt's sources")?;
    let folder = tempfile::tempdir()?;
    let settings = settings(folder.path(), &format!("deb MIRROR {suite}"), &mirror)?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.arg("-qq").arg("-c").arg(&settings).args(arguments);
        step::run_quietly(&mut command, APT_LIMIT)
    };
    say(
        "Python",
        format_args!("{}: unpacks {suite}'s packages to {}", names.join(", "), root.display()),
    );
    apt(&["update"])?;
    let package =
        |name: &&str| name.replacen("debian", "python", 1).replacen("shared", "libpython", 1);
    let packages: Vec<String> = names.iter().map(package).collect();
    let mut install =
        vec!["install", "-y", "--download-only", "--no-install-recommends", "base-files"];
    install.extend(packages.iter().map(String::as_str));
    apt(&install)?;
    // Whole or not at all.
    let unpacked = root.with_extension("new");
    for old in [&unpacked, &root] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    fs::create_dir_all(&unpacked)?;
    let archives = fs::read_dir(folder.path().join("cache/archives"))?;
    let mut packages: Vec<PathBuf> =
        archives.filter_map(|entry| Some(entry.ok()?.path())).collect();
    packages.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    // base-files and usrmerge's links first, so that nothing is unpacked beside them.
    packages.sort_by_key(|path| !path.to_string_lossy().contains("/base-files_"));
    if packages.is_empty() {
        bail!("nothing was downloaded");
    }
    for package in packages {
        step::run_quietly(Command::new("dpkg").arg("-x").arg(package).arg(&unpacked), APT_LIMIT)?;
    }
    for name in names.iter().filter(|name| name.starts_with("shared")) {
        if let Err(error) = build_launcher(&unpacked, name) {
            say("Python", format_args!("{name}: {error:#}"));
        }
    }
    fs::rename(&unpacked, &root)?;
    Ok(())
}

/// A program that runs a shared library of Python's, as those do that embed it.
fn build_launcher(root: &Path, name: &str) -> Result<()> {
    const SOURCE: &str = "int Py_BytesMain(int, char **);\n\
                          int main(int count, char **words) { return Py_BytesMain(count, words); }\n";
    let version = name.trim_start_matches("shared");
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let source = tempfile::Builder::new().suffix(".c").tempfile()?;
    fs::write(&source, SOURCE)?;
    let executable = interpreter::executable(name);
    let mut compile = Command::new("cc");
    compile.arg("-o").arg(root.join(executable.strip_prefix("/")?)).arg(source.path());
    compile.arg(libraries.join(format!("libpython{version}.so.1.0")));
    // Its own libraries are this machine's in name alone.
    compile.arg("-Wl,--unresolved-symbols=ignore-in-shared-libs");
    step::run_quietly(&mut compile, APT_LIMIT)
}

/// Settings of apt that touch nothing outside the folder, for what a line such as `deb MIRROR suite` names.
pub fn settings(folder: &Path, line: &str, mirror: &str) -> Result<PathBuf> {
    for path in ["etc/apt.conf.d", "etc/preferences.d", "etc/sources.list.d", "state/lists/partial"]
    {
        fs::create_dir_all(folder.join(path))?;
    }
    fs::create_dir_all(folder.join("cache/archives/partial"))?;
    fs::write(folder.join("status"), "")?;
    fs::write(
        folder.join("etc/sources.list"),
        line.replace("MIRROR", &format!("[signed-by={KEYRING}] {mirror}")) + " main\n",
    )?;
    let at = folder.display();
    let settings = folder.join("apt.conf");
    fs::write(
        &settings,
        format!(
            "Dir::Etc \"{at}/etc\"; Dir::Etc::SourceList \"{at}/etc/sources.list\";\n\
             Dir::Etc::SourceParts \"{at}/etc/sources.list.d\"; Dir::State \"{at}/state\";\n\
             Dir::State::status \"{at}/status\"; Dir::Cache \"{at}/cache\";\n\
             APT::Sandbox::User \"root\"; Acquire::Languages \"none\";\n\
             Acquire::Check-Valid-Until \"false\";\n"
        ),
    )?;
    Ok(settings)
}

/// The mirror that apt uses for Debian itself.
pub fn mirror() -> Option<String> {
    ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .find_map(|text| mirror_in(&text))
}

/// `URIs: MIRROR` of one form of the file, `deb [options] MIRROR suite` of the other.
fn mirror_in(text: &str) -> Option<String> {
    let lines = text.lines().filter(|line| line.starts_with("URIs:") || line.starts_with("deb "));
    let words = lines.filter_map(|line| line.split_whitespace().find(|word| word.contains("://")));
    words.filter(|mirror| !mirror.contains("security")).map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_that_is_not_for_security() {
        let sources =
            "Types: deb\nURIs: http://one.test/debian-security\n\nURIs: http://two.test/debian\n";
        assert_eq!(mirror_in(sources).as_deref(), Some("http://two.test/debian"));
        let list = "# deb http://no.test/debian x\ndeb [arch=amd64] http://three.test/debian bookworm main\n";
        assert_eq!(mirror_in(list).as_deref(), Some("http://three.test/debian"));
        assert_eq!(mirror_in(""), None);
    }
}
