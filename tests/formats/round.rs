//! Decode of encode is the same, for everything there is; and whatever bytes a decoder is given, it gives back a
//! value it would write in just that way, or an error, never a panic.

use crate::{build, say};
use backupengine_format::FormatError;
use backupengine_format::footer::Footer;
use backupengine_format::forward::ForwardTable;
use backupengine_format::page::{ExtentPage, IndexPage, LeafPage};
use backupengine_format::reference::ReferenceSet;
use backupengine_format::root::{RootRecord, signed_bytes};
use backupengine_format::trailer::Trailer;
use backupengine_format::{label, pack};
use backupengine_model::{DeviceId, SessionNo, SnapshotId, SnapshotInfo, Timestamp};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use std::fmt::Debug;

fn same<T: PartialEq + Debug>(value: &T, back: Result<T, FormatError>) -> Result<(), TestCaseError> {
    prop_assert_eq!(back.as_ref(), Ok(value));
    Ok(())
}

proptest! {
    #[test]
    fn leaves(page in build::leaf()) {
        same(&page, LeafPage::decode(&page.encode()))?;
    }

    #[test]
    fn extent_pages(page in build::extent_page()) {
        same(&page, ExtentPage::decode(&page.encode()))?;
    }

    #[test]
    fn footers(footer in build::footer()) {
        same(&footer, Footer::decode(&footer.encode()))?;
    }

    #[test]
    fn forwarding_tables(table in build::forward_table()) {
        same(&table, ForwardTable::decode(&table.encode()))?;
        for e in &table.entries {
            prop_assert_eq!(table.find(e.session, e.number, e.old_offset), Some((e.new_offset, e.new_len)));
        }
    }

    #[test]
    fn reference_sets(set in build::reference_set()) {
        same(&set, ReferenceSet::decode(&set.encode()))?;
    }

    #[test]
    fn roots(record in build::root()) {
        let bytes = record.encode();
        prop_assert_eq!(signed_bytes(&bytes), Ok(record.encode_unsigned()));
        same(&record, RootRecord::decode(&bytes))?;
    }

    #[test]
    fn trailers_find_what_was_laid_out(
        pack_ref in build::pack(), frames in 0..200u64 << 20, footer_len in 1..1u32 << 20, head_len in 0..1u32 << 20,
        commitment: [u8; 16],
    ) {
        let trailer = Trailer { pack: pack_ref, footer_len, head_len, commitment };
        same(&trailer, Trailer::decode(&trailer.encode()))?;
        for target in [None, Some(32 << 20)] {
            let end = pack::lay_out(frames, footer_len, head_len, target);
            prop_assert_eq!(pack::find_end(&trailer, end.total), Ok((end.footer_at, end.head_at)));
            prop_assert_eq!(frames + end.filler, end.footer_at);
            prop_assert!(target == Some(end.total) || end.total == pack::padme(end.total));
        }
    }

    #[test]
    fn labels_keep_what_fits(
        device_name in ".{0,300}", tags in btree_set(".{0,60}", 0..8), sources in vec(vec(any::<u8>(), 0..400), 0..5),
    ) {
        let tags: Vec<String> = tags.into_iter().collect();
        let info = SnapshotInfo {
            session: SessionNo(1),
            id: SnapshotId([0; 8]),
            created: Timestamp::default(),
            device: DeviceId([0; 16]),
            device_name,
            tags,
            sources,
        };
        let bytes = label::encode(&info);
        prop_assert!(bytes.len() <= label::LABEL_MAX);
        let label = label::decode(&bytes).unwrap();
        prop_assert!(info.device_name.starts_with(&label.device_name));
        prop_assert!(info.tags.starts_with(&label.tags) && info.sources.starts_with(&label.sources));
        let whole = (label.device_name.len(), label.tags.len(), label.sources.len())
            == (info.device_name.len(), info.tags.len(), info.sources.len());
        prop_assert_eq!(label.cut, !whole);
    }
}

/// All decoders, each in the vectors' words, together with the bytes it would write.
type Reader = fn(&[u8]) -> Result<(Vec<String>, Vec<u8>), FormatError>;
const READERS: [Reader; 9] = [
    say::trailer,
    say::footer,
    say::forward,
    say::refset,
    say::leaf,
    say::index,
    say::extents,
    say::root,
    say::label,
];

/// Bytes of something real.
fn real() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => build::leaf().prop_map(|page| page.encode()),
        1 => build::extent_page().prop_map(|page| page.encode()),
        1 => build::footer().prop_map(|footer| footer.encode()),
        1 => build::forward_table().prop_map(|table| table.encode()),
        1 => build::reference_set().prop_map(|set| set.encode()),
        1 => build::root().prop_map(|record| record.encode()),
        1 => crate::tree::index_page().prop_map(|page| page.encode()),
    ]
}

/// Ways to spoil bytes: overwrite, cut, insert, repeat.
fn spoil(mut bytes: Vec<u8>, (way, at, byte): (u8, prop::sample::Index, u8)) -> Vec<u8> {
    if bytes.is_empty() {
        return vec![byte];
    }
    let at = at.index(bytes.len());
    match way % 4 {
        0 => bytes[at] = byte,
        1 => bytes.truncate(at),
        2 => bytes.insert(at, byte),
        _ => bytes.extend_from_within(at..(at + usize::from(byte)).min(bytes.len())),
    }
    bytes
}

fn stands(bytes: &[u8]) -> Result<(), TestCaseError> {
    for reader in READERS {
        if let Ok((said, again)) = reader(bytes) {
            // What is written again reads the same; it is shorter only by optional parts of later versions.
            prop_assert!(again.len() <= bytes.len());
            prop_assert!(again.len() < bytes.len() || again == bytes, "two ways to write {said:?}");
            let (once_more, _) = reader(&again).unwrap();
            // Only a root's line of signed bytes holds the optional parts.
            prop_assert_eq!(&once_more[..once_more.len().max(1) - 1], &said[..said.len().max(1) - 1]);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read_exactly(bytes in vec(any::<u8>(), 0..200)) {
        stands(&bytes)?;
    }

    #[test]
    fn spoiled_bytes_are_refused_or_read_exactly(
        bytes in real(), ways in vec((any::<u8>(), any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        stands(&ways.into_iter().fold(bytes, spoil))?;
    }

    #[test]
    fn index_pages(page in crate::tree::index_page()) {
        same(&page, IndexPage::decode(&page.encode()))?;
    }
}
