//! Text laid out for a terminal. All that is written goes through [`Line::paint`], which escapes it:
//! the only control characters on a page are its newlines and its own colours.

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthChar as _;

use super::Terminal;
use super::escape::escape;

/// How a piece of text looks where colour is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    Bold,
    Dim,
    Bad,
    Good,
    Doubt,
    Own,
}

impl Paint {
    fn style(self) -> Style {
        let colour = |c: AnsiColor| Style::new().fg_color(Some(c.into()));
        match self {
            Self::Plain => Style::new(),
            Self::Bold => Style::new().bold(),
            Self::Dim => Style::new().dimmed(),
            Self::Bad => colour(AnsiColor::Red).bold(),
            Self::Good => colour(AnsiColor::Green).bold(),
            Self::Doubt => colour(AnsiColor::Yellow).bold(),
            Self::Own => colour(AnsiColor::Cyan),
        }
    }
}

/// A line in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    spans: Vec<(Paint, String)>,
    width: usize,
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self::default().plain(text)
    }
}

impl Line {
    /// Adds text, escaped.
    pub(crate) fn paint(mut self, paint: Paint, text: &str) -> Self {
        let safe = escape(text).into_owned();
        self.width += width(&safe);
        match self.spans.last_mut() {
            Some((last, text)) if *last == paint => text.push_str(&safe),
            _ => self.spans.push((paint, safe)),
        }
        self
    }

    /// Adds text without a look of its own.
    pub(crate) fn plain(self, text: &str) -> Self {
        self.paint(Paint::Plain, text)
    }

    /// Adds spaces up to a column; at least one where something stands already.
    pub(crate) fn column(self, column: usize) -> Self {
        let missing = column.saturating_sub(self.width).max(usize::from(self.width > 0));
        self.plain(&" ".repeat(missing))
    }

    /// Columns that it takes.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// As one string, cut to the terminal's width, without a newline.
    pub(crate) fn render(&self, terminal: Terminal) -> String {
        let mut out = String::new();
        let mut room = terminal.width;
        let cut = self.width > room;
        if cut {
            room = room.saturating_sub(1);
        }
        for (paint, text) in &self.spans {
            let piece = fitting(text, room);
            room -= width(piece).min(room);
            let style = paint.style();
            if terminal.colour && *paint != Paint::Plain && !piece.is_empty() {
                out.push_str(&format!("{style}{piece}{style:#}"));
            } else {
                out.push_str(piece);
            }
            if piece.len() < text.len() {
                break;
            }
        }
        if cut {
            out.push('…');
        }
        out
    }
}

/// Lines, one below the other.
#[derive(Debug)]
pub(crate) struct Page {
    terminal: Terminal,
    out: String,
}

impl Page {
    pub(crate) fn new(terminal: Terminal) -> Self {
        Self { terminal, out: String::new() }
    }

    /// Columns.
    pub(crate) fn width(&self) -> usize {
        self.terminal.width
    }

    /// Adds a line, cut where it does not fit.
    pub(crate) fn line(&mut self, line: &Line) {
        let rendered = line.render(self.terminal);
        self.out.push_str(rendered.trim_end_matches(' '));
        self.out.push('\n');
    }

    /// Adds an empty line.
    pub(crate) fn blank(&mut self) {
        self.out.push('\n');
    }

    /// Adds text after `start`, broken between words; further lines begin below where it began. A
    /// word that does not fit (a path) is shortened in its middle.
    pub(crate) fn wrapped(&mut self, start: Line, paint: Paint, text: &str) {
        let indent = start.width();
        // A sentence over the whole of a wide terminal is hard to read.
        let end = self.terminal.width.min(indent.max(20) + 90);
        let room = end.saturating_sub(indent).max(10);
        let mut line = start;
        let mut used = 0;
        for word in words(text) {
            let word = shorten(&word, room);
            let width = width(&word);
            if used > 0 && used + 1 + width > room {
                self.line(&line);
                line = Line::default().plain(&" ".repeat(indent));
                used = 0;
            }
            if used > 0 {
                line = line.paint(paint, " ");
                used += 1;
            }
            line = line.paint(paint, &word);
            used += width;
        }
        self.line(&line);
    }

    /// The whole page.
    pub(crate) fn finish(self) -> String {
        self.out
    }
}

