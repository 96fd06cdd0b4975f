//! The error at the program's edge: what failed, the way out, and the exit code.

use std::fmt;

use super::exit::ExitStatus;

/// An error that ends the program.
///
/// Its text is one line with the whole chain of causes, and a second one with the hint if there is
/// one. Library errors become one in `classify`, the one place that chooses exit codes for them.
#[derive(Debug)]
pub struct CliError {
    status: ExitStatus,
    error: anyhow::Error,
    hint: Option<String>,
}

impl CliError {
    /// An error that ends the program with `status`.
    pub fn new(status: ExitStatus, error: impl Into<anyhow::Error>) -> Self {
        Self { status, error: error.into(), hint: None }
    }

    /// The same with a way out, one sentence.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with what was being done when it happened.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display + Send + Sync + 'static) -> Self {
        self.error = self.error.context(doing);
        self
    }

    /// What failed, with all causes, on one line.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = String::new();
        for cause in self.error.chain().map(ToString::to_string) {
            // Some errors have their cause in their own text already.
            if text.is_empty() {
                text = cause;
            } else if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        one_line(&text)
    }

    /// The way out, if one is known.
    #[must_use]
    pub fn way_out(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// How the program ends.
    #[must_use]
    pub fn status(&self) -> ExitStatus {
        self.status
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message())?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {}", one_line(hint)),
            None => Ok(()),
        }
    }
}

/// Causes carry paths and names from the target, and the kernel's verifier log has many lines.
fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    crate::sink::escape::escape(&words.join(" ")).into_owned()
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        Self::new(ExitStatus::Failure, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_on_one_line_and_hint_on_the_next() {
        let cause = std::io::Error::other("disk\nfull");
        let error = CliError::new(ExitStatus::Failure, cause)
            .context("write \u{1b}[31mreport")
            .hint("choose another --output");
        assert_eq!(
            error.to_string(),
            "error: write \\x1b[31mreport: disk full\nhint: choose another --output"
        );
        assert_eq!(error.status().code(), 1);
    }

    #[test]
    fn a_cause_is_not_said_twice() {
        let cause = std::io::Error::other("disk full");
        let error = CliError::new(ExitStatus::Failure, cause).context("write: disk full");
        assert_eq!(error.to_string(), "error: write: disk full");
    }
}
