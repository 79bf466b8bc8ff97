//! A writer that errs where it is told to: the right keys, wrong contents. Written by hand from `format` and
//! `seal`, as plain as can be.

use backupengine_format::footer::{Footer, FooterContent, FooterFrame};
use backupengine_format::label;
use backupengine_format::pack::{codec, lay_out};
use backupengine_format::page::{
    Content, Extent, ExtentPage, ExtentPageRef, ExtentRows, HardLink, IndexChild, IndexPage, LeafEntry,
    LeafPage, Xattr, XattrValue, separator,
};
use backupengine_format::reference::ReferenceSet;
use backupengine_format::root::RootRecord;
use backupengine_format::trailer::Trailer;
use backupengine_model::ledger::{Commit, SnapshotRecord};
use backupengine_model::{
    Attributes, Class, FrameKind, FrameRef, Kind, NodeFlags, PackRef, SessionNo, SnapshotId, SnapshotInfo,
    Timestamp, Totals, TreePath,
};
use backupengine_seal::{DeviceKey, Role, TAG_LEN};
use backupengine_store::BlobKey;
use backupengine_testkit::build::{TestVault, VAULT};
use backupengine_testkit::now;
use std::io::Write;
use std::sync::Arc;

/// A moment of writing at which a writer can err.
pub(crate) enum Stage<'a> {
    Extents(&'a mut ExtentPage),
    Entries(&'a mut Vec<LeafEntry>),
    /// A stored index page, and the places of data frames.
    Index(&'a mut IndexPage, &'a [FrameRef]),
    Top(&'a mut IndexPage),
    Footer(&'a mut Footer),
    References(&'a mut ReferenceSet),
    Root(&'a mut RootRecord),
    Label(&'a mut SnapshotInfo),
}

/// A pack being filled.
pub(crate) struct Pack<'a> {
    vault: &'a TestVault,
    pack: PackRef,
    body: Vec<u8>,
    footer: Footer,
}

impl<'a> Pack<'a> {
    pub(crate) fn new(vault: &'a TestVault, session: SessionNo, number: u32) -> Self {
        let salt = [session.0 as u8, number as u8, 7, 7, 7, 7, 7, 7];
        let pack = PackRef { session, number, salt, epoch: 1 };
        Self { vault, pack, body: Vec::new(), footer: Footer::default() }
    }

    pub(crate) fn frame(&mut self, kind: FrameKind, plain: &[u8], contents: Vec<FooterContent>) -> FrameRef {
        let (start, offset) = (self.body.len(), self.body.len() as u32);
        self.body.push(codec::RAW);
        self.body.extend_from_slice(plain);
        self.vault.keyring.pack_key(&self.pack).unwrap().seal(kind, offset, &mut self.body, start);
        let stored_len = (self.body.len() - start) as u32;
        self.footer.frames.push(FooterFrame { kind, stored_len, plain_len: plain.len() as u32, contents });
        FrameRef { pack: self.pack, offset, stored_len }
    }

    /// Puts it, with a head where it has one; its size and the length of its sealed head.
    pub(crate) fn put(self, head: Option<(FrameKind, &[u8])>) -> (u64, u32) {
        let (key, mut blob) = (self.vault.keyring.pack_key(&self.pack).unwrap(), self.body);
        let footer = [&[codec::RAW], &self.footer.encode()[..]].concat();
        let footer_len = (footer.len() + TAG_LEN) as u32;
        let head_len = head.map_or(0, |(_, plain)| (plain.len() + 1 + TAG_LEN) as u32);
        let end = lay_out(blob.len() as u64, footer_len, head_len, None);
        blob.resize(end.footer_at as usize, 0xf1);
        blob.extend_from_slice(&footer);
        key.seal(FrameKind::Footer, end.footer_at as u32, &mut blob, end.footer_at as usize);
        if let Some((kind, plain)) = head {
            blob.push(codec::RAW);
            blob.extend_from_slice(plain);
            key.seal(kind, end.head_at as u32, &mut blob, end.head_at as usize);
        }
        let trailer = Trailer { pack: self.pack, footer_len, head_len, commitment: *key.commitment() };
        blob.extend_from_slice(&trailer.encode());
        let blob_key = match self.pack.number {
            PackRef::ROOT => BlobKey::Root(self.pack.session),
            number => BlobKey::Pack(self.pack.session, number),
        };
        let mut spool = self.vault.store.spool().unwrap();
        spool.write_all(&blob).unwrap();
        now(self.vault.store.put(blob_key, spool)).unwrap();
        (blob.len() as u64, head_len)
    }
}

fn attributes(kind: Kind, size: u64) -> Attributes {
    let mtime = Timestamp { secs: 1, nanos: 2 };
    let (mode, flags) = (0o755, NodeFlags::default());
    Attributes { kind, mode, uid: 0, gid: 0, size, mtime, rdev: 0, nlink: 1, allocated: None, flags }
}

fn entry(parent: &str, name: &str, kind: Kind, size: u64, content: Content) -> LeafEntry {
    LeafEntry {
        parent: Arc::new(TreePath::from_slashes(parent.as_bytes()).unwrap()),
        name: name.into(),
        attributes: attributes(kind, size),
        content,
        xattrs: Arc::new([]),
        hard_link: HardLink::None,
    }
}

/// The tree of every forgery: a directory, and a file with each kind of content.
fn entries(frames: &[FrameRef], extents: FrameRef) -> Vec<LeafEntry> {
    let bundle = |inner| Content::Bundle { frame: frames[0], inner };
    let run = |at: usize, len| Extent { len, frame: Some(frames[at]) };
    let xattr = Xattr {
        name: b"user.large".to_vec(),
        value: XattrValue::Stored { frame: frames[3], inner: 0, len: 300 },
    };
    let attributed =
        LeafEntry { xattrs: Arc::new([xattr]), ..entry("d", "xattrs", Kind::File, 0, Content::None) };
    vec![
        entry("", "d", Kind::Directory, 4096, Content::None),
        entry("", "inline", Kind::File, 3, Content::Inline(vec![1, 2, 3].into())),
        entry("d", "bundled", Kind::File, 10, bundle(0)),
        entry("d", "bundled too", Kind::File, 10, bundle(10)),
        entry(
            "d",
            "extents",
            Kind::File,
            250,
            Content::Extents(vec![run(1, 100), Extent { len: 100, frame: None }, run(2, 50)]),
        ),
        entry(
            "d",
            "pages",
            Kind::File,
            150,
            Content::Pages(vec![ExtentPageRef { len: 150, frame: extents }]),
        ),
        attributed,
    ]
}

/// Leaves of two entries, an index page over each two leaves, and the top page.
fn write_tree(
    pack: &mut Pack<'_>,
    entries: &[LeafEntry],
    frames: &[FrameRef],
    err: &dyn Fn(Stage<'_>),
) -> IndexPage {
    let (directories, others): (Vec<_>, Vec<_>) =
        entries.iter().cloned().partition(|entry| entry.class() == Class::Directory);
    let mut children = Vec::new();
    let mut before: Option<Vec<u8>> = None;
    for run in directories.chunks(2).chain(others.chunks(2)) {
        let key = |entry: &LeafEntry| entry.key().as_bytes().to_vec();
        let first = key(&run[0]);
        let separator = before.as_ref().map_or_else(Vec::new, |before| separator(before, &first));
        let frame = pack.frame(FrameKind::Leaf, &LeafPage { entries: run.to_vec() }.encode(), Vec::new());
        children.push(IndexChild { separator, entries: run.len() as u64, frame });
        before = Some(key(&run[run.len() - 1]));
    }
    let mut top = IndexPage { level: 2, children: Vec::new() };
    for run in children.chunks(2) {
        let mut page = IndexPage { level: 1, children: run.to_vec() };
        let (separator, entries) = (run[0].separator.clone(), run.iter().map(|child| child.entries).sum());
        err(Stage::Index(&mut page, frames));
        let frame = pack.frame(FrameKind::Index, &page.encode(), Vec::new());
        top.children.push(IndexChild { separator, entries, frame });
    }
    err(Stage::Top(&mut top));
    top
}

/// A vault with one snapshot, wrong as `err` makes it.
pub(crate) fn forge(err: impl Fn(Stage<'_>)) -> TestVault {
    let vault = TestVault::in_memory();
    vault.put_envelopes();
    forge_into(&vault, &DeviceKey::from_seed([5; 32]), Role::Writer, &err);
    vault
}

pub(crate) fn forge_into(vault: &TestVault, device: &DeviceKey, role: Role, err: &dyn Fn(Stage<'_>)) {
    let session = now(vault.store.open_session(device.id(), Timestamp::default())).unwrap().session;
    let ids = vault.keyring.content_ids();
    let mut pack = Pack::new(vault, session, 0);
    let (bundle, first, second) = (b"0123456789abcdefghij", [1; 100], [2; 50]);
    let value = [3; 300];
    let piece = |plain: &[u8], inner: u32, len: u32| {
        let id = ids.content_id(&plain[inner as usize..(inner + len) as usize]);
        FooterContent::Piece { id, inner, len }
    };
    let chunk = FooterContent::Chunk { id: ids.content_id(&[&first[..], &second].concat()), frames: 2 };
    let frames = [
        pack.frame(FrameKind::Data, bundle, vec![piece(bundle, 0, 10), piece(bundle, 10, 10)]),
        pack.frame(FrameKind::Data, &first, vec![chunk]),
        pack.frame(FrameKind::Data, &second, Vec::new()),
        pack.frame(FrameKind::Data, &value, vec![piece(&value, 0, 300)]),
    ];
    let rows = [(1, 100), (2, 50)].map(|(at, len): (usize, u64)| Extent { len, frame: Some(frames[at]) });
    let mut page = ExtentPage { level: 0, rows: ExtentRows::Extents(rows.to_vec()) };
    err(Stage::Extents(&mut page));
    let extents = pack.frame(FrameKind::Extents, &page.encode(), Vec::new());
    let sound = entries(&frames, extents);
    let mut nodes = sound.clone();
    err(Stage::Entries(&mut nodes));
    let top = write_tree(&mut pack, &nodes, &frames, err);
    err(Stage::Footer(&mut pack.footer));
    let size = pack.put(None).0;

    let mut root = Pack::new(vault, session, PackRef::ROOT);
    let mut set = ReferenceSet::default();
    set.insert(session, 0);
    err(Stage::References(&mut set));
    let reference_set = root.frame(FrameKind::ReferenceSet, &set.encode(), Vec::new());
    let listing = nodes.iter().filter(|node| node.parent.is_root());
    let certificate = vault.root_key.certify(VAULT, device.public(), role, 0);
    let mut record = RootRecord {
        vault: VAULT,
        session,
        device: device.id(),
        created: Timestamp { secs: 1_000, nanos: 0 },
        device_name: "laptop".into(),
        tags: Vec::new(),
        sources: vec![b"/d".to_vec()],
        attributes: attributes(Kind::Directory, 0),
        xattrs: Vec::new(),
        totals: Totals { files: 6, directories: 1, bytes: 3 + 10 + 10 + 250 + 150, stored: 0 },
        parent: None,
        others: Vec::new(),
        top: top.encode(),
        root_listing: listing.map(|node| LeafPage { entries: vec![node.clone()] }.encode()).collect(),
        reference_set,
        page_packs: Vec::new(),
        writer: "forger".into(),
        signature: [0; 64],
        certificate: certificate.encode(),
    };
    err(Stage::Root(&mut record));
    record.signature = device.sign_root(&record.encode_unsigned());
    let id = SnapshotId(root.pack.salt);
    let (root_size, head_len) = root.put(Some((FrameKind::Root, &record.encode())));
    let (created, device_name) = (record.created, record.device_name.clone());
    let (tags, sources) = (record.tags.clone(), record.sources.clone());
    let mut info = SnapshotInfo { session, id, created, device: device.id(), device_name, tags, sources };
    err(Stage::Label(&mut info));
    let label = vault.keyring.seal_label(session, [3; 8], &label::encode(&info));
    let device = device.id();
    let snapshot = SnapshotRecord { session, id, device, created, root_size, head_len, label };
    now(vault.store.commit(
        device,
        &Commit {
            snapshot,
            packs: 1,
            bytes: size + root_size,
            meta_packs: Vec::new(),
            gc_epoch: None,
            hold: None,
        },
    ))
    .unwrap();
}
