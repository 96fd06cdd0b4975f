//! A table as a picture: one bar for each row, as long as what is left of the speed.

use anyhow::{Context as _, Result};
use std::fmt::Write as _;
use std::fs;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Bars of one group follow each other under its name.
    pub group: String,
    /// Its own name.
    pub name: String,
    /// Its length: 1 is the whole width.
    pub value: f64,
    /// The ends of the interval, if there is one.
    pub interval: Option<(f64, f64)>,
    /// To be seen first.
    pub stands_out: bool,
}

impl Bar {
    /// A row's bar: its speed and its interval as the cells have them, `0.990` and `0.981 to 0.998`. `None` without a
    /// speed.
    pub fn read(group: String, name: String, speed: &str, interval: &str) -> Option<Self> {
        let ends = interval.split_once(" to ");
        let interval = ends.and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
        Some(Self { group, name, value: speed.parse().ok()?, interval, stands_out: false })
    }
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 210.0;
/// Where 1 is.
const UNIT: f64 = 480.0;
const ROW: f64 = 20.0;
/// What goes on is not drawn.
const LONGEST: f64 = 1.05;

/// Draws them in order, to a file of docs/.
///
/// # Errors
/// If it can't be written.
pub fn write(file: &str, title: &str, bars: &[Bar]) -> Result<()> {
    let path = crate::step::root().join("docs").join(file);
    fs::write(&path, svg(title, bars)).with_context(|| format!("can't write {}", path.display()))
}

fn svg(title: &str, bars: &[Bar]) -> String {
    let mut body = String::new();
    let mut y = 40.0;
    let mut group = "";
    for bar in bars {
        if bar.group != group {
            group = &bar.group;
            y += ROW;
            text(&mut body, 10.0, y, "start", "bold", group);
        }
        y += ROW;
        let colour = if bar.stands_out { "#2458a6" } else { "#a9b4c2" };
        let length = UNIT * bar.value.clamp(0.0, LONGEST);
        text(&mut body, LEFT - 8.0, y, "end", "normal", &bar.name);
        let top = y - 13.0;
        let drawn = format!(
            "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"14\" fill=\"{colour}\"/>\n"
        );
        body += &drawn;
        if let Some((low, high)) = bar.interval {
            let at = |value: f64| LEFT + UNIT * value.clamp(0.0, LONGEST);
            let (from, to, middle) = (at(low), at(high), y - 6.0);
            let line = format!(
                "<path d=\"M{from:.1} {middle}H{to:.1}\" stroke=\"#1b1b1b\" stroke-width=\"1.5\"/>\n"
            );
            body += &line;
        }
        let end = LEFT + UNIT * LONGEST + 6.0;
        text(&mut body, end, y, "start", "normal", &format!("{:.3}", bar.value));
    }
    let (height, one) = (y + 30.0, LEFT + UNIT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(&mut svg, 10.0, 22.0, "start", "bold", title);
    svg += &body;
    let bottom = height - 14.0;
    // Writing to a String can't fail.
    let _ = writeln!(
        svg,
        "<path d=\"M{one} 34V{bottom}\" stroke=\"#1b1b1b\" stroke-dasharray=\"3 3\"/>\n</svg>"
    );
    svg
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, weight: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let line = format!(
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\">{text}</text>\n"
    );
    *svg += &line;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_read_from_its_cells() {
        let read = |speed, interval| Bar::read("g".to_owned(), "n".to_owned(), speed, interval);
        let bar = read("0.99", "0.98 to 1.00").unwrap();
        assert_eq!((bar.value, bar.interval), (0.99, Some((0.98, 1.0))));
        assert_eq!(read("0.99", "").unwrap().interval, None);
        assert_eq!(read("", ""), None);
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bar = |name: &str, value, stands_out| Bar {
            group: "a<b".to_owned(),
            name: name.to_owned(),
            value,
            interval: Some((value, 9.0)),
            stands_out,
        };
        let svg = svg("Speed", &[bar("one", 0.5, true), bar("two", 2.0, false)]);
        assert_eq!(svg.matches("a&lt;b").count(), 1);
        assert!(svg.contains("width=\"240.0\"") && svg.contains("width=\"504.0\""), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
