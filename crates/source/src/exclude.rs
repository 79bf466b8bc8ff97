//! What the rules leave out: patterns of `--exclude`, and `.gitignore` files.
//!
//! May not look at anything but the path it is asked about. What always holds: in one list the last pattern
//! that matches wins; of several `.gitignore` files the deepest that matches wins. Tested below and in `walk`.

use crate::SourceError;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::path::Path;
use std::sync::Arc;

/// Largest `.gitignore` that is read; more is no list of patterns any more.
pub(crate) const GITIGNORE_MAX: usize = 4 << 20;

/// The patterns of `--exclude` and `--exclude-file`.
#[derive(Debug)]
pub(crate) struct Patterns(Gitignore);

impl Patterns {
    /// Compiles.
    pub(crate) fn new(patterns: &[String]) -> Result<Self, SourceError> {
        let refuse = |pattern: &String, error: &ignore::Error| SourceError::Pattern {
            pattern: pattern.clone(),
            message: error.to_string(),
        };
        let mut builder = GitignoreBuilder::new("/");
        for pattern in patterns {
            builder.add_line(None, &anywhere(pattern)).map_err(|error| refuse(pattern, &error))?;
        }
        let all = || patterns.join("\n");
        builder.build().map(Self).map_err(|error| refuse(&all(), &error))
    }

    /// Whether there is nothing to ask.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an absolute path is left out.
    pub(crate) fn excludes(&self, path: &Path, is_dir: bool) -> bool {
        self.0.matched(path, is_dir).is_ignore()
    }
}

/// A pattern with a slash in its middle, but none at its start, is anchored in git; here it floats.
fn anywhere(pattern: &str) -> String {
    let (not, rest) = pattern.strip_prefix('!').map_or(("", pattern), |rest| ("!", rest));
    let inner = rest.trim_end().trim_end_matches('/').contains('/');
    if inner && !rest.starts_with(['/', '#']) && !rest.starts_with("**/") {
        format!("{not}**/{rest}")
    } else {
        pattern.to_owned()
    }
}

/// The `.gitignore` files that count in one folder: its own, then that of its parent, and so on.
#[derive(Debug)]
pub(crate) struct GitRules {
    own: Gitignore,
    above: Option<Arc<GitRules>>,
}

impl GitRules {
    /// Adds the file of the folder `dir`. Lines that are no pattern count for nothing, as in git.
    pub(crate) fn below(above: Option<Arc<Self>>, dir: &Path, text: &[u8]) -> Option<Arc<Self>> {
        let mut builder = GitignoreBuilder::new(dir);
        for line in String::from_utf8_lossy(text).trim_start_matches('\u{feff}').lines() {
            // A wrong line is skipped, the others stand.
            drop(builder.add_line(None, line));
        }
        match builder.build() {
            Ok(own) if !own.is_empty() => Some(Arc::new(Self { own, above })),
            _ => above,
        }
    }

    /// Whether an absolute path is left out.
    pub(crate) fn excludes(&self, path: &Path, is_dir: bool) -> bool {
        let mut rules = Some(self);
        while let Some(here) = rules {
            let matched = here.own.matched(path, is_dir);
            if !matched.is_none() {
                return matched.is_ignore();
            }
            rules = here.above.as_deref();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(patterns: &[&str], path: &str, is_dir: bool) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|&p| p.to_owned()).collect();
        Patterns::new(&patterns).unwrap().excludes(Path::new(path), is_dir)
    }

    #[test]
    fn patterns_match_as_people_expect() {
        for (patterns, path, is_dir, expected) in [
            (&["*.o"][..], "/a/b/c.o", false, true),
            (&["*.o"], "/a/b/c.oo", false, false),
            (&["target"], "/a/target", true, true),
            (&["target/"], "/a/target", false, false),
            (&["target/"], "/a/target", true, true),
            (&["/home/me/tmp"], "/home/me/tmp", true, true),
            (&["/home/me/tmp"], "/x/home/me/tmp", true, false),
            (&["/home/*/tmp"], "/home/you/tmp", true, true),
            (&["/home/*/tmp"], "/home/a/b/tmp", true, false),
            (&["cache/*.db"], "/deep/down/cache/x.db", false, true),
            (&["a/b/"], "/x/a/b", true, true),
            (&["**/a/**/z"], "/x/a/y/y/z", false, true),
            (&["*", "!keep"], "/keep", true, false),
            (&["*.log", "!sub/*.log"], "/x/sub/a.log", false, false),
            (&["[ab].c"], "/b.c", false, true),
            (&["# no pattern"], "/# no pattern", false, false),
            (&["\\#file"], "/#file", false, true),
            (&[""], "/x", false, false),
        ] {
            assert_eq!(excluded(patterns, path, is_dir), expected, "{patterns:?} {path}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_matched_too() {
        use crate::meta::bytes_to_path;
        let patterns = Patterns::new(&["*.tmp".to_owned()]).unwrap();
        assert!(patterns.excludes(&bytes_to_path(b"/a/\xff\xfe.tmp".to_vec()), false));
        assert!(!patterns.excludes(&bytes_to_path(b"/a/\xff\xfe.txt".to_vec()), false));
    }

    #[test]
    fn a_pattern_that_is_none_is_refused_by_name() {
        let error = Patterns::new(&["ok".to_owned(), "a{b".to_owned()]).unwrap_err();
        assert!(matches!(error, SourceError::Pattern { ref pattern, .. } if pattern == "a{b"), "{error}");
    }

    #[test]
    fn the_deepest_gitignore_wins() {
        let top = GitRules::below(None, Path::new("/r"), b"*.o\n/build\nbad{\n");
        let deep = GitRules::below(top, Path::new("/r/sub"), b"!keep.o\r\n").unwrap();
        assert!(deep.excludes(Path::new("/r/sub/x.o"), false));
        assert!(!deep.excludes(Path::new("/r/sub/keep.o"), false));
        assert!(deep.excludes(Path::new("/r/build"), true));
        assert!(!deep.excludes(Path::new("/r/sub/build"), true), "an anchored pattern is anchored");
        assert!(GitRules::below(None, Path::new("/r"), b"# nothing\n").is_none());
    }
}