/// The words of a text; a number and its unit are one.
fn words(text: &str) -> Vec<String> {
    const UNITS: [&str; 13] =
        ["%", "B", "KiB", "MiB", "GiB", "TiB", "PiB", "ns", "ms", "s", "min", "h", "days"];
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let unit = word.trim_end_matches(|c: char| c.is_ascii_punctuation() && c != '%');
        let unit = unit.split('/').next().unwrap_or(unit);
        match words.last_mut() {
            Some(last) if last.ends_with(|c: char| c.is_ascii_digit()) && UNITS.contains(&unit) => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    words
}

/// Columns that text takes, character by character: a terminal may draw a sequence narrower, and
/// which one does cannot be known.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// As much of the start of `text` as fits.
fn fitting(text: &str, room: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > room {
            return &text[..at];
        }
    }
    text
}

/// As much of the end of `text` as fits.
fn fitting_end(text: &str, room: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices().rev() {
        used += c.width().unwrap_or(0);
        if used > room {
            return &text[at + c.len_utf8()..];
        }
    }
    text
}

/// Text that fits, escaped: what is too long loses its middle. A path keeps its first part and as
/// many of its last ones as there is room for.
pub(crate) fn shorten(text: &str, room: usize) -> String {
    let text = escape(text);
    if width(&text) <= room {
        return text.into_owned();
    }
    if let Some(path) = shorten_path(&text, room) {
        return path;
    }
    if room < 8 {
        return format!("{}…", fitting(&text, room.saturating_sub(1)));
    }
    let head = (room - 1) / 3;
    let start = fitting(&text, head);
    format!("{start}…{}", fitting_end(&text, room - 1 - width(start)))
}

fn shorten_path(path: &str, room: usize) -> Option<String> {
    let first =
        path.char_indices().filter(|&(at, c)| c == '/' && at > 0).map(|(at, _)| at).next()?;
    let with = |head: &str| {
        let left = room.checked_sub(width(head) + 1)?;
        // From the longest tail to the shortest.
        let tail = path
            .match_indices('/')
            .map(|(at, _)| &path[at..])
            .find(|tail| tail.len() < path.len() - head.len() && width(tail) <= left)?;
        Some(format!("{head}…{tail}"))
    };
    with(&path[..=first]).or_else(|| with(""))
}

/// `file:line`, the file shortened to fit; the file alone where the line is unknown (0).
pub(crate) fn location(file: &str, line: u32, room: usize) -> String {
    let line = if line == 0 { String::new() } else { format!(":{line}") };
    let file = if file.is_empty() { "?" } else { file };
    format!("{}{line}", shorten(file, room.saturating_sub(line.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TERMINAL: Terminal = Terminal { width: 40, colour: true };

    #[test]
    fn paths_lose_their_middle() {
        let path = "/srv/shop/backend/handlers/cart.py";
        assert_eq!(shorten(path, 40), path);
        assert_eq!(shorten(path, 30), "/srv/…/backend/handlers/cart.py".replace("/backend", ""));
        assert_eq!(shorten(path, 20), "/srv/…/cart.py");
        assert_eq!(shorten(path, 10), "…/cart.py");
        assert_eq!(shorten("abcdefghijklmnop", 9), "ab…klmnop");
        assert_eq!(location("/srv/app.py", 8, 40), "/srv/app.py:8");
        assert_eq!(location("/srv/app.py", 0, 40), "/srv/app.py");
        assert_eq!(location("", 0, 40), "?");
    }

    #[test]
    fn words_are_wrapped_below_their_start() {
        let mut page = Page::new(Terminal { width: 40, colour: false });
        page.wrapped(
            Line::from("  why  "),
            Paint::Plain,
            "one two three four five six seven eight",
        );
        assert_eq!(page.finish(), "  why  one two three four five six seven\n       eight\n");
    }

    #[test]
    fn colours_are_closed_even_when_cut() {
        let line = Line::default().paint(Paint::Bad, &"x".repeat(100));
        let shown = line.render(TERMINAL);
        assert!(shown.starts_with("\x1b[") && shown.contains("\x1b[0m…"), "{shown:?}");
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_the_page(text in any::<String>(), width in 40_usize..120) {
            let terminal = Terminal { width, colour: false };
            let mut page = Page::new(terminal);
            page.line(&Line::from(text.as_str()));
            page.wrapped(Line::from("    why  "), Paint::Dim, &text);
            page.line(&Line::from(location(&text, 7, width).as_str()));
            for line in page.finish().lines() {
                prop_assert!(super::width(line) <= width, "{line:?}");
                prop_assert!(!line.chars().any(char::is_control));
            }
        }

        #[test]
        fn shortened_text_fits(text in "[a-z/关.]{0,60}", room in 4_usize..60) {
            prop_assert!(width(&shorten(&text, room)) <= room);
        }
    }
}
