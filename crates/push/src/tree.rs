//! Writes the tree of a snapshot: nodes in, pages out, with everything the root record says of them.
//!
//! **What it is.** A leaf cutter and a growing index per class, the parent's pages to compare with, the
//! reference set, the listing of "/", and this device's side files.
//! **What it may not do.** Wait for content: nodes arrive complete, in key order within each class.
//! **What always holds.** A page whose bytes are those of the parent's page at the same place is not stored
//! again, but where the parent's pages lie in too many packs: then all are. Every pack that is named anywhere in the tree is in the reference set. A page is decoded once before
//! it is stored, so that nothing is written that readers refuse.
//! **Where it is tested.** In the tests of whole pushes.
use crate::config::{INLINE_TOP_MAX, ROOT_LISTING_MAX, is_scattered};
use crate::error::PushError;
use crate::packer::Packer;
use crate::pages::index::{self, ClassIndex};
use crate::pages::leaf::LeafCutter;
use crate::shared::Shared;
use crate::side_file::{SideRecord, SideWriter};
use backupengine_format::limits::{NODES_MAX, PAGE_PACKS_MAX};
use backupengine_format::page::{
    Content, ExtentPage, ExtentPageRef, ExtentRows, IndexChild, IndexPage, LeafEntry, LeafPage, Xattr,
    XattrValue, separator,
};
use backupengine_format::reference::ReferenceSet;
use backupengine_model::{Class, FrameKind, FrameRef, Kind, PackRef, Totals};
use backupengine_vault::{Root, Vault, VaultError};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};

/// See the module header.
pub(crate) struct TreeWriter<'a> {
    shared: &'a Shared<'a>,
    vault: &'a Vault,
    parent: Option<&'a Root>,
    /// Whether no page of the parent is taken over: they lie in too many packs.
    gathers: bool,
    old_index: HashMap<(u8, Vec<u8>), FrameRef>,
    classes: [ClassWriter; 2],
    directories_seen: bool,
    references: ReferenceSet,
    listing: Listing,
    totals: Totals,
    page_packs: PagePacks,
}

/// One class of nodes.
#[derive(Default)]
struct ClassWriter {
    cutter: LeafCutter,
    index: ClassIndex,
    last_key: Vec<u8>,
    old: VecDeque<OldLeaf>,
    side: Option<SideWriter>,
}

/// A leaf of the parent.
struct OldLeaf {
    first_key: Vec<u8>,
    frame: FrameRef,
    encoded: Bytes,
}

/// What the root record needs to know of the finished tree.
pub(crate) struct FinishedTree {
    pub(crate) top: Vec<u8>,
    pub(crate) listing: Vec<Vec<u8>>,
    pub(crate) references: ReferenceSet,
    pub(crate) totals: Totals,
    pub(crate) page_packs: Vec<PackRef>,
    pub(crate) sides: Vec<SideWriter>,
}

impl<'a> TreeWriter<'a> {
    pub(crate) fn new(
        shared: &'a Shared<'a>,
        vault: &'a Vault,
        parent: Option<&'a Root>,
        sides: [Option<SideWriter>; 2],
    ) -> Self {
        let mut old_index = HashMap::new();
        let gathers = parent.is_some_and(|root| {
            let totals = &root.record.totals;
            is_scattered(root.record.page_packs.len(), totals.files.saturating_add(totals.directories))
        });
        if let Some(top) =
            parent.filter(|_| !gathers).and_then(|root| IndexPage::decode(&root.record.top).ok())
            && let Err(error) = note_index(vault, &top, &mut old_index)
        {
            tracing::warn!(%error, "the parent's index pages do not read; they are written anew");
        }
        let classes = sides.map(|side| ClassWriter { side, ..ClassWriter::default() });
        Self {
            shared,
            vault,
            parent,
            gathers,
            old_index,
            classes,
            directories_seen: false,
            references: ReferenceSet::default(),
            listing: Listing::default(),
            totals: Totals::default(),
            page_packs: PagePacks::default(),
        }
    }

    /// Tells that there are directories: they come before all else in the tree, but are not there yet.
    pub(crate) fn expect_directories(&mut self) {
        self.directories_seen = true;
    }

    /// A leaf of the parent that one of the coming leaves may equal.
    pub(crate) fn note_old_leaf(
        &mut self,
        class: Class,
        first_key: Vec<u8>,
        frame: FrameRef,
        encoded: Bytes,
    ) {
        if self.gathers {
            return;
        }
        self.classes[class as usize].old.push_back(OldLeaf { first_key, frame, encoded });
    }

    /// Adds a pack to the reference set.
    pub(crate) fn refer(&mut self, pack: &PackRef) {
        self.references.insert(pack.session, pack.number);
    }

