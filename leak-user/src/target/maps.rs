//! `/proc/PID/maps`: which file lies where.

use crate::units::Addr;

/// One line of `/proc/PID/maps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: Addr,
    /// First address after it.
    pub end: Addr,
    /// May be read.
    pub readable: bool,
    /// May be written.
    pub writable: bool,
    /// May be executed.
    pub executable: bool,
    /// Offset of `start` in the file.
    pub offset: u64,
    /// The file, absent for anonymous memory.
    pub file: Option<FileId>,
    /// Path as the target sees it, or a name such as `[heap]`; empty for anonymous memory.
    pub path: String,
    /// The file has no name any more.
    pub deleted: bool,
}

/// Names a mapped file: device (major, minor) and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Major and minor device number.
    pub device: (u32, u32),
    /// Inode number.
    pub inode: u64,
}

impl Mapping {
    /// Does it hold the address?
    #[must_use]
    pub fn contains(&self, addr: Addr) -> bool {
        self.start <= addr && addr < self.end
    }

    /// The last part of its path.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// Reads the text of `/proc/PID/maps`; lines that make no sense are left out.
#[must_use]
pub fn parse(text: &str) -> Vec<Mapping> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Mapping> {
    let (range, rest) = line.split_once(' ')?;
    let (permissions, rest) = rest.split_once(' ')?;
    let (offset, rest) = rest.split_once(' ')?;
    let (device, rest) = rest.split_once(' ')?;
    // The path is padded to a column, may hold spaces, and may be absent.
    let (inode, path) = rest.split_once(' ').unwrap_or((rest, ""));
    let path = path.trim_start_matches(' ');
    let (path, deleted) = match path.strip_suffix(" (deleted)") {
        Some(path) => (path, true),
        None => (path, false),
    };
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = range.split_once('-')?;
    let (start, end) = (hex(start)?, hex(end)?);
    let (major, minor) = device.split_once(':')?;
    let device = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let inode: u64 = inode.parse().ok()?;
    let permissions = permissions.as_bytes();
    let has = |flag| permissions.contains(&flag);
    (start < end && permissions.len() == 4).then(|| Mapping {
        start: Addr(start),
        end: Addr(end),
        readable: has(b'r'),
        writable: has(b'w'),
        executable: has(b'x'),
        offset: hex(offset).unwrap_or_default(),
        file: (inode != 0 && path.starts_with('/')).then_some(FileId { device, inode }),
        path: path.to_owned(),
        deleted,
    })
}

/// The mapping that holds an address; `mappings` in the order of `/proc/PID/maps`.
#[must_use]
pub fn at(mappings: &[Mapping], addr: Addr) -> Option<&Mapping> {
    let after = mappings.partition_point(|mapping| mapping.start <= addr);
    mappings.get(after.checked_sub(1)?).filter(|mapping| mapping.contains(addr))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "\
00400000-0041f000 r--p 00000000 fe:00 1234                               /usr/bin/python3.11
0041f000-006d2000 r-xp 0001f000 fe:00 1234                               /usr/bin/python3.11
01000000-01021000 rw-p 00000000 00:00 0                                  [heap]
7f0000000000-7f0000001000 rw-p 00000000 00:00 0 
7f0000002000-7f0000003000 r-xs 00001000 103:0a 99       /srv/my app/lib x.so (deleted)
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

    #[test]
    fn reads_files_names_and_anonymous_memory() {
        let maps = parse(TEXT);
        assert_eq!(maps.len(), 6);
        assert_eq!(maps[1].path, "/usr/bin/python3.11");
        assert_eq!(maps[1].file_name(), "python3.11");
        assert_eq!(maps[1].offset, 0x1f000);
        assert!(maps[1].executable && maps[1].readable && !maps[1].writable);
        assert_eq!(maps[1].file, Some(FileId { device: (0xfe, 0), inode: 1234 }));
        assert_eq!((maps[2].path.as_str(), maps[2].file), ("[heap]", None));
        assert_eq!((maps[3].path.as_str(), maps[3].file), ("", None));
        assert_eq!(maps[4].path, "/srv/my app/lib x.so");
        assert!(maps[4].deleted && !maps[1].deleted);
        assert_eq!(maps[4].file, Some(FileId { device: (0x103, 10), inode: 99 }));
    }

    #[test]
    fn finds_the_mapping_of_an_address() {
        let maps = parse(TEXT);
        let start = |addr| at(&maps, Addr(addr)).map(|m| m.start.0);
        assert_eq!(start(0x0041_f000), Some(0x0041_f000));
        assert_eq!(start(0x0041_efff), Some(0x0040_0000));
        assert_eq!(start(0x006d_2000), None);
        assert_eq!(start(0), None);
    }

    #[test]
    fn reads_this_process() {
        let maps = parse(&std::fs::read_to_string("/proc/self/maps").expect("own maps"));
        let here = Addr(reads_this_process as fn() as usize as u64);
        assert!(at(&maps, here).expect("own code is mapped").executable);
    }

    proptest! {
        #[test]
        fn survives_anything(text in "[ -~\n\u{e9}]{0,400}") {
            for mapping in parse(&text) {
                prop_assert!(mapping.start < mapping.end);
            }
        }

        #[test]
        fn a_line_comes_back(start in 0_u64..1 << 46, pages in 1_u64..1 << 20, offset: u64,
                             major in 0_u32..4096, minor: u32, inode in 1_u64..,
                             path in "/[a-z /]{0,40}[a-z]") {
            let end = start + pages * 4096;
            let text = format!(
                "{start:08x}-{end:08x} r-xp {offset:08x} {major:02x}:{minor:02x} {inode} {path}\n"
            );
            let maps = parse(&text);
            prop_assert_eq!(maps.len(), 1);
            prop_assert_eq!((maps[0].start.0, maps[0].end.0, maps[0].offset), (start, end, offset));
            prop_assert_eq!(maps[0].file, Some(FileId { device: (major, minor), inode }));
            prop_assert_eq!(&maps[0].path, &path);
        }
    }
}
