//! The vault the campaign damages: every kind of object, everything that can be asked of it with the right answer, and
//! which bytes each answer needs.
//!
//! May not guess what is needed: each question is asked once of a reader that knows nothing yet, on a store that notes
//! what is read. What always holds: two pushes of a folder (compared with that folder), one snapshot written by hand
//! with what pushes of this size do not store (index pages, values of attributes), one pack moved into a relocation
//! pack. Tested by the campaign: without damage everything is right.

use super::things::{Answer, Thing, list, show};
use crate::forger::{Pack, forge_into};
use backupengine_format::footer::{Footer, FooterContent};
use backupengine_format::forward::{Forward, ForwardTable};
use backupengine_format::pack::find_end;
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_model::{
    FrameKind, FrameRef, Kind, NodeId, PackRef, SessionNo, SnapshotInfo, Timestamp, TreeReader,
};
use backupengine_seal::{DeviceKey, DeviceSecret, KdfParams, Role, UnlockSecret, seal_envelope};
use backupengine_store::{
    BlobKey, BlobKind, BlockCache, EnvelopeId, FolderStore, Range, Readable, StoreError,
};
use backupengine_testkit::build::TestVault;
use backupengine_testkit::oracle::sample;
use backupengine_testkit::recording::Call;
use backupengine_testkit::shown::{below, differences_from_disk, everything};
use backupengine_testkit::{Recording, Seeded, wait};
use backupengine_vault::{Locked, Relocations, Vault, VaultConfig};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;

/// What a third envelope is sealed under.
pub(crate) const DEVICE: [u8; 32] = [0xde; 32];

/// Small files of the first push.
const FILES: usize = 420;
const FOLDERS: usize = 120;
/// Runs of data with holes between them: more than a leaf holds, so that they get pages of their own.
const ISLANDS: u64 = 530;
const ISLAND: usize = 4096;

/// Bytes of a blob that some things need.
pub(crate) struct Ask {
    pub(crate) range: ops::Range<usize>,
    /// Whether it is found from the end of the blob.
    pub(crate) from_end: bool,
    /// Numbers of the things that need it.
    pub(crate) things: Vec<usize>,
}

/// See the module.
pub(crate) struct Ground {
    pub(crate) vault: TestVault,
    pub(crate) blobs: BTreeMap<BlobKey, Vec<u8>>,
    /// Where each kind of object lies.
    pub(crate) places: BTreeMap<&'static str, Vec<(BlobKey, ops::Range<usize>)>>,
    pub(crate) infos: Arc<Vec<SnapshotInfo>>,
    pub(crate) things: Vec<Thing>,
    pub(crate) asks: Vec<Ask>,
    /// Numbers of the asks of each blob.
    pub(crate) asks_of: BTreeMap<BlobKey, Vec<usize>>,
    moved: Arc<Moved>,
}

/// One pack, and where its frames went.
struct Moved {
    from: (SessionNo, u32),
    to: (SessionNo, u32),
}

impl Relocations for Moved {
    fn moved(&self, session: SessionNo, number: u32) -> Result<Vec<(SessionNo, u32)>, StoreError> {
        Ok(if (session, number) == self.from { vec![self.to] } else { Vec::new() })
    }
}

impl Ground {
    pub(crate) fn new() -> Self {
        let vault = TestVault::in_folder();
        vault.put_envelopes();
        put_device_envelope(&vault);
        let source = tempfile::tempdir().unwrap();
        let mut pusher = vault.pusher("laptop");
        pusher.random = Arc::new(Seeded::new(7));
        fill(source.path());
        let first = pusher.push(source.path());
        change(source.path());
        let second = pusher.push(source.path());
        let shown = below(everything(&vault.reader(), second).unwrap(), source.path());
        assert_eq!(differences_from_disk(&shown, source.path()), Vec::<String>::new());
        forge_into(&vault, &DeviceKey::from_seed([5; 32]), Role::Writer, &|_| {});
        let moved = Arc::new(move_pack(&vault, first));
        let mut ground = Self {
            blobs: blobs(&vault),
            vault,
            places: BTreeMap::new(),
            infos: Arc::default(),
            things: Vec::new(),
            asks: Vec::new(),
            asks_of: BTreeMap::new(),
            moved,
        };
        let reader = ground.near();
        ground.infos = TreeReader::snapshots(&reader).unwrap();
        assert_eq!(ground.infos.len(), 3);
        for info in ground.infos.clone().iter() {
            ground.walk(&reader, info.session);
        }
        ground.find_places(&reader);
        ground.learn_needs();
        ground
    }

