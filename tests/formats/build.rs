//! Random things of every type, within the rules of FORMAT.md.

use backupengine_format::footer::{Footer, FooterContent, FooterFrame};
use backupengine_format::forward::{Forward, ForwardTable};
use backupengine_format::page::{
    Content, Extent, ExtentPage, ExtentPageRef, ExtentRows, HardLink, LeafEntry, LeafPage, Xattr, XattrValue,
};
use backupengine_format::reference::ReferenceSet;
use backupengine_format::root::RootRecord;
use backupengine_model::{
    Attributes, ContentId, DeviceId, FrameKind, FrameRef, Kind, NodeFlags, PackRef, RootHash, SessionNo,
    Timestamp, Totals, TreePath, VaultId,
};
use bytes::Bytes;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const FULL: u64 = 256 << 10;

/// Few packs, so that tables have repeats.
pub(crate) fn pack() -> impl Strategy<Value = PackRef> {
    (1..4u32, 0..3u32, any::<bool>(), 1..3u16).prop_map(|(session, number, other, epoch)| PackRef {
        session: SessionNo(session),
        number,
        salt: [u8::from(other); 8],
        epoch,
    })
}

pub(crate) fn frame() -> impl Strategy<Value = FrameRef> {
    let offset = prop_oneof![0..3u32, 0..(255u32 << 20)];
    (pack(), offset, 1..(1u32 << 18)).prop_map(|(pack, offset, stored_len)| FrameRef {
        pack,
        offset,
        stored_len,
    })
}

fn time() -> impl Strategy<Value = Timestamp> {
    let secs = prop_oneof![1_700_000_000..1_700_000_005i64, any::<i64>()];
    let nanos = prop_oneof![Just(0), 0..1_000_000_000u32];
    (secs, nanos).prop_map(|(secs, nanos)| Timestamp { secs, nanos })
}

/// A name, often like others.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let likely = prop_oneof![Just(b'a'), Just(b'b'), Just(b'\xff'), Just(b'\n')];
    let byte = prop_oneof![8 => likely, 1 => 1u8..=255];
    vec(byte, 1..6).prop_filter("usable", |name| backupengine_model::check_name(name).is_ok())
}

fn path() -> impl Strategy<Value = TreePath> {
    vec(name(), 0..4).prop_map(|parts| parts.iter().fold(TreePath::root(), |path, part| path.child(part)))
}

pub(crate) fn xattrs() -> impl Strategy<Value = Vec<Xattr>> {
    let inline = vec(any::<u8>(), 0..=256).prop_map(XattrValue::Inline);
    let stored = (frame(), 0..1000u32, 257..65_536u32).prop_map(|(frame, inner, len)| XattrValue::Stored {
        frame,
        inner,
        len,
    });
    let named = ("[a-c]{1,3}", prop_oneof![3 => inline, 1 => stored]);
    let sorted = |set: BTreeMap<String, XattrValue>| {
        set.into_iter().map(|(name, value)| Xattr { name: name.into_bytes(), value }).collect()
    };
    vec(named, 0..3).prop_map(move |pairs| sorted(pairs.into_iter().collect()))
}

/// Runs that follow each other in a pack, or not.
fn runs() -> impl Strategy<Value = Vec<Extent>> {
    let len = prop_oneof![Just(FULL), 1..=FULL];
    let hole = prop_oneof![Just(FULL), 1..1u64 << 50];
    let one = prop_oneof![
        2 => (len.clone(), frame()).prop_map(|(len, frame)| (len, Some(frame), false)),
        3 => (len, frame()).prop_map(|(len, frame)| (len, Some(frame), true)),
        1 => hole.prop_map(|len| (len, None, false)),
    ];
    vec(one, 1..8).prop_map(|rows| {
        let mut last: Option<FrameRef> = None;
        rows.into_iter()
            .map(|(len, frame, follows)| {
                let frame = frame.map(|mut frame| {
                    if let Some(last) = last.filter(|_| follows) {
                        (frame.pack, frame.offset) =
                            (last.pack, (last.offset + last.stored_len) % (255 << 20));
                    }
                    last = Some(frame);
                    frame
                });
                Extent { len, frame }
            })
            .collect()
    })
}

fn pages() -> impl Strategy<Value = Vec<ExtentPageRef>> {
    let one = (1..1u64 << 50, frame()).prop_map(|(len, frame)| ExtentPageRef { len, frame });
    vec(one, 1..5)
}

