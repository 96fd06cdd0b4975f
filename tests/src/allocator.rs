//! Allocators that tests put in the place of the C library's, unpacked by `cargo xtask setup`.

use crate::interpreter::root;
use std::fs;
use std::path::PathBuf;

/// An allocator of Debian's.
#[derive(Debug, Clone, Copy)]
pub struct Allocator {
    /// As leaktrace names it.
    pub name: &'static str,
    /// Packages that hold it, by release; the first that can be had is taken.
    pub packages: &'static [&'static str],
    /// How its library's name begins.
    library: &'static str,
}

/// All of them.
pub const ALL: [Allocator; 3] = [
    Allocator { name: "jemalloc", packages: &["libjemalloc2"], library: "libjemalloc.so." },
    Allocator {
        name: "tcmalloc (gperftools)",
        packages: &["libtcmalloc-minimal4", "libtcmalloc-minimal4t64"],
        library: "libtcmalloc_minimal.so.",
    },
    Allocator {
        name: "mimalloc",
        packages: &["libmimalloc2.0", "libmimalloc3"],
        library: "libmimalloc.so.",
    },
];

/// Where the packages are unpacked.
pub fn home() -> PathBuf {
    root().join(".venv/allocators")
}

impl Allocator {
    /// Its library, if it is there.
    pub fn find(&self) -> Option<PathBuf> {
        let folder = fs::read_dir(home().join("usr/lib/x86_64-linux-gnu")).ok()?;
        let mut files: Vec<_> = folder.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        let is_it = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(self.library))
        };
        files.into_iter().find(is_it)
    }
}
