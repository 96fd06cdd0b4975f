//! Where functions lie, by the index of the tables for unwinding (`.eh_frame_hdr`): it is there in stripped
//! files, too, and has the parts of functions that compilers have put elsewhere.
//!
//! Layout: Linux Standard Base, "The .eh_frame_hdr section", in the one form that linkers write: a table of
//! pairs of signed 32-bit distances from the section's start, sorted.

use std::ops::Range;

/// `DW_EH_PE_pcrel | DW_EH_PE_sdata4`, `DW_EH_PE_udata4`, `DW_EH_PE_datarel | DW_EH_PE_sdata4`.
const FORM: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

/// Up to where the next function begins, a function is taken to reach. Functions with no table of their own
/// are taken for part of the one before.
#[must_use]
pub fn function_at(section: &[u8], section_address: u64, address: u64) -> Option<Range<u64>> {
    if !section.starts_with(&FORM) {
        return None;
    }
    let count = u32::from_le_bytes(section.get(8..12)?.try_into().ok()?) as usize;
    let table = section.get(12..)?;
    let (entries, _) = table.as_chunks::<8>();
    let entries = entries.get(..count).unwrap_or(entries);
    let start = |entry: &[u8; 8]| {
        let [a, b, c, d, ..] = *entry;
        section_address.wrapping_add_signed(i32::from_le_bytes([a, b, c, d]).into())
    };
    let after = entries.partition_point(|entry| start(entry) <= address);
    let first = start(entries.get(after.checked_sub(1)?)?);
    let end = start(entries.get(after)?);
    (first <= address && address < end).then_some(first..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::elf::Elf;
    use std::path::Path;

    #[test]
    fn finds_functions_of_this_executable() {
        let elf = Elf::open(Path::new("/proc/self/exe")).expect("own executable");
        let (at, section) = elf.section_data(".eh_frame_hdr").expect("a table");
        let main = elf.symbol("main").expect("a main function");
        for into in [0, main.size / 2, main.size - 1] {
            let found = function_at(&section, at, main.address + into).expect("a function");
            assert_eq!(found.start, main.address);
            assert!(found.end >= main.address + main.size);
        }
        assert_eq!(function_at(&section, at, 0), None);
        assert_eq!(function_at(&section, at, u64::MAX), None);
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_survived(mut bytes: Vec<u8>, at: u64, address: u64) {
            bytes.splice(..0, FORM);
            if let Some(found) = function_at(&bytes, at, address) {
                proptest::prop_assert!(found.contains(&address));
            }
        }
    }
}