pub(crate) fn extent_page() -> impl Strategy<Value = ExtentPage> {
    prop_oneof![
        runs().prop_map(|rows| ExtentPage { level: 0, rows: ExtentRows::Extents(rows) }),
        (1..=8u8, pages()).prop_map(|(level, rows)| ExtentPage { level, rows: ExtentRows::Pages(rows) }),
    ]
}

/// Kind, size and content that fit together.
fn substance() -> impl Strategy<Value = (Kind, u64, Content)> {
    let inline = |max| vec(any::<u8>(), 1..=max).prop_map(Bytes::from);
    let bundle = (frame(), 0..3u32, 1..=1000u64);
    prop_oneof![
        2 => Just((Kind::File, 0, Content::None)),
        3 => inline(128).prop_map(|b| (Kind::File, b.len() as u64, Content::Inline(b))),
        6 => bundle.prop_map(|(frame, nth, size)| {
            (Kind::File, size, Content::Bundle { frame, inner: nth * 1000 })
        }),
        2 => runs().prop_map(|r| (Kind::File, r.iter().map(|e| e.len).sum(), Content::Extents(r))),
        1 => pages().prop_map(|p| (Kind::File, p.iter().map(|e| e.len).sum(), Content::Pages(p))),
        2 => inline(300).prop_map(|b| (Kind::Symlink, b.len() as u64, Content::Inline(b))),
        1 => inline(9).prop_map(|b| (Kind::Symlink, 0, Content::Inline(b))),
        1 => prop_oneof![Just(Kind::Fifo), Just(Kind::Socket), Just(Kind::CharDevice), Just(Kind::BlockDevice)]
            .prop_map(|kind| (kind, 0, Content::None)),
    ]
}

fn entry() -> impl Strategy<Value = LeafEntry> {
    let owner = prop_oneof![3 => Just(1000u32), 1 => any::<u32>()];
    let rare = |usual: u32| prop_oneof![5 => Just(usual), 1 => any::<u32>()];
    let attributes = (0..0o10000u32, owner, time(), rare(1), rare(0), 0..6u8);
    let set = prop_oneof![3 => Just(Vec::new()), 1 => xattrs()];
    let link = prop_oneof![4 => Just(None), 1 => path().prop_map(Some)];
    (path(), name(), substance(), attributes, set, link).prop_map(
        |(parent, name, (kind, size, content), (mode, uid, mtime, nlink, rdev, dice), set, link)| {
            let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
            let own = (&parent, name.as_slice());
            let hard_link = match link {
                None => HardLink::None,
                Some(path) => match path.split_last() {
                    Some((dir, leaf)) if (&dir, leaf) < own => HardLink::Also(path),
                    _ => HardLink::First,
                },
            };
            let file = kind == Kind::File;
            let attributes = Attributes {
                kind,
                mode,
                uid,
                gid: uid / 2,
                size,
                mtime,
                rdev: if device { rdev.into() } else { 0 },
                nlink,
                allocated: (file && dice == 0).then_some(size / 2),
                flags: NodeFlags(u8::from(file && dice == 1)),
            };
            LeafEntry { parent: Arc::new(parent), name, attributes, content, xattrs: set.into(), hard_link }
        },
    )
}

/// Nodes of the other class, sorted, no key twice.
pub(crate) fn others(max: usize) -> impl Strategy<Value = Vec<LeafEntry>> {
    vec(entry(), 1..max).prop_map(|entries| {
        let by_key: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.key(), entry)).collect();
        by_key.into_values().collect()
    })
}

/// The same as directories.
pub(crate) fn directories(max: usize) -> impl Strategy<Value = Vec<LeafEntry>> {
    others(max).prop_map(|mut entries| {
        for entry in &mut entries {
            entry.attributes.kind = Kind::Directory;
            entry.attributes.rdev = 0;
            entry.attributes.allocated = None;
            entry.attributes.flags = NodeFlags::default();
            entry.content = Content::None;
            entry.hard_link = HardLink::None;
        }
        entries
    })
}

pub(crate) fn leaf() -> impl Strategy<Value = LeafPage> {
    prop_oneof![3 => others(40), 1 => directories(40)].prop_map(|entries| LeafPage { entries })
}