    /// A fresh reader of the sound vault.
    pub(crate) fn near(&self) -> Vault {
        self.open(Arc::clone(&self.vault.store) as Arc<dyn Readable>, None).unwrap()
    }

    /// A fresh reader on another store, with as little memory as there can be and nothing read ahead: what is damaged is
    /// met.
    pub(crate) fn open(
        &self,
        store: Arc<dyn Readable>,
        blocks: Option<Arc<dyn BlockCache>>,
    ) -> Result<Vault, backupengine_vault::VaultError> {
        let locked = Locked::open(store)?.with_relocations(Arc::clone(&self.moved) as Arc<dyn Relocations>);
        let config = VaultConfig { memory: 1 << 20, read_ahead_threads: 0, blocks, ..VaultConfig::default() };
        locked.unlock_as(self.vault.keyring.clone(), config)
    }

    /// Notes all that a snapshot shows.
    fn walk(&mut self, reader: &Vault, session: SessionNo) {
        let mut folders = vec![(Vec::new(), NodeId::root(session))];
        while let Some((path, id)) = folders.pop() {
            let slots = list(reader, id).unwrap();
            for slot in &slots {
                let below = [&path[..], std::slice::from_ref(&slot.name)].concat();
                if slot.node.attributes.kind == Kind::Directory {
                    folders.push((below.clone(), slot.node.id));
                }
                let answer = show(reader, slot.node.clone()).unwrap();
                self.things.push(Thing { session, path: below, answer, asks: Vec::new() });
            }
            self.things.push(Thing { session, path, answer: Answer::List(slots), asks: Vec::new() });
        }
    }

    /// Asks everything once, each time of a reader that has nothing in memory, and notes what it reads.
    fn learn_needs(&mut self) {
        let half = self.things.len().div_ceil(2);
        let learn = |part: &[Thing]| part.iter().map(|thing| self.reads_of(thing)).collect::<Vec<_>>();
        let reads: Vec<Vec<(BlobKey, Range)>> = thread::scope(|scope| {
            let parts = self.things.chunks(half);
            let running: Vec<_> = parts.map(|part| scope.spawn(|| learn(part))).collect();
            running.into_iter().flat_map(|part| part.join().unwrap()).collect()
        });
        let mut known = BTreeMap::new();
        for (number, reads) in reads.into_iter().enumerate() {
            for (blob, range) in reads {
                let Some((range, from_end)) = self.bytes_of(blob, range) else { continue };
                let next = self.asks.len();
                let at = *known.entry((blob, range.start, range.end, from_end)).or_insert(next);
                if at == next {
                    self.asks.push(Ask { range, from_end, things: Vec::new() });
                    self.asks_of.entry(blob).or_default().push(at);
                }
                if self.asks[at].things.last() != Some(&number) {
                    self.asks[at].things.push(number);
                    self.things[number].asks.push(at as u32);
                }
            }
        }
    }

    fn reads_of(&self, thing: &Thing) -> Vec<(BlobKey, Range)> {
        let store = Recording::new(Arc::clone(&self.vault.store));
        let reader = self.open(Arc::new(store.clone()), None).unwrap();
        let found = thing.ask(&reader, matches!(thing.answer, Answer::List(_))).unwrap();
        assert_eq!(found.as_ref(), Some(&thing.answer));
        let gets = store.take().into_iter().filter_map(|call| match call {
            Call::Get { key, range } => Some((key, range)),
            _ => None,
        });
        gets.collect()
    }

