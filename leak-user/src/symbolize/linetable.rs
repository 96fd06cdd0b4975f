//! CPython's tables of lines: which line a byte offset into the bytecode belongs to.
//!
//! Each of the three forms is a row of entries that cover a stretch of bytecode and say how far the line
//! moves. 3.11 and later: `Objects/locations.md`. 3.10: `Objects/lnotab_notes.txt` of that version. 3.9 and
//! before: the same file of those.

use crate::target::layout::Lines;

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
pub fn line(form: Lines, table: &[u8], first_line: u32, byte_offset: u64) -> Option<u32> {
    ranges(form, table, first_line).find(|range| byte_offset < range.end)?.line
}

/// The stretches of a table, in order, without gaps; ends where the table is malformed. What a
/// [`Lines::Lnotab`] says last goes on to the end of the bytecode, which it does not tell.
pub fn ranges(form: Lines, table: &[u8], first_line: u32) -> impl Iterator<Item = Range> {
    Ranges { form, rest: table, line: first_line.into(), start: 0 }
}

struct Ranges<'a> {
    form: Lines,
    rest: &'a [u8],
    line: i64,
    start: u64,
}

impl Iterator for Ranges<'_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        match self.form {
            Lines::Lnotab => self.before_3_10(),
            Lines::Pairs => self.in_3_10(),
            Lines::Locations => self.since_3_11(),
        }
    }
}

impl Ranges<'_> {
    /// Pairs of (bytes, lines): after so many bytes, the line moves by so many.
    fn before_3_10(&mut self) -> Option<Range> {
        let start = self.start;
        while let Some((bytes, lines)) = self.pair() {
            let line = u32::try_from(self.line).ok();
            self.start += u64::from(bytes);
            self.advance(lines.into());
            if bytes > 0 {
                return Some(Range { start, end: self.start, line });
            }
        }
        self.start = u64::MAX;
        let line = u32::try_from(self.line).ok();
        (start < u64::MAX).then_some(Range { start, end: u64::MAX, line })
    }

    /// Pairs of (bytes, lines): the line moves by so many, then holds for so many bytes; -128: no line.
    fn in_3_10(&mut self) -> Option<Range> {
        let (bytes, lines) = self.pair()?;
        let has_line = lines != i8::MIN;
        if has_line {
            self.advance(lines.into());
        }
        let start = self.start;
        self.start += u64::from(bytes);
        let line = if has_line { u32::try_from(self.line).ok() } else { None };
        Some(Range { start, end: self.start, line })
    }

    fn since_3_11(&mut self) -> Option<Range> {
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

    fn pair(&mut self) -> Option<(u8, i8)> {
        let bytes = self.byte()?;
        Some((bytes, self.byte()?.cast_signed()))
    }

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