pub(crate) fn footer() -> impl Strategy<Value = Footer> {
    let id = || any::<[u8; 16]>().prop_map(ContentId);
    let chunk = (id(), 1..4u32).prop_map(|(id, frames)| vec![FooterContent::Chunk { id, frames }]);
    let bundle = vec((id(), 0..10u32, 1..1000u32), 0..5).prop_map(|pieces| {
        let mut end = 0;
        let lay = |(id, gap, len)| {
            let inner = end + gap;
            end = inner + len;
            FooterContent::Piece { id, inner, len }
        };
        pieces.into_iter().map(lay).collect::<Vec<_>>()
    });
    let kinds =
        [FrameKind::Leaf, FrameKind::Index, FrameKind::Extents, FrameKind::ReferenceSet, FrameKind::Dedup];
    let page = prop::sample::select(kinds.to_vec()).prop_map(|kind| (kind, Vec::new()));
    let data = prop_oneof![chunk, bundle].prop_map(|contents| (FrameKind::Data, contents));
    let row = (prop_oneof![page, data], 1..100_000u32, 10_000..200_000u32);
    vec(row, 0..20).prop_map(|rows| {
        let mut frames = Vec::new();
        for ((kind, contents), stored_len, plain_len) in rows {
            let more = if let [FooterContent::Chunk { frames, .. }] = contents[..] { frames - 1 } else { 0 };
            frames.push(FooterFrame { kind, stored_len, plain_len, contents });
            frames.extend((0..more).map(|_| FooterFrame {
                kind,
                stored_len,
                plain_len,
                contents: Vec::new(),
            }));
        }
        Footer { frames }
    })
}

pub(crate) fn forward_table() -> impl Strategy<Value = ForwardTable> {
    let key = (1..4u32, 0..3u32, 0..(200u32 << 20));
    prop::collection::btree_map(key, (0..(200u32 << 20), 1..1_000_000u32), 0..30).prop_map(|map| {
        let row = |((session, number, old_offset), (new_offset, new_len))| Forward {
            session: SessionNo(session),
            number,
            old_offset,
            new_offset,
            new_len,
        };
        ForwardTable { entries: map.into_iter().map(row).collect() }
    })
}

pub(crate) fn reference_set() -> impl Strategy<Value = ReferenceSet> {
    let numbers = btree_set(prop_oneof![0..20u32, 0..u32::MAX], 1..20);
    prop::collection::btree_map(1..u32::MAX, numbers, 0..5).prop_map(|map| ReferenceSet {
        packs: map.into_iter().map(|(s, numbers)| (SessionNo(s), numbers.into_iter().collect())).collect(),
    })
}

pub(crate) fn root() -> impl Strategy<Value = RootRecord> {
    let ids = (any::<[u8; 16]>(), 1..u32::MAX, any::<[u8; 16]>(), time());
    let others = prop::collection::btree_map(any::<[u8; 16]>(), (1..u32::MAX, any::<[u8; 32]>()), 0..4);
    let words = (".{0,20}", btree_set(".{0,9}", 0..4), vec("/[a-zé]{0,9}", 0..3), ".{0,9}");
    let chain = (prop::option::of((1..u32::MAX, any::<[u8; 32]>())), others);
    let bytes = || vec(any::<u8>(), 0..100);
    let pages = (bytes(), vec(vec(any::<u8>(), 1..50), 0..3), vec(pack(), 0..65), bytes(), any::<[u8; 32]>());
    let rest = (0..0o10000u32, any::<u32>(), any::<u64>(), time(), xattrs(), any::<[u64; 4]>());
    (ids, words, chain, pages, rest).prop_map(
        |(
            (vault, session, device, created),
            words,
            chain,
            pages,
            (mode, uid, size, mtime, xattrs, totals),
        )| {
            let [files, directories, bytes, stored] = totals;
            let own = PackRef { session: SessionNo(session), number: PackRef::ROOT, salt: [1; 8], epoch: 7 };
            RootRecord {
                vault: VaultId(vault),
                session: SessionNo(session),
                device: DeviceId(device),
                created,
                device_name: words.0,
                tags: words.1.into_iter().collect(),
                sources: words.2.into_iter().map(String::into_bytes).collect(),
                attributes: Attributes {
                    kind: Kind::Directory,
                    mode,
                    uid,
                    gid: !uid,
                    size,
                    mtime,
                    rdev: 0,
                    nlink: uid,
                    allocated: None,
                    flags: NodeFlags::default(),
                },
                xattrs,
                totals: Totals { files, directories, bytes, stored },
                parent: chain.0.map(|(session, hash)| (SessionNo(session), RootHash(hash))),
                others: chain
                    .1
                    .into_iter()
                    .map(|(d, (s, h))| (DeviceId(d), SessionNo(s), RootHash(h)))
                    .collect(),
                top: pages.0,
                root_listing: pages.1,
                reference_set: FrameRef { pack: own, offset: 0, stored_len: 1 + (uid >> 8) },
                page_packs: pages.2,
                writer: words.3,
                signature: std::array::from_fn(|at| pages.4[at % 32]),
                certificate: pages.3,
            }
        },
    )
}
