//! What a snapshot list shows without fetching roots; sealed into the ledger's record.
//!
//! What always holds: an encoded label is at most [`LABEL_MAX`] bytes, whatever it was made from; what did not
//! fit is marked as left out, and the root has it. Tested below, in `tests/golden/label`, and by its fuzz target.

use crate::FormatError;
use crate::cbor::{Reader, Writer};
use backupengine_model::{DeviceId, Forgotten, SessionNo, SnapshotInfo};

/// Longest encoded label, so that the sealed one stays within the ledger's 1024 bytes.
pub const LABEL_MAX: usize = 960;

const WHAT: &str = "snapshot label";
const VERSION: u32 = 1;
/// With what was forgotten. (2 was never written: a vector of version 1 has it as unknown.)
const VERSION_FORGOTTEN: u32 = 3;
/// Room for a device name, all else left out: 8 bytes are heads, version and mark.
const NAME_MAX: usize = LABEL_MAX - 8;

/// The text parts of a label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// Device name.
    pub device_name: String,
    /// Tags, sorted.
    pub tags: Vec<String>,
    /// Pushed paths.
    pub sources: Vec<Vec<u8>>,
    /// Something was left out for want of room: the root has it.
    pub cut: bool,
    /// Newest snapshots of devices that an owner let go, by device; this snapshot's label only carries it.
    pub forgotten: Vec<Forgotten>,
}

/// Encodes device name, tags and sources; drops sources, then tags, from the end until it fits in
/// [`LABEL_MAX`] and marks that it did. Sorts the tags. A device name too long for a label is cut.
pub fn encode(info: &SnapshotInfo) -> Vec<u8> {
    encode_with(info, &[])
}

/// The same with what was forgotten, of which nothing is left out: the label may then be too long.
pub fn encode_with(info: &SnapshotInfo, forgotten: &[Forgotten]) -> Vec<u8> {
    let mut forgotten = forgotten.to_vec();
    forgotten.sort_unstable();
    forgotten.dedup_by_key(|entry| entry.device);
    let mut tags: Vec<&str> = info.tags.iter().map(String::as_str).collect();
    tags.sort_unstable();
    tags.dedup();
    let mut sources: Vec<&[u8]> = info.sources.iter().map(Vec::as_slice).collect();
    let name = &info.device_name[..info.device_name.floor_char_boundary(NAME_MAX)];
    let mut cut = name.len() < info.device_name.len();
    loop {
        let bytes = write(name, &tags, &sources, cut, &forgotten);
        if bytes.len() <= LABEL_MAX {
            return bytes;
        }
        cut = true;
        if sources.pop().is_none() && tags.pop().is_none() {
            return bytes;
        }
    }
}

fn write(name: &str, tags: &[&str], sources: &[&[u8]], cut: bool, forgotten: &[Forgotten]) -> Vec<u8> {
    let mut out = Writer::new();
    if forgotten.is_empty() {
        out.array(5).uint(VERSION);
    } else {
        out.array(6).uint(VERSION_FORGOTTEN);
    }
    out.text(name).array(tags.len());
    for tag in tags {
        out.text(tag);
    }
    out.array(sources.len());
    for source in sources {
        out.bytes(source);
    }
    out.bool(cut);
    if !forgotten.is_empty() {
        out.array(forgotten.len());
        for entry in forgotten {
            out.array(3).bytes(&entry.device.0).uint(entry.stays.0).uint(entry.gone.0);
        }
    }
    out.finish()
}

/// Decodes a label.
///
/// # Errors
/// [`FormatError`].
pub fn decode(bytes: &[u8]) -> Result<Label, FormatError> {
    let mut reader = Reader::new(bytes, WHAT);
    reader.require(bytes.len() <= LABEL_MAX, "is longer than 960 bytes")?;
    let items = reader.array()?;
    let version = reader.u64()?;
    let with_forgotten = version == u64::from(VERSION_FORGOTTEN);
    if version != VERSION.into() && !with_forgotten {
        return Err(FormatError::TooNew { what: WHAT, feature: format!("label version {version}") });
    }
    reader.require(
        items == if with_forgotten { 6 } else { 5 },
        "an array has another length than belongs here",
    )?;
    let device_name = reader.text()?;
    let tags = reader.list(|r| r.text())?;
    let sources = reader.list(|r| r.bytes())?;
    let cut = reader.bool()?;
    let forgotten = if with_forgotten { reader.list(entry)? } else { Vec::new() };
    reader.require(with_forgotten != forgotten.is_empty(), "nothing was forgotten")?;
    let ascending = forgotten.is_sorted_by(|a, b| a.device < b.device);
    reader.require(ascending, "what was forgotten is not in ascending order")?;
    let newest = forgotten.iter().all(|entry| entry.stays < entry.gone);
    reader.require(newest, "what went is not newer than what stays")?;
    reader.require(tags.is_sorted_by(|a, b| a < b), "tags are not in ascending order")?;
    reader.require(
        write(device_name, &tags, &sources, cut, &forgotten) == bytes,
        "is not deterministic CBOR",
    )?;
    reader.finish()?;
    Ok(Label {
        device_name: device_name.to_owned(),
        tags: tags.into_iter().map(str::to_owned).collect(),
        sources: sources.into_iter().map(<[u8]>::to_vec).collect(),
        cut,
        forgotten,
    })
}

