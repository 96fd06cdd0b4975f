//! CPython's location table (3.11 and later): which line a byte offset into the bytecode belongs to.
//!
//! Format: CPython's `Objects/locations.md`. A table is a row of entries; each covers 1 to 8 code
//! units (2 bytes each) and says how far the line moves.

/// Bytes of a code unit.
const UNIT: u64 = 2;

/// A stretch of bytecode and its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Its first byte offset.
    pub start: u64,
    /// The byte offset after its last one.
    pub end: u64,
    /// Its line; None for bytecode that belongs to no line.
    pub line: Option<u32>,
}

/// The line of a byte offset; None outside the table, or where the bytecode there has no line.
#[must_use]
pub fn line(table: &[u8], first_line: u32, byte_offset: u64) -> Option<u32> {
    ranges(table, first_line).find(|range| byte_offset < range.end)?.line
}

/// The stretches of a table, in order, without gaps; ends where the table is malformed.
pub fn ranges(table: &[u8], first_line: u32) -> impl Iterator<Item = Range> {
    Ranges { rest: table, line: first_line.into(), start: 0 }
}

struct Ranges<'a> {
    rest: &'a [u8],
    line: i64,
    start: u64,
}

impl Iterator for Ranges<'_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        let first = self.byte()?;
        let units = u64::from(first & 7) + 1;
        let mut has_line = true;
        match (first >> 3) & 15 {
            0..=9 => self.skip(1)?,
            code @ 10..=12 => {
                self.advance(i64::from(code) - 10);
                self.skip(2)?;
            }
            13 => {
                let delta = self.signed()?;
                self.advance(delta);
            }
            14 => {
                let delta = self.signed()?;
                self.advance(delta);
                for _ in ["end line", "column", "end column"] {
                    self.number()?;
                }
            }
            _ => has_line = false,
        }
        let start = self.start;
        self.start += units * UNIT;
        let line = if has_line { u32::try_from(self.line).ok() } else { None };
        Some(Range { start, end: self.start, line })
    }
}

impl Ranges<'_> {
    fn advance(&mut self, delta: i64) {
        self.line = self.line.saturating_add(delta);
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.rest = self.rest.get(bytes..)?;
        Some(())
    }

    /// 6 bits a byte, the lowest first; bit 6 says that more follow. At most 32 bits are used.
    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..36).step_by(6) {
            let byte = self.byte()?;
            value |= u64::from(byte & 63) << shift;
            if byte & 64 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// The sign is in the lowest bit.
    fn signed(&mut self) -> Option<i64> {
        let value = self.number()?;
        let magnitude = i64::try_from(value >> 1).ok()?;
        Some(if value & 1 == 0 { magnitude } else { -magnitude })
    }
}

#[cfg(test)]
#[path = "linetable_tests.rs"]
mod tests;