    /// What is looked at of what a reader fetched; `None` of a blob that is not there.
    fn bytes_of(&self, blob: BlobKey, range: Range) -> Option<(ops::Range<usize>, bool)> {
        let bytes = self.blobs.get(&blob)?;
        match range {
            Range::At { offset, len } => Some((offset as usize..(offset + len) as usize, false)),
            // More is fetched where a head may be; the trailer says how much of it is looked at.
            Range::Suffix(len) => {
                let head = trailer(bytes).head_len as usize;
                let head = if len as usize > TRAILER_LEN { head } else { 0 };
                Some((bytes.len() - TRAILER_LEN - head..bytes.len(), true))
            }
            Range::Whole => Some((0..bytes.len(), true)),
        }
    }

    fn find_places(&mut self, reader: &Vault) {
        for (blob, bytes) in &self.blobs {
            if matches!(blob, BlobKey::Envelope(_)) {
                continue;
            }
            let mut add = |kind: &'static str, range: ops::Range<usize>| {
                if !range.is_empty() {
                    self.places.entry(kind).or_default().push((*blob, range));
                }
            };
            let trailer = trailer(bytes);
            let end = bytes.len() - TRAILER_LEN;
            let (footer_at, head_at) = find_end(&trailer, bytes.len() as u64).unwrap();
            let (footer_at, head_at) = (footer_at as usize, head_at as usize);
            let is_root = trailer.pack.number == PackRef::ROOT;
            let moved = *blob == BlobKey::Pack(self.moved.to.0, self.moved.to.1);
            let mut offset = 0;
            for frame in frames(reader, bytes).frames {
                let next = offset + frame.stored_len as usize;
                let kind = match (frame.kind, frame.contents.first()) {
                    _ if moved => "moved frame",
                    (FrameKind::Data, Some(FooterContent::Piece { .. })) => "bundle",
                    (FrameKind::Data, _) => "frame of a large file",
                    (FrameKind::Leaf, _) => "leaf page",
                    (FrameKind::Index, _) => "index page",
                    (FrameKind::Extents, _) => "extents page",
                    (FrameKind::ReferenceSet, _) => "reference set",
                    (other, _) => panic!("a pack holds {other:?}"),
                };
                add(kind, offset..next);
                offset = next;
            }
            add("filler", offset..footer_at);
            add("footer", footer_at..head_at);
            add(if is_root { "root record" } else { "forwarding table" }, head_at..end);
            add(if is_root { "trailer of a root" } else { "trailer of a pack" }, end..bytes.len());
        }
    }
}

pub(crate) fn trailer(bytes: &[u8]) -> Trailer {
    Trailer::decode(&bytes[bytes.len() - TRAILER_LEN..]).unwrap()
}

fn frames(reader: &Vault, bytes: &[u8]) -> Footer {
    let trailer = trailer(bytes);
    let (footer_at, _) = find_end(&trailer, bytes.len() as u64).unwrap();
    let at = FrameRef { pack: trailer.pack, offset: footer_at as u32, stored_len: trailer.footer_len };
    Footer::decode(&reader.frame(FrameKind::Footer, &at, None).unwrap()).unwrap()
}

fn blobs(vault: &TestVault) -> BTreeMap<BlobKey, Vec<u8>> {
    let folder = vault.folder().unwrap();
    let mut blobs = BTreeMap::new();
    for kind in [BlobKind::Packs, BlobKind::Roots, BlobKind::Envelopes] {
        for (key, _) in wait(vault.store.list(kind)).unwrap() {
            blobs.insert(key, fs::read(folder.join(key.to_string())).unwrap());
        }
    }
    blobs
}

