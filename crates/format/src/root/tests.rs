//! Root records: both ways, what a signature covers, features of later versions, what is refused.

use super::*;
use crate::cbor::Writer;
use crate::page::XattrValue;
use backupengine_model::{Kind, NodeFlags};

fn pack(number: u32) -> PackRef {
    PackRef { session: SessionNo(9), number, salt: [3; 8], epoch: 1 }
}

fn example() -> RootRecord {
    let frame = |number| FrameRef { pack: pack(number), offset: 0, stored_len: 77 };
    RootRecord {
        vault: VaultId([1; 16]),
        session: SessionNo(9),
        device: DeviceId([2; 16]),
        created: Timestamp { secs: -5, nanos: 7 },
        device_name: "laptop".into(),
        tags: vec!["a".into(), "b".into()],
        sources: vec![b"/home/me".to_vec()],
        attributes: Attributes {
            kind: Kind::Directory,
            mode: 0o1777,
            uid: 0,
            gid: u32::MAX,
            size: 4096,
            mtime: Timestamp { secs: 1 << 40, nanos: 999_999_999 },
            rdev: 0,
            nlink: 20,
            allocated: None,
            flags: NodeFlags::default(),
        },
        xattrs: vec![
            Xattr { name: b"user.a".to_vec(), value: XattrValue::Inline(b"x".to_vec()) },
            Xattr {
                name: b"user.b".to_vec(),
                value: XattrValue::Stored { frame: frame(0), inner: 5, len: 300 },
            },
        ],
        totals: Totals { files: 1, directories: 2, bytes: 3, stored: u64::MAX },
        parent: Some((SessionNo(8), RootHash([4; 32]))),
        others: vec![(DeviceId([5; 16]), SessionNo(7), RootHash([6; 32]))],
        top: vec![1, 2, 3],
        root_listing: vec![vec![1], vec![2]],
        reference_set: frame(PackRef::ROOT),
        page_packs: vec![pack(0), pack(1)],
        writer: "backupengine 0.1.0".into(),
        signature: [8; 64],
        certificate: vec![9; 200],
    }
}

#[test]
fn records_go_both_ways() {
    let full = example();
    assert_eq!(RootRecord::decode(&full.encode()).as_ref(), Ok(&full));
    let bare = RootRecord {
        parent: None,
        others: Vec::new(),
        top: Vec::new(),
        root_listing: Vec::new(),
        page_packs: Vec::new(),
        tags: Vec::new(),
        sources: Vec::new(),
        xattrs: Vec::new(),
        ..example()
    };
    assert_eq!(RootRecord::decode(&bare.encode()).as_ref(), Ok(&bare));
}

#[test]
fn the_signature_covers_all_but_itself() {
    let mut record = example();
    let (unsigned, whole) = (record.encode_unsigned(), record.encode());
    assert_eq!(signed_bytes(&whole).as_ref(), Ok(&unsigned));
    record.signature = [0; 64];
    assert_eq!(record.encode_unsigned(), unsigned);
    record.certificate.push(1);
    assert_ne!(record.encode_unsigned(), unsigned);
    assert!(signed_bytes(&[&whole[..], &[0]].concat()).is_err());
    assert!(signed_bytes(&unsigned).is_err() && RootRecord::decode(&unsigned).is_err());
}

/// The second attribute's value elsewhere in its frame.
fn stored(record: &mut RootRecord, inner: u32, len: u32) {
    let frame = record.reference_set;
    record.xattrs[1].value = XattrValue::Stored { frame: FrameRef { pack: pack(0), ..frame }, inner, len };
}

#[test]
fn records_go_as_far_as_their_limits() {
    let goes: [fn(&mut RootRecord); 4] = [
        |r| r.reference_set.offset = crate::limits::PACK_MAX as u32 - 77,
        |r| stored(r, 262_144 - 257, 257),
        |r| r.xattrs[0].name = vec![b'a'; 255],
        |r| r.others.push((DeviceId([6; 16]), SessionNo(7), RootHash([6; 32]))),
    ];
    for (at, reach) in goes.iter().enumerate() {
        let mut record = example();
        reach(&mut record);
        assert_eq!(RootRecord::decode(&record.encode()), Ok(record), "{at}");
    }
}

