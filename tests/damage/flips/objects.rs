//! Damage to the blobs of a vault, in a folder or behind a network with a disk cache that is empty.
//!
//! May not remember anything between cases but the damaged folder, which is as it was after each. What always holds:
//! what is asked is asked of a fresh reader, so that nothing opened before hides the damage. Behind a network the same
//! reader is asked again once the store is sound: then everything is right.

use super::ground::{Ground, copy};
use super::harm::Harm;
use super::tally::{Fail, Row};
use super::{Done, EVERYTHING, Group};
use backupengine_model::TreeReader;
use backupengine_store::{BlobKey, BlockCache, DiskCache, DiskCacheConfig, FolderStore, Readable};
use backupengine_testkit::build::VAULT;
use backupengine_testkit::{Late, Seeded};
use backupengine_vault::Vault;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// Things asked that need what was hit, and that do not.
const HIT: usize = 24;
const OTHERS: usize = 10;
/// Bytes of a disk cache that holds the whole vault.
pub(crate) const CACHE: u64 = 24 << 20;

pub(crate) struct Objects {
    ground: Arc<Ground>,
    folder: TempDir,
    store: FolderStore,
    files: BTreeMap<BlobKey, File>,
    kinds: Vec<&'static str>,
    /// Where the vault is behind a network.
    cache: Option<(TempDir, Arc<DiskCache>)>,
}

impl Objects {
    pub(crate) fn near(ground: Arc<Ground>) -> Self {
        let (folder, store) = copy(&ground);
        let kinds = ground.places.keys().copied().collect();
        Self { ground, folder, store, files: BTreeMap::new(), kinds, cache: None }
    }

    pub(crate) fn far(ground: Arc<Ground>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = Arc::new(open_cache(folder.path(), Some(CACHE)));
        Self { cache: Some((folder, cache)), ..Self::near(ground) }
    }

    fn reader(&self) -> Vault {
        match &self.cache {
            None => self.ground.open(Arc::new(self.store.clone()), None).unwrap(),
            Some((_, cache)) => {
                cache.clear().unwrap();
                let far: Arc<dyn Readable> = Arc::new(Late::new(Arc::new(self.store.clone())));
                self.ground.open(far, Some(Arc::clone(cache) as Arc<dyn BlockCache>)).unwrap()
            }
        }
    }

    /// What is asked: things that are hit, others, and now and then all.
    fn choose(&self, random: &Seeded, hit: &BTreeSet<usize>, all: bool) -> Vec<usize> {
        let total = self.ground.things.len();
        if all {
            return (0..total).collect();
        }
        let mut hit: Vec<usize> = hit.iter().copied().collect();
        while hit.len() > HIT {
            hit.swap_remove(random.below(hit.len() as u64) as usize);
        }
        hit.extend((0..OTHERS).map(|_| random.below(total as u64) as usize));
        hit
    }
}

impl Group for Objects {
    fn case(&mut self, number: u64, random: &Seeded, row: &mut Row) -> Done {
        let kind = self.kinds[random.below(self.kinds.len() as u64) as usize];
        let places = &self.ground.places[kind];
        let (blob, place) = &places[random.below(places.len() as u64) as usize];
        let sound = &self.ground.blobs[blob];
        let harm = Harm::draw(random, sound, place);
        let path = self.folder.path().join(blob.to_string());
        let file =
            self.files.entry(*blob).or_insert_with(|| OpenOptions::new().write(true).open(path).unwrap());
        let hit = hit(&self.ground, *blob, &harm);
        let file = file.try_clone().unwrap();
        harm.apply(&file);
        let undo = Undo { harm: &harm, file: &file, sound };
        let reader = self.reader();
        let asked = self.choose(random, &hit, number.is_multiple_of(EVERYTHING));
        let mut failed = ask(&self.ground, &reader, &asked, &hit, row).err();
        drop(undo);
        if self.cache.is_some() && failed.is_none() {
            // What did not open is in no cache: the store is sound again, and so is everything read from it.
            failed = ask(&self.ground, &reader, &asked, &BTreeSet::new(), row).err();
        }
        let failed = failed.map(|failed| at(failed, *blob, place, &harm));
        let kind = if self.cache.is_some() { "any object, far away" } else { kind };
        Done { kind, act: format!("{:?}", harm.act), row: *row, failed }
    }

    fn end(&mut self) {
        for (blob, sound) in &self.ground.blobs {
            let now = std::fs::read(self.folder.path().join(blob.to_string())).unwrap();
            assert!(now == *sound, "{blob} is not as it was: no case after that meant anything");
        }
    }
}

/// Makes a file sound again, whatever happens.
pub(crate) struct Undo<'a> {
    pub(crate) harm: &'a Harm,
    pub(crate) file: &'a File,
    pub(crate) sound: &'a [u8],
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        self.harm.undo(self.file, self.sound);
    }
}

fn at(failed: Fail, blob: BlobKey, place: &std::ops::Range<usize>, harm: &Harm) -> Fail {
    let add = |what: String| format!("{what}\n  {blob} {place:?} {harm:?}");
    match failed {
        Fail::Wrong(what) => Fail::Wrong(add(what)),
        Fail::Lost(what) => Fail::Lost(add(what)),
    }
}

pub(crate) fn open_cache(folder: &Path, size: Option<u64>) -> DiskCache {
    DiskCache::open(folder, DiskCacheConfig { vault: VAULT, size }).unwrap()
}

/// Things that need bytes which are not what they were.
fn hit(ground: &Ground, blob: BlobKey, harm: &Harm) -> BTreeSet<usize> {
    let sound = &ground.blobs[&blob];
    let asks = ground.asks_of.get(&blob).into_iter().flatten().map(|ask| &ground.asks[*ask]);
    let hit = asks.filter(|ask| match ask.from_end {
        true => harm.hits_end(sound, &ask.range),
        false => harm.hits(sound, &ask.range),
    });
    hit.flat_map(|ask| ask.things.iter().copied()).collect()
}

/// Asks for the list of snapshots and for things, and judges.
pub(crate) fn ask(
    ground: &Ground,
    reader: &Vault,
    asked: &[usize],
    hit: &BTreeSet<usize>,
    row: &mut Row,
) -> Result<(), Fail> {
    listed(ground, reader, row)?;
    for thing in asked {
        ground.things[*thing].judge(reader, hit.contains(thing), row)?;
    }
    Ok(())
}

/// The list of snapshots is the right one.
pub(crate) fn listed(ground: &Ground, reader: &Vault, row: &mut Row) -> Result<(), Fail> {
    match TreeReader::snapshots(reader) {
        Ok(infos) if infos == ground.infos => {
            row.right += 1;
            Ok(())
        }
        Ok(infos) => {
            row.wrong += 1;
            Err(Fail::Wrong(format!("the list of snapshots is wrong: {infos:?}")))
        }
        Err(error) => {
            row.lost += 1;
            Err(Fail::Lost(format!("no list of snapshots: {error}")))
        }
    }
}
