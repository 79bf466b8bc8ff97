//! Frames of packs that were moved.

use crate::fixture::{Counting, PackWriter, TreeWriter, World, dir, file, holds, put};
use crate::{Locked, Relocations, VaultConfig};
use backupengine_format::forward::{Forward, ForwardTable};
use backupengine_format::page::{Content, Extent};
use backupengine_model::{ContentReader, FrameKind, FrameRef, NodeId, ReadFailure, SessionNo, TreeReader};
use backupengine_store::{BlobKey, StoreError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Packs to the relocation packs that hold their frames.
type Map = HashMap<(SessionNo, u32), Vec<(SessionNo, u32)>>;

struct Moved(Map);

impl Relocations for Moved {
    fn moved(&self, session: SessionNo, number: u32) -> Result<Vec<(SessionNo, u32)>, StoreError> {
        Ok(self.0.get(&(session, number)).cloned().unwrap_or_default())
    }
}

/// Moves every frame of pack 0 into two relocation packs, but `lost`, and removes it.
fn move_away(world: &mut World, session: SessionNo, lost: Option<FrameRef>) -> (SessionNo, Moved) {
    let vault = world.vault();
    let footer = footer_of(world, session);
    let to = world.open_session();
    let mut packs = [world.pack(to, 0), world.pack(to, 1)];
    let mut tables = [ForwardTable::default(), ForwardTable::default()];
    // Something else first, so that offsets differ.
    for pack in &mut packs {
        pack.raw(FrameKind::Data, b"other");
    }
    for (n, (kind, at)) in footer.into_iter().enumerate() {
        if lost == Some(at) {
            continue;
        }
        let plain = vault.frame(kind, &at, None).unwrap();
        let new = packs[n % 2].raw(kind, &plain);
        tables[n % 2].entries.push(Forward {
            session,
            number: 0,
            old_offset: at.offset,
            new_offset: new.offset,
            new_len: new.stored_len,
        });
    }
    for (number, (pack, table)) in packs.into_iter().zip(tables).enumerate() {
        let blob = pack.finish(Some((FrameKind::Forwarding, &table.encode())));
        put(&world.store, BlobKey::Pack(to, number as u32), blob);
    }
    world.remove(BlobKey::Pack(session, 0));
    (to, Moved(HashMap::from([((session, 0), vec![(to, 0), (to, 1)])])))
}

fn footer_of(world: &World, session: SessionNo) -> Vec<(FrameKind, FrameRef)> {
    let blob = world.blob(BlobKey::Pack(session, 0));
    let at = blob.len() - backupengine_format::trailer::TRAILER_LEN;
    let trailer = backupengine_format::trailer::Trailer::decode(&blob[at..]).unwrap();
    let (footer_at, head_at) = backupengine_format::pack::find_end(&trailer, blob.len() as u64).unwrap();
    let mut sealed = blob[footer_at as usize..head_at as usize].to_vec();
    let key = world.keyring.pack_key(&trailer.pack).unwrap();
    let len = key.open(FrameKind::Footer, footer_at as u32, &mut sealed).unwrap();
    let footer = backupengine_format::footer::Footer::decode(&sealed[1..len]).unwrap();
    let mut offset = 0;
    let place = |frame: backupengine_format::footer::FooterFrame| {
        let at = FrameRef { pack: trailer.pack, offset, stored_len: frame.stored_len };
        offset += frame.stored_len;
        (frame.kind, at)
    };
    footer.frames.into_iter().map(place).collect()
}

fn world() -> (World, SessionNo, FrameRef) {
    let mut world = World::new();
    let frame = Arc::new(Mutex::new(None));
    let kept = frame.clone();
    let content = move |pack: &mut PackWriter| {
        let frame = pack.raw(FrameKind::Data, b"moved bytes");
        *kept.lock().unwrap() = Some(frame);
        Content::Extents(vec![Extent { len: 11, frame: Some(frame) }])
    };
    let many = (0..30).map(|n| file(&format!("d/{n}"), b"in a leaf"));
    let tree = TreeWriter::new(many.chain([dir("d")])).with(holds("d/data", 11, content));
    let session = world.push(tree);
    let frame = frame.lock().unwrap().unwrap();
    (world, session, frame)
}

fn read(world: &World, moved: Moved, session: SessionNo) -> Result<Vec<u8>, ReadFailure> {
    let config = VaultConfig { memory: 16 << 20, read_ahead_threads: 0, ..VaultConfig::default() };
    let locked = Locked::open(Arc::new(Counting::new(world))).unwrap().with_relocations(Arc::new(moved));
    let vault = locked.unlock_as(world.keyring.clone(), config).unwrap();
    let inside = || {
        let dir = vault.lookup(NodeId::root(session), b"d")?.expect("listed in the root").id;
        assert_eq!(TreeReader::list(&vault, dir, 0, 99)?.slots.len(), 31);
        let file = vault.lookup(dir, b"data")?.expect("was pushed").id;
        let mut out = vec![0; 11];
        vault.read_at(file, 0, &mut out)?;
        Ok(out)
    };
    inside().map_err(|error: backupengine_model::ReadError| error.failure)
}

#[test]
fn pages_and_data_of_a_moved_pack_are_found() {
    let (mut world, session, _) = world();
    let (_, moved) = move_away(&mut world, session, None);
    assert_eq!(read(&world, moved, session), Ok(b"moved bytes".to_vec()));
}

#[test]
fn what_is_in_no_table_is_damage() {
    let (mut world, session, frame) = world();
    let (_, moved) = move_away(&mut world, session, Some(frame));
    assert_eq!(read(&world, moved, session), Err(ReadFailure::Damaged));
    assert_eq!(read(&world, Moved(HashMap::new()), session), Err(ReadFailure::Damaged));
}

#[test]
fn a_pack_that_moves_while_it_is_read_is_followed() {
    let (mut world, session, _) = world();
    let shared = Arc::new(Mutex::new(Map::new()));
    struct Later(Arc<Mutex<Map>>);
    impl Relocations for Later {
        fn moved(&self, session: SessionNo, number: u32) -> Result<Vec<(SessionNo, u32)>, StoreError> {
            Ok(self.0.lock().unwrap().get(&(session, number)).cloned().unwrap_or_default())
        }
    }
    let config = VaultConfig { memory: 16 << 20, read_ahead_threads: 0, ..VaultConfig::default() };
    let locked = Locked::open(Arc::new(Counting::new(&world))).unwrap();
    let locked = locked.with_relocations(Arc::new(Later(shared.clone())));
    let vault = locked.unlock_as(world.keyring.clone(), config).unwrap();
    let dir = vault.lookup(NodeId::root(session), b"d").unwrap().unwrap().id;
    // Its key is kept now, and the pack is where its name says.
    let file = vault.lookup(dir, b"data").unwrap().unwrap().id;
    let (_, moved) = move_away(&mut world, session, None);
    *shared.lock().unwrap() = moved.0;
    let mut out = [0; 11];
    assert_eq!(vault.read_at(file, 0, &mut out).unwrap(), 11);
    assert_eq!(&out, b"moved bytes");
}

#[test]
fn a_relocation_pack_must_be_what_the_ledger_calls_it() {
    let (mut world, session, _) = world();
    let (to, moved) = move_away(&mut world, session, None);
    // The second relocation pack under the first one's name.
    let second = world.blob(BlobKey::Pack(to, 1));
    world.replace(BlobKey::Pack(to, 0), second);
    assert_eq!(read(&world, moved, session), Err(ReadFailure::Damaged));
}

/// A vault behind a network whose moved pack is read, the way there being damaged once. `at`: which byte of the
/// relocation pack, from its end.
fn read_after_damage(at: impl Fn(&[u8]) -> usize) {
    let (mut world, session, _) = world();
    let (to, moved) = move_away(&mut world, session, None);
    let mut store = Counting::new(&world);
    store.grid = 65_536;
    let config = VaultConfig { memory: 16 << 20, read_ahead_threads: 0, ..VaultConfig::default() };
    let locked = Locked::open(Arc::new(store)).unwrap().with_relocations(Arc::new(moved));
    let vault = locked.unlock_as(world.keyring.clone(), config).unwrap();
    let sound = [0, 1].map(|number| world.blob(BlobKey::Pack(to, number)));
    for (number, blob) in (0..).zip(&sound) {
        let mut damaged = blob.clone();
        let at = at(&damaged);
        damaged[at] ^= 1;
        world.replace(BlobKey::Pack(to, number), damaged);
    }
    let look = || {
        let dir = vault.lookup(NodeId::root(session), b"d")?.expect("listed in the root").id;
        let file = vault.lookup(dir, b"data")?.expect("was pushed").id;
        let mut out = vec![0; 11];
        vault.read_at(file, 0, &mut out)?;
        Ok::<_, backupengine_model::ReadError>(out)
    };
    assert_eq!(look().unwrap_err().failure, ReadFailure::Damaged);
    for (number, blob) in (0..).zip(sound) {
        world.replace(BlobKey::Pack(to, number), blob);
    }
    assert_eq!(look().unwrap(), b"moved bytes");
}

#[test]
fn what_of_a_relocation_pack_was_damaged_on_its_way_is_fetched_again() {
    // Its trailer, the table before it, and a frame: "other" comes first, then what was moved.
    let table = |blob: &[u8]| blob.len() - 64 - 8;
    read_after_damage(|blob| blob.len() - 10);
    read_after_damage(table);
    read_after_damage(|_| 4 + 1 + 1 + 16 + 3);
}