#[test]
fn impossible_records_are_refused() {
    let breaks: [fn(&mut RootRecord); 24] = [
        |r| r.tags.reverse(),
        |r| r.tags[1] = "a".into(),
        |r| r.session = SessionNo(0),
        |r| r.created.nanos = 1_000_000_000,
        |r| r.attributes.kind = Kind::File,
        |r| r.attributes.mode = 0o10000,
        |r| r.attributes.rdev = 1,
        |r| r.xattrs.reverse(),
        |r| r.xattrs[0].value = XattrValue::Inline(vec![0; 257]),
        |r| r.others.push((DeviceId([5; 16]), SessionNo(7), RootHash([6; 32]))),
        |r| r.root_listing = vec![vec![1]; 3],
        |r| r.root_listing = vec![vec![]],
        |r| r.reference_set.pack.number = 0,
        |r| r.page_packs = vec![pack(0); 65],
        |r| r.sources.push(Vec::new()),
        |r| r.reference_set.stored_len = 0,
        |r| r.reference_set.offset = crate::limits::PACK_MAX as u32 - 76,
        |r| r.xattrs[1].name = b"user.a".to_vec(),
        |r| r.xattrs[0].name = Vec::new(),
        |r| r.xattrs[0].name = b"a\0".to_vec(),
        |r| r.xattrs[0].name = vec![b'a'; 256],
        |r| stored(r, 5, 256),
        |r| stored(r, 262_144 - 256, 257),
        |r| r.others.insert(0, (DeviceId([6; 16]), SessionNo(7), RootHash([6; 32]))),
    ];
    for (at, spoil) in breaks.iter().enumerate() {
        let mut record = example();
        spoil(&mut record);
        assert!(matches!(RootRecord::decode(&record.encode()), Err(FormatError::Broken { .. })), "{at}");
    }
}

/// `record` with other features in key 1 and `more` behind key 17.
fn with_features(critical: &[u64], optional: &[u64], more: &[(u64, &[u8])]) -> Vec<u8> {
    let bytes = example().encode();
    // Map head 1 byte, key 1, array of two empty arrays.
    assert_eq!(bytes[..5], [0xb1, 1, 0x82, 0x80, 0x80]);
    let mut out = Writer::new();
    out.map(17 + more.len()).uint(1u8).array(2);
    for list in [critical, optional] {
        out.array(list.len());
        for &feature in list {
            out.uint(feature);
        }
    }
    out.raw(&bytes[5..]);
    for (key, value) in more {
        out.uint(*key).raw(value);
    }
    out.finish()
}

#[test]
fn unknown_keys_pass_only_as_optional_features() {
    let nested = [0x82, 0x61, b'x', 0xa0];
    let bytes = with_features(&[], &[18, 20, 21], &[(18, &nested), (21, &[0])]);
    assert_eq!(RootRecord::decode(&bytes), Ok(example()));
    assert_ne!(signed_bytes(&bytes).unwrap(), example().encode_unsigned());
    assert_eq!(RootRecord::decode(&with_features(&[], &[], &[])), Ok(example()));
    let too_new = RootRecord::decode(&with_features(&[3], &[], &[]));
    assert!(matches!(too_new, Err(FormatError::TooNew { .. })));
    for bytes in [
        with_features(&[], &[], &[(18, &[0])]),
        with_features(&[], &[18], &[(18, &[0]), (18, &[0])]),
        with_features(&[], &[18, 19], &[(19, &[0]), (18, &[0])]),
        with_features(&[], &[19, 18], &[]),
        with_features(&[], &[17], &[]),
        with_features(&[], &[18, 18], &[]),
    ] {
        assert!(matches!(RootRecord::decode(&bytes), Err(FormatError::Broken { .. })));
    }
}

#[test]
fn every_cut_is_refused() {
    let bytes = example().encode();
    for len in 0..bytes.len() {
        assert!(RootRecord::decode(&bytes[..len]).is_err(), "{len}");
    }
}
