//! Which lines may be accused or listed: `--include` and `--exclude`.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Patterns of Python files. The default lets every file through.
#[derive(Debug, Clone, Default)]
pub struct LineFilter {
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
}

/// A pattern that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("{option} `{pattern}`: {reason}")]
pub struct PatternError {
    option: &'static str,
    pattern: String,
    reason: String,
}

impl LineFilter {
    /// From the patterns of both options. `*` also matches `/`; a pattern without a `/` is held
    /// against the file's name alone.
    ///
    /// # Errors
    /// A pattern that is no glob, by option.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, PatternError> {
        Ok(Self { include: set("--include", include)?, exclude: set("--exclude", exclude)? })
    }

    /// May a line of this file (as the target names it) be accused or listed? Yes if it matches an
    /// included pattern, or there is none, and matches no excluded one.
    #[must_use]
    pub fn allows(&self, file: &str) -> bool {
        self.include.as_ref().is_none_or(|set| set.is_match(file))
            && !self.exclude.as_ref().is_some_and(|set| set.is_match(file))
    }

    /// Does it let every file through?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }
}

fn set(option: &'static str, patterns: &[String]) -> Result<Option<GlobSet>, PatternError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut builder = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = glob(pattern).map_err(|error| PatternError {
            option,
            pattern: pattern.clone(),
            reason: error.kind().to_string(),
        })?;
        builder.add(glob);
    }
    let built = builder.build().map_err(|error| PatternError {
        option,
        pattern: patterns.join(" "),
        reason: error.kind().to_string(),
    })?;
    Ok(Some(built))
}

fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    if pattern.contains('/') {
        return Glob::new(pattern);
    }
    // The target's paths may be relative or absolute: a bare name is one at any depth.
    GlobBuilder::new(&format!("**/{pattern}")).literal_separator(true).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> LineFilter {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        LineFilter::new(&owned(include), &owned(exclude)).unwrap()
    }

    #[test]
    fn without_patterns_every_file_passes() {
        assert!(LineFilter::default().is_empty());
        assert!(LineFilter::default().allows("/srv/app.py"));
        assert!(filter(&[], &[]).allows(""));
    }

    #[test]
    fn included_and_not_excluded() {
        let f = filter(&["/srv/*"], &["*/site-packages/*", "test_*.py"]);
        assert!(!f.is_empty());
        assert!(f.allows("/srv/app/views/cart.py"));
        assert!(!f.allows("/usr/lib/python3.11/json/decoder.py"));
        assert!(!f.allows("/srv/venv/lib/python3.11/site-packages/starlette/routing.py"));
        assert!(!f.allows("/srv/app/test_cart.py"));
        assert!(f.allows("/srv/test_shop/cart.py"));
    }

    #[test]
    fn a_bare_name_matches_at_any_depth() {
        let f = filter(&["cart.py"], &[]);
        assert!(f.allows("/srv/app/cart.py"));
        assert!(f.allows("cart.py"));
        assert!(!f.allows("/srv/app/mycart.py"));
        assert!(!f.allows("/srv/cart.py/other.py"));
    }

    #[test]
    fn a_wrong_pattern_is_named_with_its_option() {
        let error = LineFilter::new(&[], &["a[".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("--exclude `a[`: "), "{error}");
    }
}