    /// Adds all packs below extent pages that were taken over from the parent.
    pub(crate) fn refer_below(&mut self, pages: &[ExtentPageRef]) -> Result<(), PushError> {
        let Err(error) = self.try_refer_below(pages) else { return Ok(()) };
        // What they name cannot be told any more, but it is in the parent's set.
        tracing::warn!(%error, "a page of a large file does not read");
        let Some(parent) = self.parent else { return Err(error.into()) };
        let frame = self.vault.frame(FrameKind::ReferenceSet, &parent.record.reference_set, None)?;
        let set = ReferenceSet::decode(&frame).map_err(VaultError::from)?;
        for (session, packs) in &set.packs {
            packs.iter().for_each(|number| self.references.insert(*session, number));
        }
        Ok(())
    }

    fn try_refer_below(&mut self, pages: &[ExtentPageRef]) -> Result<(), VaultError> {
        for page in pages {
            self.refer(&page.frame.pack);
            let encoded = self.vault.frame(FrameKind::Extents, &page.frame, None)?;
            match ExtentPage::decode(&encoded)?.rows {
                ExtentRows::Extents(rows) => {
                    rows.iter().filter_map(|row| row.frame).for_each(|frame| self.refer(&frame.pack));
                }
                ExtentRows::Pages(rows) => self.try_refer_below(&rows)?,
            }
        }
        Ok(())
    }

    /// Adds the next node of its class.
    pub(crate) fn add(
        &mut self,
        entry: LeafEntry,
        key_hash: u64,
        record: &SideRecord,
        packer: &mut Packer<'_>,
    ) -> Result<(), PushError> {
        match entry.class() {
            Class::Directory => self.totals.directories += 1,
            Class::Other => self.totals.files += 1,
        }
        if self.totals.directories + self.totals.files > NODES_MAX {
            return Err(PushError::TooLarge("a tree of 2^32 nodes"));
        }
        if entry.attributes.kind == Kind::File {
            self.totals.bytes += entry.attributes.size;
        }
        self.refer_to_content(&entry);
        self.listing.note(&entry);
        let class = &mut self.classes[entry.class() as usize];
        if let Some(side) = &mut class.side
            && let Err(error) = side.push(record)
        {
            tracing::warn!(%error, "the side file could not be written; files will be read again");
            class.side.take().into_iter().for_each(SideWriter::abandon);
        }
        let which = entry.class();
        match class.cutter.push(entry, key_hash) {
            Some(complete) => self.end_leaf(which, complete, packer),
            None => Ok(()),
        }
    }

    fn refer_to_content(&mut self, entry: &LeafEntry) {
        match &entry.content {
            Content::None | Content::Inline(_) => {}
            Content::Bundle { frame, .. } => self.refer(&frame.pack),
            Content::Extents(rows) => {
                rows.iter().filter_map(|row| row.frame).for_each(|frame| self.refer(&frame.pack));
            }
            Content::Pages(pages) => pages.iter().for_each(|page| self.refer(&page.frame.pack)),
        }
        self.refer_to_xattrs(&entry.xattrs);
    }

    /// Adds the packs of large values.
    pub(crate) fn refer_to_xattrs(&mut self, xattrs: &[Xattr]) {
        for xattr in xattrs {
            if let XattrValue::Stored { frame, .. } = &xattr.value {
                self.refer(&frame.pack);
            }
        }
    }

    fn end_leaf(
        &mut self,
        which: Class,
        entries: Vec<LeafEntry>,
        packer: &mut Packer<'_>,
    ) -> Result<(), PushError> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        let first = first.key().as_bytes().to_vec();
        let last = last.key().as_bytes().to_vec();
        let count = entries.len() as u64;
        let page = LeafPage { entries };
        let encoded = page.encode();
        let class = &mut self.classes[which as usize];
        while class.old.front().is_some_and(|old| old.first_key < first) {
            class.old.pop_front();
        }
        let same = class.old.pop_front_if(|old| old.first_key == first && old.encoded == encoded);
        let frame = match same {
            Some(old) => old.frame,
            None => {
                LeafPage::decode(&encoded).map_err(VaultError::from)?;
                packer.page(FrameKind::Leaf, &encoded)?
            }
        };
        self.references.insert(frame.pack.session, frame.pack.number);
        self.page_packs.note_leaf(frame.pack);
        let separator = match (class.last_key.is_empty(), which) {
            (false, _) => separator(&class.last_key, &first),
            // The first page of the other class has the directories before it.
            (true, Class::Other) if self.directories_seen => vec![Class::Other as u8],
            (true, _) => Vec::new(),
        };
        class.last_key = last;
        let child = IndexChild { separator, entries: count, frame };
        let ids = &self.shared.ids;
        let mut store = IndexStore {
            vault: self.vault,
            old: &self.old_index,
            references: &mut self.references,
            page_packs: &mut self.page_packs,
            packer,
        };
        class.index.push(child, &|bytes| ids.hash64(bytes), &mut |s, page| store.store(s, page))
    }

    /// Ends all pages.
    pub(crate) fn finish(mut self, packer: &mut Packer<'_>) -> Result<FinishedTree, PushError> {
        for which in [Class::Directory, Class::Other] {
            if let Some(rest) = self.classes[which as usize].cutter.finish() {
                self.end_leaf(which, rest, packer)?;
            }
        }
        let [directories, others] = self.classes;
        let mut sides = Vec::new();
        sides.extend(directories.side);
        sides.extend(others.side);
        let ids = &self.shared.ids;
        let mut store = IndexStore {
            vault: self.vault,
            old: &self.old_index,
            references: &mut self.references,
            page_packs: &mut self.page_packs,
            packer,
        };
        let top = index::finish(
            [directories.index, others.index],
            INLINE_TOP_MAX,
            &|bytes| ids.hash64(bytes),
            &mut |s, page| store.store(s, page),
        )?;
        Ok(FinishedTree {
            top,
            listing: self.listing.encode(),
            references: self.references,
            totals: self.totals,
            page_packs: self.page_packs.top_first(),
            sides,
        })
    }
}

