//! How large an object is, by its own words: `sys.getsizeof` without what it owns elsewhere.

use crate::heap::types::TypeHead;
use crate::target::layout::Layout;

/// Bytes of an object that are looked at: up to and with a text's state.
pub const LOOK: usize = 48;

/// No object has more items than fit into memory.
const MAX_ITEMS: u64 = 1 << 40;

/// From this version on the size word of an int holds three bits beside its digits (`lv_tag`).
pub const TAGGED_INTS: (u8, u8) = (3, 12);

/// Bytes of an object of a type, with what is before it. None where it says nothing that could be.
///
/// `_PyObject_SIZE`, `_PyObject_VAR_SIZE`; `unicode_sizeof` in `Objects/unicodeobject.c`.
pub fn size(layout: &Layout, head: &TypeHead, object: &[u8; LOOK]) -> Option<u64> {
    let word = |at: u64| {
        let bytes = object.get(usize::try_from(at).ok()?..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    };
    let length = word(layout.object.size)?;
    let plausible = |items: u64| (items <= MAX_ITEMS).then_some(items);
    if head.is_str() {
        let state = word(layout.unicode.state)? as u32 >> layout.unicode.kind;
        let (width, is_compact, is_ascii) = (u64::from(state & 7), state & 8 != 0, state & 16 != 0);
        if is_compact {
            let data =
                if is_ascii { layout.unicode.ascii_data } else { layout.unicode.compact_data };
            return Some(head.header + data + (plausible(length)? + 1) * width);
        }
        return Some(head.header + head.basicsize);
    }
    let items = match head.itemsize {
        0 => 0,
        _ if head.is_int() && layout.version >= TAGGED_INTS => length >> 3,
        // Before that the sign of an int is its size's.
        _ => length.cast_signed().unsigned_abs(),
    };
    Some(head.header + head.basicsize + head.itemsize * plausible(items)?)
}
