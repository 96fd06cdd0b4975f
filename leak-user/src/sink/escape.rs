//! Text from the target, made safe to show.
//!
//! Names, paths, source lines and arguments are whatever the target (or who feeds it) chose. A
//! terminal obeys some characters, and others make text look like what it is not; both are replaced
//! by the escapes that Python would print.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Is it a character that a terminal obeys, or that is not seen, or that reorders what is?
#[must_use]
pub const fn is_unsafe(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' // C0, DEL, C1 (U+009B starts a control sequence)
        | '\u{ad}' | '\u{34f}' | '\u{61c}' // soft hyphen, grapheme joiner, Arabic letter mark
        | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}' // fillers
        | '\u{180b}'..='\u{180f}' // Mongolian selectors
        | '\u{200b}'..='\u{200f}' // zero width, direction marks
        | '\u{2028}'..='\u{202e}' // line and paragraph separators, bidi embeddings and overrides
        | '\u{2060}'..='\u{206f}' // word joiner, invisible operators, bidi isolates
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' // variation selectors, byte order mark
        | '\u{fff9}'..='\u{fffb}' // interlinear annotation
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' // shorthand and music controls
        | '\u{e0000}'..='\u{e0fff}' // tags, more variation selectors
    )
}

/// The text with each unsafe character written as `\n`, `\t`, `\r`, `\x1b`, `\u202e` or
/// `\U000e0041`. Backslashes stay as they are: this is for eyes, not for parsing.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        let code = u32::from(c);
        // Writing to a String cannot fail.
        let _ = match c {
            '\n' => safe.write_str("\\n"),
            '\t' => safe.write_str("\\t"),
            '\r' => safe.write_str("\\r"),
            c if !is_unsafe(c) => safe.write_char(c),
            _ if code < 0x100 => write!(safe, "\\x{code:02x}"),
            _ if code < 0x1_0000 => write!(safe, "\\u{code:04x}"),
            _ => write!(safe, "\\U{code:08x}"),
        };
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn harmless_text_is_not_touched() {
        for text in ["", "/srv/app.py", r"C:\x", "naïve_größe", "关于", "λ → ∞", "ผู้ใช้"]
        {
            assert!(matches!(escape(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn what_terminals_obey_becomes_visible() {
        assert_eq!(escape("a\nb\tc\rd"), "a\\nb\\tc\\rd");
        assert_eq!(escape("\x1b[2J\u{7}"), "\\x1b[2J\\x07");
        assert_eq!(escape("\u{9b}31m\u{7f}"), "\\x9b31m\\x7f");
        assert_eq!(escape("user\u{202e}yp.ppa"), "user\\u202eyp.ppa");
        assert_eq!(escape("a\u{200b}b\u{feff}"), "a\\u200bb\\ufeff");
        assert_eq!(escape("\u{e0041}"), "\\U000e0041");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(text in any::<String>()) {
            let safe = escape(&text);
            prop_assert!(!safe.chars().any(|c| c.is_control() || is_unsafe(c)));
            prop_assert_eq!(escape(&safe), safe.as_ref());
        }
    }
}
