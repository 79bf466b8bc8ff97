//! Which snapshot is held when a push is marked.
//!
//! Pure. What always holds: of all snapshots of this device and these sources the newest without a mark is chosen, so that
//! a second marked push holds no marked one. Tested below.
use crate::parent::same_sources;
use backupengine_model::{DeviceId, SnapshotInfo};

/// The last snapshot of this device and these sources that is not marked.
pub(crate) fn before<'l>(
    list: &'l [SnapshotInfo],
    device: DeviceId,
    sources: &[Vec<u8>],
) -> Option<&'l SnapshotInfo> {
    let own = list.iter().filter(|info| info.device == device && !info.is_suspicious());
    own.filter(|info| same_sources(&info.sources, sources)).max_by_key(|info| info.session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::{SUSPICIOUS, SessionNo, SnapshotId, Timestamp};

    fn snapshot(session: u32, device: u8, source: &str, tags: &[&str]) -> SnapshotInfo {
        SnapshotInfo {
            session: SessionNo(session),
            id: SnapshotId([0; 8]),
            created: Timestamp::default(),
            device: DeviceId([device; 16]),
            device_name: String::new(),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            sources: vec![source.as_bytes().to_vec()],
        }
    }

    #[test]
    fn the_last_good_one_is_held() {
        let list = [
            snapshot(1, 1, "/a", &[]),
            snapshot(2, 1, "/a", &["x"]),
            snapshot(3, 1, "/b", &[]),
            snapshot(4, 1, "/a", &["a", SUSPICIOUS]),
            snapshot(5, 2, "/a", &[]),
        ];
        let chosen = |device, source: &str| {
            before(&list, DeviceId([device; 16]), &[source.as_bytes().to_vec()]).map(|info| info.session.0)
        };
        assert_eq!(chosen(1, "/a"), Some(2));
        assert_eq!(chosen(1, "/b"), Some(3));
        assert_eq!(chosen(2, "/b"), None);
        assert!(before(&list[3..4], DeviceId([1; 16]), &[b"/a".to_vec()]).is_none());
    }
}
