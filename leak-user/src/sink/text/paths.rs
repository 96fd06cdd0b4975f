//! Files: whose they are, and how they are called where their whole path says too much.

use crate::snapshot::Target;

/// Shows the files of one process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paths<'a> {
    /// Its working directory.
    cwd: Option<&'a str>,
}

impl<'a> Paths<'a> {
    pub(super) fn of(target: &'a Target) -> Self {
        Self { cwd: target.cwd.as_deref().filter(|cwd| !cwd.trim_matches('/').is_empty()) }
    }

    /// As imports name it where it is a library's, relative to the working directory where it is
    /// below that, else whole.
    pub(super) fn short<'f>(&self, file: &'f str) -> &'f str {
        let library = in_packages(file).or_else(|| in_standard_library(file));
        let below = |cwd: &str| file.strip_prefix(cwd)?.strip_prefix('/');
        library.or_else(|| self.cwd.and_then(below)).filter(|s| !s.is_empty()).unwrap_or(file)
    }
}

/// The package that an installed file belongs to.
pub(super) fn package(file: &str) -> Option<&str> {
    let within = in_packages(file)?;
    let first = within.split('/').next().unwrap_or(within);
    Some(first.strip_suffix(".py").unwrap_or(first))
}

/// Is it of the standard library, or of no file?
pub(super) fn is_standard(file: &str) -> bool {
    file.starts_with('<') || (in_packages(file).is_none() && in_standard_library(file).is_some())
}

/// Is it compiled code of the system, of the interpreter, or of a language's own library? By the path of the module or of the
/// source, as its compiler saw it.
pub(super) fn is_system(file: &str) -> bool {
    const PLACES: [&str; 5] = ["/usr/", "/lib/", "/lib64/", "/rustc/", "/nix/store/"];
    PLACES.iter().any(|place| file.starts_with(place)) && !file.starts_with("/usr/local/")
        || file.rsplit('/').next().is_some_and(|name| name.starts_with("libpython3"))
        || file.contains("/.cargo/registry/")
        || file.contains("/rustlib/")
}

fn in_packages(file: &str) -> Option<&str> {
    let split = |directory| Some(file.rsplit_once(directory)?.1);
    split("/site-packages/").or_else(|| split("/dist-packages/"))
}

/// What follows `…/lib/python3.12/`.
fn in_standard_library(file: &str) -> Option<&str> {
    file.match_indices("/python3").find_map(|(at, _)| {
        let library = file[..at].ends_with("/lib") || file[..at].ends_with("/lib64");
        library.then(|| file[at + 1..].split_once('/'))?.map(|(_, within)| within)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_by_what_tells_them_apart() {
        let paths = Paths { cwd: Some("/srv/shop") };
        for (file, shown) in [
            ("/srv/shop/app/views.py", "app/views.py"),
            ("/srv/shopping/views.py", "/srv/shopping/views.py"),
            (
                "/srv/shop/venv/lib/python3.12/site-packages/fastapi/routing.py",
                "fastapi/routing.py",
            ),
            ("/usr/lib/python3/dist-packages/six.py", "six.py"),
            ("/usr/lib64/python3.11/json/decoder.py", "json/decoder.py"),
            ("/srv/shop", "/srv/shop"),
            ("/srv/shop/", "/srv/shop/"),
            ("<frozen runpy>", "<frozen runpy>"),
            ("", ""),
        ] {
            assert_eq!(paths.short(file), shown);
        }
        assert_eq!(Paths { cwd: None }.short("/srv/a.py"), "/srv/a.py");
    }
}
