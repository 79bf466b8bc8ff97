//! Opened things in memory: data frames, and pages as they were decoded.
//!
//! **What it is.** Two caches weighed by bytes, with single flight: threads that want the same frame or page
//! wait for one that opens it. **What it may not do.** Hold anything on disk; hold errors.
//! **What always holds.** Weights stay within the budgets given; a frame's bytes are wiped when the last
//! holder lets go. Decoded pages (names in many small pieces) are not wiped.
//! **Where it is tested.** Below.
//!
//! *Decisions.* 2026-11-24: `quick_cache`, not `moka`. Measured here with 256 KiB entries and four threads, `moka`
//! peaked at 33 MiB of a 16 MiB budget and 83 of 48, with `run_pending_tasks` after each insert (73 and 106
//! without), and a hit cost 130 ns; `quick_cache` stays within one entry per thread (test below) and a hit costs
//! 20 to 30 ns, of which one listing makes thousands.

use crate::VaultError;
use crate::fetch::deadline;
use crate::open::Opener;
use crate::stats::count;
use backupengine_format::FormatError;
use backupengine_format::page::{
    Content, ExtentPage, ExtentRows, HardLink, IndexPage, LeafEntry, LeafPage, Xattr, XattrValue,
};
use backupengine_model::{FrameKind, FrameRef};
use bytes::Bytes;
use quick_cache::sync::{Cache, DefaultLifecycle, GuardResult};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use std::sync::Arc;
use std::time::Instant;

/// A cache weighed by bytes.
pub(crate) type Weighed<K, V, W> = Cache<K, V, W>;

/// A cache of at most `bytes`; `usual` is what one entry weighs about.
pub(crate) fn weighed<K, V, W>(bytes: u64, usual: u64, weighter: W) -> Weighed<K, V, W>
where
    K: Eq + std::hash::Hash,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    // Few shards: each has its own budget and must hold a stream's window.
    let shards = (bytes / (usual * 128)).clamp(1, 4) as usize;
    let mut options = OptionsBuilder::new();
    options.shards(shards).weight_capacity(bytes).hot_allocation(0.5);
    options.estimated_items_capacity((bytes / usual).max(1) as usize);
    let built = options.build().expect("capacity and item estimate are both given");
    Cache::with_options(built, weighter, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

/// From the cache, or as `load` makes it. Threads that want the same meanwhile wait for that, as long as they may.
pub(crate) fn loaded<K, V, W>(
    cache: &Weighed<K, V, W>,
    key: &K,
    load: impl FnOnce() -> Result<V, VaultError>,
) -> Result<V, VaultError>
where
    K: Eq + std::hash::Hash + Clone,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    let left = deadline::until().map(|until| until.saturating_duration_since(Instant::now()));
    match cache.get_value_or_guard(key, left) {
        GuardResult::Value(value) => Ok(value),
        GuardResult::Guard(place) => {
            let value = load()?;
            // Refused where the key was removed meanwhile: then it is not kept.
            drop(place.insert(value.clone()));
            Ok(value)
        }
        GuardResult::Timeout => Err(deadline::passed().into()),
    }
}

/// Weighs opened frames.
#[derive(Clone)]
pub(crate) struct FrameWeight;

impl Weighter<FrameRef, Bytes> for FrameWeight {
    fn weight(&self, _: &FrameRef, bytes: &Bytes) -> u64 {
        // The entry itself, its key and the owner's allocation.
        bytes.len() as u64 + 192
    }
}

/// Opened data frames.
pub(crate) struct Frames {
    opener: Arc<Opener>,
    cache: Weighed<FrameRef, Bytes, FrameWeight>,
}

impl Frames {
    pub(crate) fn new(opener: Arc<Opener>, bytes: u64) -> Self {
        Self { opener, cache: weighed(bytes, 128 << 10, FrameWeight) }
    }

    /// A data frame, from memory or the store; `plain_len` where the reference implies the exact length.
    pub(crate) fn get(&self, at: &FrameRef, plain_len: Option<usize>) -> Result<Bytes, VaultError> {
        let bytes = loaded(&self.cache, at, || self.opener.open(FrameKind::Data, at, plain_len))?;
        if plain_len.is_some_and(|len| len != bytes.len()) {
            let blob = crate::fetch::blob_of(at.pack.session, at.pack.number);
            return Err(VaultError::damaged(
                blob,
                at.offset.into(),
                "the frame is not as long as its reference says",
            ));
        }
        Ok(bytes)
    }

    /// Opens a frame that nobody waits for yet.
    pub(crate) fn get_ahead(&self, at: &FrameRef, plain_len: Option<usize>) -> Result<(), VaultError> {
        loaded(&self.cache, at, || {
            count(&self.opener.fetcher().counters().frames_ahead, 1);
            self.opener.open(FrameKind::Data, at, plain_len)
        })?;
        Ok(())
    }

