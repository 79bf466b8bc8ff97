//! Blobs that changed, went, or stand in for others: an error that names them, and nothing else lost.

use crate::fixture::{Counting, PackWriter, TreeWriter, World, dir, file, holds};
use backupengine_format::page::{Content, Extent};
use backupengine_model::{ContentReader, FrameKind, NodeId, PackRef, ReadFailure, SessionNo, TreeReader};
use backupengine_store::BlobKey;
use std::sync::Arc;

/// One file of two frames, and a second file whose frame stands between other things.
fn world() -> (World, SessionNo) {
    let mut world = World::new();
    let content = |bytes: [&'static [u8]; 2]| {
        move |pack: &mut PackWriter| {
            let extent = |bytes: &&[u8], pack: &mut PackWriter| Extent {
                len: bytes.len() as u64,
                frame: Some(pack.raw(FrameKind::Data, bytes)),
            };
            Content::Extents(bytes.iter().map(|bytes| extent(bytes, pack)).collect())
        }
    };
    let tree = TreeWriter::new([dir("d"), file("d/inline", b"inside the leaf")])
        .with(holds("d/a", 8, content([b"aaaa", b"AAAA"])))
        .with(holds("d/b", 8, content([b"bbbb", b"BBBB"])));
    let session = world.push(tree);
    (world, session)
}

fn read(vault: &crate::Vault, session: SessionNo, name: &str, at: u64) -> Result<Vec<u8>, ReadFailure> {
    let mut out = vec![0; 4];
    let mut lookup = || {
        let dir = vault.lookup(NodeId::root(session), b"d")?.expect("listed in the root");
        let file = vault.lookup(dir.id, name.as_bytes())?.expect("was pushed");
        vault.read_at(file.id, at, &mut out)
    };
    let done = lookup();
    done.map(|n| out[..n].to_vec()).map_err(|error| {
        assert!(error.message.contains("p/00000001/00000000"), "{}", error.message);
        error.failure
    })
}

/// Where the sealed bytes of a plain text would lie is unknown from outside: frames are tried by damage.
fn with_flipped(world: &World, session: SessionNo, at: usize) -> World {
    let key = BlobKey::Pack(session, 0);
    let copy = world.copy();
    let mut blob = world.blob(key);
    blob[at] ^= 0x10;
    copy.replace(key, blob);
    copy
}

#[test]
fn one_flipped_bit_costs_only_what_its_frame_held() {
    let (world, session) = world();
    let len = world.blob(BlobKey::Pack(session, 0)).len();
    let frame = 4 + 1 + 16;
    let whole = |name: &str| if name == "a" { ["aaaa", "AAAA"] } else { ["bbbb", "BBBB"] };
    for at in (0..len).step_by(3) {
        let damaged = with_flipped(&world, session, at);
        let vault = damaged.vault();
        for (n, (name, part)) in [("a", 0), ("a", 1), ("b", 0), ("b", 1)].into_iter().enumerate() {
            let hit = (n * frame..(n + 1) * frame).contains(&at);
            match read(&vault, session, name, part as u64 * 4) {
                Ok(bytes) => assert!(!hit && bytes == whole(name)[part].as_bytes(), "byte {at}"),
                // Behind the data frames lie the leaves, footer, filler and the trailer.
                Err(failure) => {
                    assert!(hit || at >= 4 * frame, "byte {at} cost {name}");
                    assert_eq!(failure, ReadFailure::Damaged);
                }
            }
        }
        // The listing of "/" is in the root, which is whole.
        assert_eq!(TreeReader::list(&vault, NodeId::root(session), 0, 9).unwrap().slots.len(), 1);
    }
}

#[test]
fn a_frame_that_does_not_open_is_fetched_once_more() {
    let (world, session) = world();
    let damaged = with_flipped(&world, session, 2);
    let store = Arc::new(Counting::new(&damaged));
    let vault = damaged.open(store.clone());
    assert_eq!(read(&vault, session, "b", 0), Ok(b"bbbb".to_vec()));
    let before = store.gets_of(BlobKey::Pack(session, 0));
    assert_eq!(read(&vault, session, "a", 0), Err(ReadFailure::Damaged));
    // The frame, then the pack's trailer and the frame again.
    assert_eq!(store.gets_of(BlobKey::Pack(session, 0)) - before, 3);
    assert_eq!(vault.stats().refetched, 1);
}

