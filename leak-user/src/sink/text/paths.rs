//! How files are called where their whole path says too much.

use crate::snapshot::Target;
use crate::snapshot::files::{in_packages, in_standard_library};

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
