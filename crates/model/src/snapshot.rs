//! A snapshot as lists show it, and how a person names one.
//!
//! May not read a clock: "yesterday" is resolved by the face before it gets here. Tested below.

use crate::{DeviceId, SessionNo, SnapshotId, Timestamp};
use thiserror::Error;

/// What the list of snapshots says of one: enough to show, sort and choose, without fetching its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The session that made it.
    pub session: SessionNo,
    /// What a person calls it by.
    pub id: SnapshotId,
    /// When the push began.
    pub created: Timestamp,
    /// The device that pushed.
    pub device: DeviceId,
    /// The name it went by.
    pub device_name: String,
    /// Tags, sorted.
    pub tags: Vec<String>,
    /// Pushed paths, absolute, with slashes.
    pub sources: Vec<Vec<u8>>,
}

/// The tag of a snapshot whose push looked like the work of ransomware (FORMAT.md, *Marks*): retention lets it take no
/// other snapshot's place. An owner who looked takes it away like any other tag.
pub const SUSPICIOUS: &str = "suspicious";

impl SnapshotInfo {
    /// Whether it is marked with [`SUSPICIOUS`].
    pub fn is_suspicious(&self) -> bool {
        self.tags.iter().any(|tag| tag == SUSPICIOUS)
    }
}

/// How a person names a snapshot (cli.md): `latest`, `latest~2`, `@time`, an id prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotSelector {
    /// The n-th newest, 0 the newest.
    Latest(usize),
    /// The newest that is not younger.
    AtOrBefore(Timestamp),
    /// Hexadecimal digits an id starts with.
    IdPrefix(String),
}

/// A name that fits no snapshot, or more than one.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SelectError {
    /// Nothing fits.
    #[error("no snapshot fits {0:?}")]
    None(String),
    /// A prefix that several ids share.
    #[error("{prefix:?} fits {count} snapshots")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// How many ids start with it.
        count: usize,
    },
}

/// Chooses among `snapshots` (any order), of `device` only when that is given. Ties in time go to the
/// larger session.
///
/// # Errors
/// [`SelectError`] when none or several fit.
pub fn select<'a>(
    snapshots: &'a [SnapshotInfo],
    selector: &SnapshotSelector,
    device: Option<&str>,
) -> Result<&'a SnapshotInfo, SelectError> {
    let mut fitting: Vec<_> =
        snapshots.iter().filter(|s| device.is_none_or(|name| s.device_name == name)).collect();
    fitting.sort_by_key(|s| std::cmp::Reverse((s.created, s.session)));
    let none = |text: String| SelectError::None(text);
    match selector {
        SnapshotSelector::Latest(back) => fitting
            .get(*back)
            .copied()
            .ok_or_else(|| none(if *back == 0 { "latest".into() } else { format!("latest~{back}") })),
        SnapshotSelector::AtOrBefore(time) => fitting
            .into_iter()
            .find(|s| s.created <= *time)
            .ok_or_else(|| none("a snapshot at or before that time".into())),
        SnapshotSelector::IdPrefix(prefix) => {
            let wanted = prefix.to_ascii_lowercase();
            fitting.retain(|s| s.id.to_string().starts_with(&wanted));
            match fitting.as_slice() {
                [one] => Ok(one),
                [] => Err(none(prefix.clone())),
                many => Err(SelectError::Ambiguous { prefix: prefix.clone(), count: many.len() }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(session: u32, secs: i64, id: u8, device: &str) -> SnapshotInfo {
        SnapshotInfo {
            session: SessionNo(session),
            id: SnapshotId([id, session as u8, 0, 0, 0, 0, 0, 0]),
            created: Timestamp { secs, nanos: 0 },
            device: DeviceId([0; 16]),
            device_name: device.into(),
            tags: Vec::new(),
            sources: Vec::new(),
        }
    }

    #[test]
    fn names_choose_what_a_person_means() {
        let list = [snapshot(1, 10, 0xaa, "a"), snapshot(3, 30, 0xab, "b"), snapshot(2, 20, 0xaa, "a")];
        let pick = |selector, device| select(&list, &selector, device).map(|s| s.session.0);
        assert_eq!(pick(SnapshotSelector::Latest(0), None), Ok(3));
        assert_eq!(pick(SnapshotSelector::Latest(0), Some("a")), Ok(2));
        assert_eq!(pick(SnapshotSelector::Latest(2), None), Ok(1));
        assert!(pick(SnapshotSelector::Latest(3), None).is_err());
        assert_eq!(pick(SnapshotSelector::AtOrBefore(Timestamp { secs: 29, nanos: 9 }), None), Ok(2));
        assert!(pick(SnapshotSelector::AtOrBefore(Timestamp { secs: 9, nanos: 0 }), None).is_err());
        assert_eq!(pick(SnapshotSelector::IdPrefix("AB".into()), None), Ok(3));
        assert_eq!(
            pick(SnapshotSelector::IdPrefix("aa".into()), None),
            Err(SelectError::Ambiguous { prefix: "aa".into(), count: 2 })
        );
        assert!(pick(SnapshotSelector::IdPrefix("ff".into()), None).is_err());
    }
}
