//! Whose a file is: the user's, an installed package's, the standard library's, the system's.

use super::stacks::{Frame, PyFrame};

/// The package that an installed file belongs to.
#[must_use]
pub fn package(file: &str) -> Option<&str> {
    let within = in_packages(file)?;
    let first = within.split('/').next().unwrap_or(within);
    Some(first.strip_suffix(".py").unwrap_or(first))
}

/// Is it of the standard library, or of no file?
#[must_use]
pub fn is_standard(file: &str) -> bool {
    file.starts_with('<') || (in_packages(file).is_none() && in_standard_library(file).is_some())
}

/// Is it compiled code of the system, of the interpreter, or of a language's own library? By the path of the module or of the
/// source, as its compiler saw it.
#[must_use]
pub fn is_system(file: &str) -> bool {
    const PLACES: [&str; 5] = ["/usr/", "/lib/", "/lib64/", "/rustc/", "/nix/store/"];
    PLACES.iter().any(|place| file.starts_with(place)) && !file.starts_with("/usr/local/")
        || file.rsplit('/').next().is_some_and(|name| name.starts_with("libpython3"))
        || file.contains("/.cargo/registry/")
        || file.contains("/rustlib/")
}

/// What follows `…/site-packages/`.
#[must_use]
pub fn in_packages(file: &str) -> Option<&str> {
    let split = |directory| Some(file.rsplit_once(directory)?.1);
    split("/site-packages/").or_else(|| split("/dist-packages/"))
}

/// What follows `…/lib/python3.12/`.
#[must_use]
pub fn in_standard_library(file: &str) -> Option<&str> {
    file.match_indices("/python3").find_map(|(at, _)| {
        let library = file[..at].ends_with("/lib") || file[..at].ends_with("/lib64");
        library.then(|| file[at + 1..].split_once('/'))?.map(|(_, within)| within)
    })
}

/// The innermost line of the user's own Python code. An application that is itself installed as a package has none
/// outside the packages: then theirs count.
#[must_use]
pub fn own_line(frames: &[Frame]) -> Option<&PyFrame> {
    let outside =
        || frames.iter().filter_map(Frame::python).filter(|frame| !is_standard(&frame.file));
    outside().find(|frame| package(&frame.file).is_none()).or_else(|| outside().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn stack(files: &[&str]) -> Vec<Frame> {
        let frame = |file: &&str| {
            let (function, file) = (Arc::from("f"), Arc::from(*file));
            Frame::Python(Arc::new(PyFrame { function, file, line: 1 }))
        };
        files.iter().map(frame).collect()
    }

    fn own(frames: &[Frame]) -> Option<&str> {
        own_line(frames).map(|frame| &*frame.file)
    }

    #[test]
    fn the_users_own_line_is_outside_of_libraries() {
        let (json, package) = (
            "/usr/lib/python3.11/json/decoder.py",
            "/srv/lib/python3.11/site-packages/shop/cart.py",
        );
        assert_eq!(
            own(&stack(&[json, package, "/srv/app.py", "/srv/main.py"])),
            Some("/srv/app.py")
        );
        assert_eq!(own(&stack(&[json, package, json])), Some(package), "an installed application");
        assert_eq!(own(&stack(&[json, "<frozen runpy>"])), None);
    }
}
