//! Who keeps objects alive, as a drawing: DOT for graphviz, or SVG, laid out here.

use std::collections::HashMap;
use std::fmt::Write as _;

use layout::backends::svg::SVGWriter;
use layout::core::base::Orientation;
use layout::core::color::Color;
use layout::core::geometry::{Point, get_size_for_str};
use layout::core::style::StyleAttr;
use layout::std_shapes::shapes::{Arrow, Element, ShapeKind};
use layout::topo::layout::VisualGraph;

use super::escape::escape;
use super::text::number::percent;
use crate::snapshot::why::Why;

/// Characters of a box.
const MOST: usize = 60;

const FONT: usize = 12;

/// Words that follow each other; chains that begin alike share their begins.
#[derive(Debug, Default)]
struct Chart {
    /// A word, and whether it is a chain's end.
    boxes: Vec<(String, bool)>,
    arrows: Vec<(usize, usize)>,
}

impl Chart {
    fn of(why: &Why) -> Self {
        let mut chart = Self::default();
        // A box by the one before it and its word.
        let mut known: HashMap<(Option<usize>, String), usize> = HashMap::new();
        let share = |samples: u64| percent(samples as f64 / why.samples.max(1) as f64);
        for group in &why.groups {
            let maybe = if group.maybe { ", maybe" } else { "" };
            chart.chain(&group.path, &format!("{}{maybe}", share(group.samples)), &mut known);
        }
        for cycle in &why.cycles {
            chart.chain(cycle, "only from a cycle", &mut known);
        }
        chart
    }

    fn chain(
        &mut self,
        path: &[String],
        end: &str,
        known: &mut HashMap<(Option<usize>, String), usize>,
    ) {
        let mut before = None;
        for (at, word) in path.iter().enumerate() {
            let is_end = at + 1 == path.len();
            let text = if is_end { format!("{} ({end})", word_of(word)) } else { word_of(word) };
            let key = (before, text.clone());
            let this = *known.entry(key).or_insert_with(|| {
                self.boxes.push((text, is_end));
                self.boxes.len() - 1
            });
            if let Some(before) = before
                && !self.arrows.contains(&(before, this))
            {
                self.arrows.push((before, this));
            }
            before = Some(this);
        }
    }
}

/// A word, escaped and cut.
fn word_of(word: &str) -> String {
    let escaped = escape(word);
    if escaped.chars().count() <= MOST {
        return escaped.into_owned();
    }
    let cut: String = escaped.chars().take(MOST - 1).collect();
    format!("{cut}…")
}

/// For graphviz. Every character that the target chose is escaped.
#[must_use]
pub fn dot(why: &Why) -> String {
    let Chart { boxes, arrows } = Chart::of(why);
    let mut text = String::from("digraph kept {\n  rankdir = LR;\n  node [shape = box];\n");
    for (number, (word, is_end)) in boxes.iter().enumerate() {
        let word = word.replace('\\', "\\\\").replace('"', "\\\"");
        let bold = if *is_end { ", style = bold" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {number} [label = \"{word}\"{bold}];");
    }
    for (from, to) in arrows {
        let _ = writeln!(text, "  {from} -> {to};");
    }
    text.push_str("}\n");
    text
}

/// As SVG. Every character that the target chose is escaped.
#[must_use]
pub fn svg(why: &Why) -> String {
    let Chart { boxes, arrows } = Chart::of(why);
    let mut graph = VisualGraph::new(Orientation::LeftToRight);
    let boxes: Vec<_> = boxes
        .iter()
        .map(|(word, is_end)| {
            let fill = if *is_end { "mistyrose" } else { "white" };
            let look = StyleAttr::new(Color::fast("black"), 1, Some(Color::fast(fill)), 4, FONT);
            let size = get_size_for_str(word, FONT);
            let size = Point::new(size.x, size.y + FONT as f64);
            let shape = ShapeKind::new_box(word);
            graph.add_node(Element::create(shape, look, Orientation::LeftToRight, size))
        })
        .collect();
    for (from, to) in arrows {
        if let (Some(from), Some(to)) = (boxes.get(from), boxes.get(to)) {
            graph.add_edge(Arrow::simple(""), *from, *to);
        }
    }
    let mut writer = SVGWriter::new();
    // There is nothing to lay out without boxes.
    if !boxes.is_empty() {
        graph.do_it(false, false, false, &mut writer);
    }
    writer.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::why::tests::why;

    #[test]
    fn chains_share_their_begins() {
        let mut why = why();
        let mut other = why.groups[0].clone();
        other.path[2] = "dict: a key".to_owned();
        other.samples = 3;
        why.groups.push(other);
        let expected = r#"digraph kept {
  rankdir = LR;
  node [shape = box];
  0 [label = "module app"];
  1 [label = "app.cache"];
  2 [label = "dict['e\\x1b[31mvil']"];
  3 [label = "app.Note (90 %)", style = bold];
  4 [label = "a variable of x.so"];
  5 [label = "app.Note (2 %, maybe)", style = bold];
  6 [label = "dict: a key"];
  7 [label = "app.Note (3 %)", style = bold];
  8 [label = "Note.other"];
  9 [label = "app.Note (only from a cycle)", style = bold];
  0 -> 1;
  1 -> 2;
  2 -> 3;
  4 -> 5;
  1 -> 6;
  6 -> 7;
  8 -> 9;
}
"#;
        assert_eq!(dot(&why), expected);
    }

    #[test]
    fn drawings_are_well_formed_whatever_the_words() {
        for word in ["dict['<script>&\"']", "", "\u{202e}x", "a -> b; \\", &"long".repeat(100)] {
            let mut why = why();
            why.groups[0].path[2] = word.to_owned();
            let drawn = svg(&why);
            assert!(drawn.starts_with("<?xml") && drawn.trim_end().ends_with("</svg>"), "{drawn}");
            assert!(!drawn.contains("<script>") && !drawn.contains('\u{202e}'), "{drawn}");
            assert!(drawn.contains("app.Note (90 %)"), "{drawn}");
            assert!(dot(&why).lines().all(|line| line.matches('"').count() != 1));
        }
        let nothing = Why { groups: Vec::new(), cycles: Vec::new(), ..why() };
        assert!(svg(&nothing).contains("</svg>"));
    }
}
