//! What may not be evicted: named sets of blocks, kept in the file `pins`.
//!
//! ```text
//! "BKEPINS1" | sets u32 | per set: name length u32, name, runs u32, per run: session, number, block, count u32
//! | crc32c of all before u32                                                            little-endian
//! ```
//! May not know which blocks are there. What always holds: the file is replaced whole; one that does not read pins
//! nothing. Tested below and through the cache.

use super::record::Name;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const MAGIC: &[u8; 8] = b"BKEPINS1";
const FILE: &str = "pins";

/// Neighbouring blocks of one blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: Name,
    count: u32,
}

/// Named sets of blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pins(BTreeMap<String, Vec<Run>>);

impl Pins {
    /// Names the set.
    pub(super) fn insert(&mut self, name: &str, blocks: BTreeSet<Name>) {
        let mut runs: Vec<Run> = Vec::new();
        for block in blocks {
            match runs.last_mut() {
                Some(run) if run.name_after() == Some(block) => run.count += 1,
                _ => runs.push(Run { first: block, count: 1 }),
            }
        }
        self.0.insert(name.to_owned(), runs);
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// All blocks of all sets.
    pub(super) fn wanted(&self) -> HashSet<Name> {
        self.0.values().flatten().flat_map(Run::names).collect()
    }

    /// Each set: its name, its blocks, and how many of them fulfil `held`.
    pub(super) fn sets(&self, held: impl Fn(Name) -> bool) -> Vec<(String, u64, u64)> {
        let set = |(name, runs): (&String, &Vec<Run>)| {
            let blocks = runs.iter().map(|run| u64::from(run.count)).sum();
            let held = runs.iter().flat_map(Run::names).filter(|name| held(*name)).count() as u64;
            (name.clone(), blocks, held)
        };
        self.0.iter().map(set).collect()
    }

    /// Reads them. What is missing or damaged is none.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(super) fn load(folder: &Path) -> io::Result<Self> {
        match fs::read(folder.join(FILE)) {
            Ok(bytes) => Ok(Self::decode(&bytes).unwrap_or_else(|| {
                tracing::debug!(folder = %folder.display(), "the list of pinned blocks does not read");
                Self::default()
            })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e),
        }
    }

    /// Replaces the file. The caller holds the lock of the table.
    pub(super) fn save(&self, folder: &Path) -> io::Result<()> {
        replace(folder, FILE, &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let put = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        out.extend(put(self.0.len()));
        for (name, runs) in &self.0 {
            out.extend(put(name.len()));
            out.extend(name.as_bytes());
            out.extend(put(runs.len()));
            for Run { first, count } in runs {
                for number in [first.session, first.number, first.block, *count] {
                    out.extend(number.to_le_bytes());
                }
            }
        }
        let sum = crc32c::crc32c(&out);
        out.extend(sum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?;
        let mut pins = BTreeMap::new();
        for _ in 0..number(&mut rest)? {
            let len = number(&mut rest)? as usize;
            let (name, after) = rest.split_at_checked(len)?;
            rest = after;
            let name = std::str::from_utf8(name).ok()?.to_owned();
            let mut runs = Vec::new();
            for _ in 0..number(&mut rest)? {
                let mut next = || number(&mut rest);
                let first = Name { session: next()?, number: next()?, block: next()? };
                runs.push(Run { first, count: next()? });
            }
            pins.insert(name, runs);
        }
        rest.is_empty().then_some(Self(pins))
    }
}

/// Replaces a small file whole. The caller holds the lock of the table.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    // Unlike blocks, which can be fetched again, this is a wish of the user's.
    file.sync_all()?;
    fs::rename(&new, folder.join(name))
}

impl Run {
    fn name_after(&self) -> Option<Name> {
        Some(Name { block: self.first.block.checked_add(self.count)?, ..self.first })
    }

    fn names(&self) -> impl Iterator<Item = Name> + use<> {
        let Self { first, count } = *self;
        (first.block..first.block.saturating_add(count)).map(move |block| Name { block, ..first })
    }
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (four, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_le_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32, block: u32) -> Name {
        Name { session: 1, number, block }
    }

    fn pins() -> Pins {
        let mut pins = Pins::default();
        pins.insert("latest:/home", [name(1, 0), name(1, 1), name(1, 2), name(1, 4), name(2, 5)].into());
        pins.insert("none", BTreeSet::new());
        pins
    }

    #[test]
    fn pins_come_back_and_no_damaged_ones_do() {
        let bytes = pins().encode();
        assert_eq!(Pins::decode(&bytes), Some(pins()));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(Pins::decode(&bad), None, "byte {at}");
            assert_eq!(Pins::decode(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn neighbours_are_one_run() {
        let pins = pins();
        assert_eq!(pins.0["latest:/home"].len(), 3);
        assert_eq!(pins.wanted().len(), 5);
        assert_eq!(pins.sets(|n| n.block < 2), [("latest:/home".into(), 5, 2), ("none".into(), 0, 0)]);
    }

    #[test]
    fn the_file_is_replaced_and_a_damaged_one_pins_nothing() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(Pins::load(temp.path()).unwrap(), Pins::default());
        Pins::default().save(temp.path()).unwrap();
        pins().save(temp.path()).unwrap();
        assert_eq!(Pins::load(temp.path()).unwrap(), pins());
        fs::write(temp.path().join(FILE), b"BKEPINS1 and what not").unwrap();
        assert_eq!(Pins::load(temp.path()).unwrap(), Pins::default());
        fs::remove_file(temp.path().join(FILE)).unwrap();
        fs::create_dir(temp.path().join(FILE)).unwrap();
        assert!(Pins::load(temp.path()).is_err());
    }
}