    /// Keeps a frame that did not come from the store.
    pub(crate) fn put(&self, at: &FrameRef, bytes: &Bytes) {
        self.cache.insert(*at, bytes.clone());
    }

    pub(crate) fn holds(&self, at: &FrameRef) -> bool {
        self.cache.contains_key(at)
    }
}

/// An index page with the rank of each child's first node, counted from the page's own first.
pub(crate) struct Index {
    pub(crate) page: IndexPage,
    pub(crate) starts: Vec<u64>,
    pub(crate) total: u64,
}

impl Index {
    pub(crate) fn new(page: IndexPage) -> Option<Self> {
        let (starts, total) = running_sums(page.children.iter().map(|child| child.entries))?;
        (total > 0).then_some(Self { page, starts, total })
    }
}

/// A page of extents with the place in the page's part of the file where each row begins.
pub(crate) struct Extents {
    pub(crate) page: ExtentPage,
    pub(crate) starts: Vec<u64>,
    pub(crate) total: u64,
}

/// Where each part begins, and the sum of all; `None` when that overflows.
pub(crate) fn running_sums(lens: impl Iterator<Item = u64>) -> Option<(Vec<u64>, u64)> {
    let mut starts = Vec::with_capacity(lens.size_hint().0);
    let mut total = 0_u64;
    for len in lens {
        starts.push(total);
        total = total.checked_add(len)?;
    }
    Some((starts, total))
}

#[derive(Clone)]
enum Page {
    Leaf(Arc<LeafPage>),
    Index(Arc<Index>),
    Extents(Arc<Extents>),
}

/// Weighs decoded pages.
#[derive(Clone)]
struct PageWeight;

impl Weighter<FrameRef, Page> for PageWeight {
    fn weight(&self, _: &FrameRef, page: &Page) -> u64 {
        let bytes = match page {
            Page::Leaf(page) => leaf_weight(page),
            Page::Index(index) => index_weight(index),
            Page::Extents(extents) => {
                let row = match &extents.page.rows {
                    ExtentRows::Extents(_) => size_of::<backupengine_format::page::Extent>(),
                    ExtentRows::Pages(_) => size_of::<backupengine_format::page::ExtentPageRef>(),
                };
                extents.starts.len() * (row + 8)
            }
        };
        bytes as u64 + 256
    }
}

/// Bytes a decoded index page takes, about.
pub(crate) fn index_weight(index: &Index) -> usize {
    let child = size_of::<backupengine_format::page::IndexChild>() + 8 + 16;
    index.page.children.iter().map(|c| child + c.separator.capacity()).sum()
}

/// Bytes a decoded leaf page takes, about.
pub(crate) fn leaf_weight(page: &LeafPage) -> usize {
    let mut parent_before = None;
    let mut entry = |entry: &LeafEntry| {
        let parent = Arc::as_ptr(&entry.parent);
        let shared = parent_before.replace(parent) == Some(parent);
        let content = match &entry.content {
            Content::None | Content::Bundle { .. } => 0,
            Content::Inline(bytes) => bytes.len() + 32,
            Content::Extents(rows) => rows.capacity() * size_of::<backupengine_format::page::Extent>(),
            Content::Pages(rows) => rows.capacity() * size_of::<backupengine_format::page::ExtentPageRef>(),
        };
        let link = if let HardLink::Also(path) = &entry.hard_link { path.as_joined().len() } else { 0 };
        // Shared attribute lists are counted once each: too much rather than too little.
        let xattrs: usize = entry.xattrs.iter().map(xattr_weight).sum();
        let parent = if shared { 0 } else { entry.parent.as_joined().len() + 48 };
        size_of::<LeafEntry>() + entry.name.capacity() + 16 + content + link + xattrs + parent
    };
    page.entries.iter().map(&mut entry).sum()
}

fn xattr_weight(xattr: &Xattr) -> usize {
    let value = if let XattrValue::Inline(value) = &xattr.value { value.len() } else { 0 };
    size_of::<Xattr>() + xattr.name.len() + value
}

/// Decoded pages.
pub(crate) struct Pages {
    opener: Arc<Opener>,
    cache: Weighed<FrameRef, Page, PageWeight>,
}

impl Pages {
    pub(crate) fn new(opener: Arc<Opener>, bytes: u64) -> Self {
        Self { opener, cache: weighed(bytes, 64 << 10, PageWeight) }
    }

    /// The leaf at this place, which must hold `entries` nodes.
    pub(crate) fn leaf(&self, at: &FrameRef, entries: u64) -> Result<Arc<LeafPage>, VaultError> {
        let load = || Ok(Page::Leaf(Arc::new(self.opener.leaf(at)?.1)));
        match loaded(&self.cache, at, load)? {
            Page::Leaf(page) if page.entries.len() as u64 == entries => Ok(page),
            _ => Err(misplaced(at)),
        }
    }