fn put_device_envelope(vault: &TestVault) {
    let secret = DeviceSecret::from_bytes(DEVICE);
    let secret = UnlockSecret::Device(&secret);
    let envelope = seal_envelope(&vault.keyring, None, &secret, KdfParams::FLOOR, [3; 44]).unwrap();
    let mut spool = vault.store.spool().unwrap();
    spool.write_all(&envelope).unwrap();
    wait(vault.store.put(BlobKey::Envelope(EnvelopeId([3; 8])), spool)).unwrap();
}

/// Moves every frame of the first pack of a session into a relocation pack, and removes the pack.
fn move_pack(vault: &TestVault, session: SessionNo) -> Moved {
    let from = vault.folder().unwrap().join(BlobKey::Pack(session, 0).to_string());
    let (bytes, reader) = (fs::read(&from).unwrap(), vault.reader());
    let device = DeviceKey::from_seed([5; 32]);
    let to = wait(vault.store.open_session(device.id(), Timestamp::default())).unwrap().session;
    let mut pack = Pack::new(vault, to, 0);
    let mut table = ForwardTable::default();
    // Something else first, so that no frame keeps its offset.
    pack.frame(FrameKind::Data, b"other", Vec::new());
    let (old, mut offset) = (trailer(&bytes).pack, 0);
    for frame in frames(&reader, &bytes).frames {
        let at = FrameRef { pack: old, offset, stored_len: frame.stored_len };
        let plain = reader.frame(frame.kind, &at, None).unwrap();
        let new = pack.frame(frame.kind, &plain, frame.contents);
        let (number, new_offset, new_len) = (old.number, new.offset, new.stored_len);
        table.entries.push(Forward { session, number, old_offset: offset, new_offset, new_len });
        offset += frame.stored_len;
    }
    pack.put(Some((FrameKind::Forwarding, &table.encode())));
    fs::remove_file(from).unwrap();
    Moved { from: (session, 0), to: (to, 0) }
}

/// Every kind of content, and names for several leaves.
fn fill(at: &Path) {
    fs::create_dir_all(at.join("notes/deep")).unwrap();
    for number in 0..FILES {
        let bytes = sample::bytes(number as u64, number * 37 % 3000);
        fs::write(at.join(format!("notes/{number}")), bytes).unwrap();
    }
    for number in 0..FOLDERS {
        fs::create_dir(at.join(format!("notes/deep/{number}"))).unwrap();
        fs::write(at.join(format!("notes/deep/{number}/of it")), format!("inside {number}")).unwrap();
    }
    fs::write(at.join("large"), sample::bytes(1, 1_300_000)).unwrap();
    fs::write(at.join("text"), "compressible ".repeat(40_000)).unwrap();
    let islands = fs::File::create(at.join("islands")).unwrap();
    for number in 0..ISLANDS {
        islands.write_all_at(&sample::bytes(number, ISLAND), number * 2 * ISLAND as u64).unwrap();
    }
    std::os::unix::fs::symlink("large", at.join("link")).unwrap();
    fs::hard_link(at.join("large"), at.join("notes/same")).unwrap();
}

fn change(at: &Path) {
    let mut large = sample::bytes(1, 1_300_000);
    large[1_200_000..].copy_from_slice(&sample::bytes(2, 100_000));
    fs::write(at.join("large"), large).unwrap();
    fs::write(at.join("notes/new"), sample::bytes(3, 2000)).unwrap();
    fs::write(at.join("notes/7"), b"changed").unwrap();
    fs::remove_file(at.join("notes/5")).unwrap();
}

/// A store on a copy of the ground, and its folder.
pub(crate) fn copy(ground: &Ground) -> (tempfile::TempDir, FolderStore) {
    let copy = tempfile::tempdir().unwrap();
    crate::fixture::copy_folder(&ground.vault.folder().unwrap(), copy.path());
    let store = FolderStore::open(copy.path()).unwrap();
    (copy, store)
}