/// Notes where the parent's index pages are: by level and first separator.
fn note_index(
    vault: &Vault,
    page: &IndexPage,
    out: &mut HashMap<(u8, Vec<u8>), FrameRef>,
) -> Result<(), VaultError> {
    let Some(level) = page.level.checked_sub(1).filter(|level| *level > 0) else { return Ok(()) };
    for child in &page.children {
        out.insert((level, child.separator.clone()), child.frame);
        if level > 1 {
            let below = IndexPage::decode(&vault.frame(FrameKind::Index, &child.frame, None)?)?;
            note_index(vault, &below, out)?;
        }
    }
    Ok(())
}

/// Stores index pages, or finds them in the parent.
struct IndexStore<'s, 'p> {
    vault: &'s Vault,
    old: &'s HashMap<(u8, Vec<u8>), FrameRef>,
    references: &'s mut ReferenceSet,
    page_packs: &'s mut PagePacks,
    packer: &'s mut Packer<'p>,
}

impl IndexStore<'_, '_> {
    fn store(&mut self, separator: &[u8], page: &IndexPage) -> Result<FrameRef, PushError> {
        let encoded = page.encode();
        let old = self.old.get(&(page.level, separator.to_vec()));
        let same =
            old.filter(|old| self.vault.frame(FrameKind::Index, old, None).is_ok_and(|was| was == encoded));
        let frame = match same {
            Some(old) => *old,
            None => {
                IndexPage::decode(&encoded).map_err(VaultError::from)?;
                self.packer.page(FrameKind::Index, &encoded)?
            }
        };
        self.references.insert(frame.pack.session, frame.pack.number);
        self.page_packs.note_index(page.level, frame.pack);
        Ok(frame)
    }
}

/// Packs that hold pages, for the hint in the root record.
#[derive(Default)]
struct PagePacks {
    index: Vec<(u8, PackRef)>,
    leaves: Vec<PackRef>,
}

impl PagePacks {
    fn note_leaf(&mut self, pack: PackRef) {
        if self.leaves.len() < PAGE_PACKS_MAX && !self.leaves.contains(&pack) {
            self.leaves.push(pack);
        }
    }

    fn note_index(&mut self, level: u8, pack: PackRef) {
        if self.index.len() < PAGE_PACKS_MAX && !self.index.contains(&(level, pack)) {
            self.index.push((level, pack));
        }
    }

    fn top_first(mut self) -> Vec<PackRef> {
        self.index.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
        let mut out: Vec<PackRef> = Vec::new();
        for pack in self.index.into_iter().map(|(_, pack)| pack).chain(self.leaves) {
            if out.len() < PAGE_PACKS_MAX && !out.contains(&pack) {
                out.push(pack);
            }
        }
        out
    }
}

/// The children of "/", while they are few.
struct Listing {
    classes: [Vec<LeafEntry>; 2],
    room: usize,
}

/// Rough size of an entry in a page.
const ENTRY_LEN: usize = 24;

impl Default for Listing {
    fn default() -> Self {
        Self { classes: Default::default(), room: ROOT_LISTING_MAX }
    }
}

impl Listing {
    fn note(&mut self, entry: &LeafEntry) {
        if self.room == 0 || !entry.parent.is_root() {
            return;
        }
        self.room = self.room.saturating_sub(entry.name.len() + ENTRY_LEN);
        self.classes[entry.class() as usize].push(entry.clone());
    }

    /// All or nothing: readers take a part for the whole.
    fn encode(self) -> Vec<Vec<u8>> {
        if self.room == 0 {
            return Vec::new();
        }
        let pages: Vec<Vec<u8>> = self
            .classes
            .into_iter()
            .filter(|entries| !entries.is_empty())
            .map(|entries| LeafPage { entries }.encode())
            .collect();
        let fits = pages.iter().map(Vec::len).sum::<usize>() <= ROOT_LISTING_MAX;
        if fits { pages } else { Vec::new() }
    }
}
