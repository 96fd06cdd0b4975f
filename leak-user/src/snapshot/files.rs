//! Whose a file is: the user's, an installed package's, the standard library's, the system's.

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

/// Of a stack's files, the first that is the user's own Python code, by its place; None stands for compiled code. An
/// application that is itself installed as a package has none outside the packages: then theirs count.
#[must_use]
pub fn own_line(files: &[Option<&str>]) -> Option<usize> {
    let outside =
        || files.iter().enumerate().filter(|(_, file)| file.is_some_and(|file| !is_standard(file)));
    let own = outside().find(|(_, file)| file.and_then(package).is_none());
    own.or_else(|| outside().next()).map(|(place, _)| place)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_where_they_lie() {
        let (json, six) =
            ("/usr/lib/python3.11/json/decoder.py", "/usr/lib/python3/dist-packages/six.py");
        let cart = "/srv/lib/python3.11/site-packages/shop/cart.py";
        assert_eq!([package(json), package(six), package(cart)], [None, Some("six"), Some("shop")]);
        assert_eq!(
            [json, six, cart, "/srv/app.py", "<frozen runpy>"].map(is_standard),
            [true, false, false, false, true]
        );
        assert_eq!(own_line(&[None, Some(json), Some(six), Some("/srv/app.py")]), Some(3));
        assert_eq!(own_line(&[None, Some(json), Some(cart), Some(six)]), Some(2));
        assert_eq!(own_line(&[None, Some(json)]), None);
    }
}
