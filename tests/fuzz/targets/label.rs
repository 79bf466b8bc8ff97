#![no_main]
//! Labels of snapshots.
use backupengine_format::label::{Label, decode, encode_with};
use backupengine_model::{DeviceId, SessionNo, SnapshotId, SnapshotInfo, Timestamp};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(label) = backupengine_fuzz::bounded(bytes, decode) else { return };
    let Label { device_name, tags, sources, cut, forgotten } = label;
    let info = SnapshotInfo {
        session: SessionNo(1),
        id: SnapshotId([0; 8]),
        created: Timestamp::default(),
        device: DeviceId([0; 16]),
        device_name,
        tags,
        sources,
    };
    let again = encode_with(&info, &forgotten);
    // The mark alone is not in the snapshot's list.
    let differ = again.iter().zip(bytes).filter(|(one, other)| one != other).count();
    assert_eq!((again.len(), differ), (bytes.len(), usize::from(cut)));
});
