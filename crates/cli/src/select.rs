//! What a person writes for a snapshot and a path in it: `S[:PATH]`.
//!
//! **What it may not do.** Read the vault: it parses, `model::select` chooses.
//! **What always holds.** A path is absolute and without `.` and `..`.
//! **Where it is tested.** Below.

use crate::error::Failure;
use crate::time::parse_at;
use backupengine_model::{SnapshotInfo, SnapshotSelector, select};

/// A snapshot, and a path in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct What {
    pub(crate) snapshot: SnapshotSelector,
    /// Names from "/" down; empty for "/" itself.
    pub(crate) path: Vec<Vec<u8>>,
    /// Whether a path was given.
    pub(crate) has_path: bool,
}

impl What {
    /// Reads `S` or `S:PATH`.
    ///
    /// # Errors
    /// Bad usage where neither is meant.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let bad = || {
            Failure::usage(format!("{text:?} names no snapshot")).hint(
                "write an id or its beginning, latest, latest~2, @2026-03-01, @yesterday or @-3d, then :PATH",
            )
        };
        if let Some(snapshot) = selector(text) {
            return Ok(Self { snapshot, path: Vec::new(), has_path: false });
        }
        // A time may hold colons itself: the last colon with a snapshot before it is the one.
        let mut cuts = text.rmatch_indices(':').map(|(at, _)| (&text[..at], &text[at + 1..]));
        let (snapshot, path) = cuts.find_map(|(s, p)| Some((selector(s)?, p))).ok_or_else(bad)?;
        Ok(Self { snapshot, path: names(path.as_bytes())?, has_path: true })
    }

    /// The path as text for messages.
    pub(crate) fn path_bytes(&self) -> Vec<u8> {
        let mut path = vec![b'/'];
        path.extend(self.path.join(&b'/'));
        path
    }

    /// Chooses among the snapshots of a vault.
    ///
    /// # Errors
    /// When none or several fit.
    pub(crate) fn choose<'a>(
        &self,
        snapshots: &'a [SnapshotInfo],
        device: Option<&str>,
    ) -> Result<&'a SnapshotInfo, Failure> {
        if snapshots.is_empty() {
            return Err(Failure::new(
                crate::error::Kind::Failed,
                "the vault holds no snapshot yet".to_owned(),
            )
            .hint("make one: backupengine push FOLDER"));
        }
        Ok(select(snapshots, &self.snapshot, device)?)
    }
}

fn selector(text: &str) -> Option<SnapshotSelector> {
    if text == "latest" {
        return Some(SnapshotSelector::Latest(0));
    }
    if let Some(back) = text.strip_prefix("latest~") {
        return back.parse().ok().map(SnapshotSelector::Latest);
    }
    if let Some(time) = text.strip_prefix('@') {
        return parse_at(time).map(SnapshotSelector::AtOrBefore);
    }
    let hex = !text.is_empty() && text.len() <= 16 && text.bytes().all(|c| c.is_ascii_hexdigit());
    hex.then(|| SnapshotSelector::IdPrefix(text.to_owned()))
}

fn names(path: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for name in path.split(|c| *c == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            _ => names.push(name.to_vec()),
        }
    }
    if path.contains(&0) {
        return Err(Failure::usage("a path cannot hold a NUL byte"));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> String {
        String::from_utf8(What::parse(text).unwrap().path_bytes()).unwrap()
    }

    #[test]
    fn snapshots_and_paths() {
        assert_eq!(What::parse("latest").unwrap().snapshot, SnapshotSelector::Latest(0));
        assert_eq!(What::parse("latest~3:/a").unwrap().snapshot, SnapshotSelector::Latest(3));
        assert_eq!(What::parse("0aF:/x").unwrap().snapshot, SnapshotSelector::IdPrefix("0aF".into()));
        assert_eq!(path("latest:home/me//x/../y/."), "/home/me/y");
        assert_eq!(path("latest:/a:b:c"), "/a:b:c");
        assert_eq!(path("latest:"), "/");
        assert!(What::parse("latest:").unwrap().has_path);
        assert!(!What::parse("latest").unwrap().has_path);
        for bad in ["", ":", "latest~", "latest~x", "@", "@never", "xyz", "/home", "00112233445566778"] {
            assert!(What::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_time_may_hold_colons() {
        let what = What::parse("@2026-03-01T10:30:00Z:/home").unwrap();
        assert_eq!(what.path_bytes(), b"/home");
        let SnapshotSelector::AtOrBefore(time) = what.snapshot else { panic!("{what:?}") };
        assert_eq!(crate::time::rfc3339(time), "2026-03-01T10:30:00Z");
        assert!(!What::parse("@2026-03-01T10:30").unwrap().has_path);
        assert_eq!(What::parse("@2026-03-01T10:30Z:/10:30").unwrap().path_bytes(), b"/10:30");
        assert_eq!(What::parse("@2026-03-01:10:30").unwrap().path_bytes(), b"/10:30");
    }
}