#[test]
fn a_missing_or_shorter_pack_is_damage_that_names_it() {
    let (world, session) = world();
    let key = BlobKey::Pack(session, 0);
    let missing = world.copy();
    missing.remove(key);
    assert_eq!(read(&missing.vault(), session, "a", 0), Err(ReadFailure::Damaged));
    let blob = world.blob(key);
    for len in [0, 10, 63, 64, 65, blob.len() / 2, blob.len() - 1] {
        let cut = world.copy();
        cut.replace(key, blob[..len].to_vec());
        assert_eq!(read(&cut.vault(), session, "a", 0), Err(ReadFailure::Damaged), "{len}");
    }
}

#[test]
fn a_pack_under_another_packs_name_is_refused() {
    let (mut world, session) = world();
    let next = world.push(TreeWriter::new([dir("d"), file("d/x", b"x")]));
    let swapped = world.copy();
    swapped.replace(BlobKey::Pack(session, 0), world.blob(BlobKey::Pack(next, 0)));
    assert_eq!(read(&swapped.vault(), session, "a", 0), Err(ReadFailure::Damaged));
    // The same numbers under another salt are another pack too.
    let pack = PackRef { session, number: 0, salt: [0xcc; 8], epoch: 1 };
    let mut again = PackWriter::new(&world.keyring, pack);
    again.raw(FrameKind::Data, b"aaaa");
    swapped.replace(BlobKey::Pack(session, 0), again.finish(None));
    assert_eq!(read(&swapped.vault(), session, "a", 0), Err(ReadFailure::Damaged));
}

#[test]
fn a_wrong_commitment_is_refused_before_any_frame_is_fetched() {
    let (world, session) = world();
    let key = BlobKey::Pack(session, 0);
    let mut blob = world.blob(key);
    let at = blob.len() - 64;
    let mut trailer = backupengine_format::trailer::Trailer::decode(&blob[at..]).unwrap();
    trailer.commitment[0] ^= 1;
    blob.splice(at.., trailer.encode());
    world.replace(key, blob);
    let store = Arc::new(Counting::new(&world));
    let vault = world.open(store.clone());
    assert_eq!(read(&vault, session, "a", 0), Err(ReadFailure::Damaged));
    for (blob, range) in store.gets.lock().unwrap().iter() {
        assert!(*blob != key || matches!(range, backupengine_store::Range::Suffix(_)), "{range:?}");
    }
}

#[test]
fn a_page_in_another_pages_place_is_refused() {
    let mut world = World::new();
    let names: Vec<_> = (0..40).map(|n| file(&format!("d/{n:02}"), b"x")).collect();
    let nodes = || names.iter().cloned().chain([dir("d")]);
    // The second tree's first leaf holds another number of nodes than its parent says.
    let session = world.push(TreeWriter::new(nodes()));
    let mut draft = world.draft(TreeWriter::new(nodes()));
    let top = backupengine_format::page::IndexPage::decode(&draft.record.top).unwrap();
    let mut forged = top.clone();
    forged.children[0].frame = top.children[1].frame;
    draft.record.top = forged.encode();
    let wrong = world.commit(draft);
    let vault = world.vault();
    let whole = |session| {
        let dir = vault.lookup(NodeId::root(session), b"d")?.expect("listed").id;
        Ok::<_, backupengine_model::ReadError>(TreeReader::list(&vault, dir, 0, 99)?.slots.len())
    };
    assert_eq!(whole(session).unwrap(), 40);
    assert_eq!(whole(wrong).unwrap_err().failure, ReadFailure::Damaged);
    assert!(vault.leaves(wrong).unwrap().any(|leaf| leaf.is_err()));
}
