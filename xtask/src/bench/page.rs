//! A page of docs/ with one table, which a run of a benchmark renews row by row.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;

/// The page. Rows are told apart by their first `keys` cells: a new one takes the place of the old.
pub struct Page {
    path: PathBuf,
    intro: &'static str,
    columns: &'static [&'static str],
    keys: usize,
    rows: Vec<Vec<String>>,
}

impl Page {
    /// Opens `docs/NAME` with the rows that it has.
    ///
    /// # Errors
    /// If it is there but can't be read.
    pub fn open(
        name: &str,
        intro: &'static str,
        columns: &'static [&'static str],
        keys: usize,
    ) -> Result<Self> {
        let path = crate::step::root().join("docs").join(name);
        let text = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
        let rows = rows_of(&text, columns.len());
        Ok(Self { path, intro, columns, keys, rows })
    }

    /// The same without rows: those that are there go when the first is put.
    pub fn anew(name: &str, intro: &'static str, columns: &'static [&'static str]) -> Self {
        let path = crate::step::root().join("docs").join(name);
        Self { path, intro, columns, keys: columns.len(), rows: Vec::new() }
    }

    /// Adds a row, prints it, and writes the page.
    ///
    /// # Errors
    /// If the page can't be written.
    pub fn put(&mut self, row: Vec<String>) -> Result<()> {
        println!("{}", line(&row));
        let same =
            |old: &&mut Vec<String>| old.iter().take(self.keys).eq(row.iter().take(self.keys));
        match self.rows.iter_mut().find(same) {
            Some(old) => *old = row,
            None => self.rows.push(row),
        }
        self.write()
    }

    /// Puts the rows in order, and writes the page.
    ///
    /// # Errors
    /// If the page can't be written.
    pub fn sort_by_key<K: Ord>(&mut self, key: impl FnMut(&Vec<String>) -> K) -> Result<()> {
        self.rows.sort_by_key(key);
        self.write()
    }

    fn write(&self) -> Result<()> {
        let text = self.text();
        fs::write(&self.path, text).with_context(|| format!("can't write {}", self.path.display()))
    }

    /// The cells of all rows.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// Prints the head of the table.
    pub fn print_head(&self) {
        println!("{}\n{}", line(self.columns), rule(self.columns.len()));
    }

    fn text(&self) -> String {
        let mut text =
            format!("{}\n{}\n{}\n", self.intro, line(self.columns), rule(self.columns.len()));
        for row in &self.rows {
            text += &(line(row) + "\n");
        }
        text
    }
}

fn line(cells: &[impl AsRef<str>]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.as_ref().replace('|', "/")).collect();
    format!("| {} |", cells.join(" | "))
}

fn rule(columns: usize) -> String {
    format!("|{}", " --- |".repeat(columns))
}

/// The rows of a table of so many columns, without its head.
fn rows_of(text: &str, columns: usize) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with('|')).skip(2);
    lines
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .filter(|row: &Vec<String>| row.len() == columns)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let rows =
            vec![vec!["a".to_owned(), "1 | 2".to_owned()], vec!["b".to_owned(), String::new()]];
        let page = Page {
            path: PathBuf::new(),
            intro: "# Title\n\nText.\n",
            columns: &["name", "value"],
            keys: 1,
            rows,
        };
        let again = rows_of(&page.text(), 2);
        assert_eq!(again, [["a", "1 / 2"], ["b", ""]]);
    }
}