fn entry(reader: &mut Reader<'_>) -> Result<Forgotten, FormatError> {
    reader.tuple(3)?;
    let device = DeviceId(reader.fixed()?);
    Ok(Forgotten { device, stays: SessionNo(reader.u32()?), gone: SessionNo(reader.u32()?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::{DeviceId, SessionNo, SnapshotId, Timestamp};

    fn info(name: &str, tags: &[&str], sources: &[&[u8]]) -> SnapshotInfo {
        SnapshotInfo {
            session: SessionNo(1),
            id: SnapshotId([0; 8]),
            created: Timestamp::default(),
            device: DeviceId([0; 16]),
            device_name: name.into(),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            sources: sources.iter().map(|source| source.to_vec()).collect(),
        }
    }

    #[test]
    fn labels_go_both_ways() {
        let label = decode(&encode(&info("laptop", &["b", "a", "a"], &[b"/home/me", b"/\xff"]))).unwrap();
        assert_eq!(label.device_name, "laptop");
        assert_eq!(label.tags, ["a", "b"]);
        assert_eq!(label.sources, [&b"/home/me"[..], b"/\xff"]);
        assert!(!label.cut);
        assert_eq!(decode(&encode(&info("", &[], &[]))), Ok(Label::default()));
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_marked() {
        let long = vec![b'x'; 500];
        let label = decode(&encode(&info("laptop", &["a"], &[&long, &long]))).unwrap();
        assert_eq!((label.sources.len(), label.tags.len(), label.cut), (1, 1, true));
        let tag = "t".repeat(950);
        let label = decode(&encode(&info("laptop", &["a", &tag], &[b"/x"]))).unwrap();
        assert_eq!((label.sources.len(), label.tags.len(), label.cut), (0, 1, true));
        let label = decode(&encode(&info(&"é".repeat(600), &["a"], &[]))).unwrap();
        assert!(label.device_name.len() > 900 && label.cut);
        let label = decode(&encode(&info(&"n".repeat(960), &[], &[]))).unwrap();
        assert!(label.device_name.len() < 960 && label.cut, "a cut name alone is marked as well");
        for len in 900..1000 {
            assert!(decode(&encode(&info(&"n".repeat(len), &["a"], &[b"/"]))).is_ok());
        }
    }

    #[test]
    fn what_was_forgotten_is_carried_and_never_left_out() {
        let entry = |device: u8, stays: u32, gone: u32| Forgotten {
            device: DeviceId([device; 16]),
            stays: SessionNo(stays),
            gone: SessionNo(gone),
        };
        let all = [entry(2, 6, 8), entry(1, 0, u32::MAX)];
        let label = decode(&encode_with(&info("pc", &["a"], &[b"/x"]), &all)).unwrap();
        assert_eq!((label.tags.len(), label.sources.len(), label.cut), (1, 1, false));
        assert_eq!(label.forgotten, [all[1], all[0]]);
        assert_eq!(encode_with(&info("pc", &[], &[]), &[]), encode(&info("pc", &[], &[])));
        // Sources make room for it.
        let long = vec![b'x'; 930];
        let label = decode(&encode_with(&info("pc", &[], &[&long]), &all)).unwrap();
        assert_eq!((label.sources.len(), label.cut, label.forgotten.len()), (0, true, 2));
        let many: Vec<_> = (0..60).map(|device| entry(device, 1, 2)).collect();
        assert!(encode_with(&info("pc", &[], &[]), &many).len() > LABEL_MAX);
        let written = |forgotten: &[Forgotten]| decode(&write("pc", &[], &[], false, forgotten)).is_ok();
        assert!(written(&[entry(1, 6, 8), entry(2, 6, 7)]));
        assert!(!written(&[entry(2, 6, 8), entry(1, 6, 8)]) && !written(&[entry(1, 6, 8), entry(1, 6, 8)]));
        assert!(!written(&[entry(1, 6, 6)]) && !written(&[entry(1, 7, 6)]));
    }

    #[test]
    fn other_ways_to_write_it_are_refused() {
        let good = encode(&info("pc", &[], &[]));
        assert_eq!(good, [0x85, 1, 0x62, b'p', b'c', 0x80, 0x80, 0xf4]);
        let bad: [&[u8]; 7] = [
            &[0x85, 0x18, 1, 0x62, b'p', b'c', 0x80, 0x80, 0xf4],
            &[0x85, 1, 0x62, b'p', b'c', 0x9f, 0xff, 0x80, 0xf4],
            &[0x85, 1, 0x62, b'p', b'c', 0x80, 0x80, 0xf4, 0],
            &[0x85, 1, 0x62, b'p', b'c', 0x82, 0x61, b'b', 0x61, b'a', 0x80, 0xf4],
            &[0x85, 1, 0x62, b'p', b'c', 0x82, 0x61, b'a', 0x61, b'a', 0x80, 0xf4],
            &[0x84, 1, 0x62, b'p', b'c', 0x80, 0x80],
            &[],
        ];
        for bytes in bad {
            assert!(matches!(decode(bytes), Err(FormatError::Broken { .. })), "{bytes:?}");
        }
        assert!(matches!(decode(&[0x82, 2, 0]), Err(FormatError::TooNew { .. })));
    }
}