    /// The index page at this place, which must be of `level` and count `entries` nodes.
    pub(crate) fn index(&self, at: &FrameRef, level: u8, entries: u64) -> Result<Arc<Index>, VaultError> {
        let load = || Ok(Page::Index(Arc::new(self.opener.index(at)?)));
        match loaded(&self.cache, at, load)? {
            Page::Index(index) if index.page.level == level && index.total == entries => Ok(index),
            _ => Err(misplaced(at)),
        }
    }

    /// The page of extents at this place, which must cover `len` bytes.
    pub(crate) fn extents(&self, at: &FrameRef, len: u64) -> Result<Arc<Extents>, VaultError> {
        let load = || {
            let bytes = self.opener.open(FrameKind::Extents, at, None)?;
            let page = ExtentPage::decode(&bytes).map_err(|error| undecodable(at, error))?;
            let sums = match &page.rows {
                ExtentRows::Extents(rows) => running_sums(rows.iter().map(|row| row.len)),
                ExtentRows::Pages(rows) => running_sums(rows.iter().map(|row| row.len)),
            };
            let (starts, total) = sums.ok_or_else(|| misplaced(at))?;
            Ok(Page::Extents(Arc::new(Extents { page, starts, total })))
        };
        match loaded(&self.cache, at, load)? {
            Page::Extents(extents) if extents.total == len => Ok(extents),
            _ => Err(misplaced(at)),
        }
    }
}

impl Opener {
    /// Opens and decodes a leaf, past the cache: (encoded, decoded).
    pub(crate) fn leaf(&self, at: &FrameRef) -> Result<(Bytes, LeafPage), VaultError> {
        let bytes = self.open(FrameKind::Leaf, at, None)?;
        let page = LeafPage::decode(&bytes).map_err(|error| undecodable(at, error))?;
        Ok((bytes, page))
    }

    /// Opens and decodes an index page, past the cache.
    pub(crate) fn index(&self, at: &FrameRef) -> Result<Index, VaultError> {
        let bytes = self.open(FrameKind::Index, at, None)?;
        let page = IndexPage::decode(&bytes).map_err(|error| undecodable(at, error))?;
        Index::new(page).ok_or_else(|| misplaced(at))
    }
}

fn undecodable(at: &FrameRef, error: FormatError) -> VaultError {
    let blob = crate::fetch::blob_of(at.pack.session, at.pack.number);
    VaultError::damaged_by(blob, at.offset.into(), "the page does not decode", error)
}

/// A page that is not what its parent says.
pub(crate) fn misplaced(at: &FrameRef) -> VaultError {
    let blob = crate::fetch::blob_of(at.pack.session, at.pack.number);
    VaultError::damaged(blob, at.offset.into(), "the page is not the one its parent counts on")
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::{PackRef, SessionNo};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    fn frame(offset: u32) -> FrameRef {
        let pack = PackRef { session: SessionNo(1), number: 0, salt: [0; 8], epoch: 1 };
        FrameRef { pack, offset, stored_len: 100 }
    }

    /// Bytes that count how many of them are alive.
    struct Alive<'a>(Vec<u8>, &'a AtomicU64);

    impl AsRef<[u8]> for Alive<'_> {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Alive<'_> {
        fn drop(&mut self) {
            self.1.fetch_sub(self.0.len() as u64, Ordering::Relaxed);
        }
    }

    #[test]
    fn frames_stay_within_their_budget_under_load() {
        static ALIVE: AtomicU64 = AtomicU64::new(0);
        static PEAK: AtomicU64 = AtomicU64::new(0);
        const BUDGET: u64 = 16 << 20;
        let cache = weighed(BUDGET, 128 << 10, FrameWeight);
        thread::scope(|scope| {
            for thread in 0..4 {
                let cache = &cache;
                scope.spawn(move || {
                    for n in 0..400 {
                        let len = 256 << 10;
                        let made = cache.get_or_insert_with(&frame(thread * 250 + n), || {
                            let now = ALIVE.fetch_add(len, Ordering::Relaxed) + len;
                            PEAK.fetch_max(now, Ordering::Relaxed);
                            Ok::<_, VaultError>(Bytes::from_owner(Alive(vec![0; len as usize], &ALIVE)))
                        });
                        assert_eq!(made.unwrap().len() as u64, len);
                    }
                });
            }
        });
        // One frame per thread is in hand besides those in the cache.
        let peak = PEAK.load(Ordering::Relaxed);
        assert!(peak <= BUDGET + 5 * (256 << 10), "{peak} bytes were alive at once");
        assert!(cache.weight() <= BUDGET);
    }

    #[test]
    fn sums_that_overflow_are_refused() {
        assert_eq!(running_sums([3, 4].into_iter()), Some((vec![0, 3], 7)));
        assert_eq!(running_sums([u64::MAX, 1].into_iter()), None);
    }
}
