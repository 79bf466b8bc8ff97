//! Which segments the dedup index consists of, and which sessions they cover.
//!
//! May not hold records. What always holds: it is replaced as a whole by a rename after the segments it names
//! are durable, so a crash leaves the old index or the new one. One that does not read counts as none: the
//! index is then rebuilt. Tested below.
use backupengine_model::{SessionNo, VaultId};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"BKEDIDX1";

/// A segment as the manifest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its file is called so.
    pub(super) number: u64,
    /// How often its records were merged.
    pub(super) level: u8,
    /// How many records it has.
    pub(super) records: u64,
}

/// See the module header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Newest first.
    pub(super) segments: Vec<Listed>,
    /// Sessions whose packs are all in the segments.
    pub(super) covered: BTreeSet<SessionNo>,
}

impl Manifest {
    /// Reads it; `None` where there is none, it is damaged, or it is another vault's.
    pub(super) fn load(path: &Path, vault: VaultId) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body).to_le_bytes() != *crc {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?.strip_prefix(&vault.0)?;
        let mut take = |n: usize| -> Option<u64> {
            let (head, tail) = rest.split_at_checked(n)?;
            rest = tail;
            let mut word = [0; 8];
            word[..n].copy_from_slice(head);
            Some(u64::from_le_bytes(word))
        };
        let mut out = Self::default();
        for _ in 0..take(4)? {
            out.segments.push(Listed { number: take(8)?, level: take(1)? as u8, records: take(8)? });
        }
        for _ in 0..take(4)? {
            let (from, to) = (take(4)? as u32, take(4)? as u32);
            out.covered.extend((from..=to).map(SessionNo));
        }
        rest.is_empty().then_some(out)
    }

    /// Writes it beside `path`, makes it durable, and renames it into place.
    pub(super) fn store(&self, path: &Path, vault: VaultId) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&vault.0);
        bytes.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        for segment in &self.segments {
            bytes.extend_from_slice(&segment.number.to_le_bytes());
            bytes.push(segment.level);
            bytes.extend_from_slice(&segment.records.to_le_bytes());
        }
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for session in &self.covered {
            match runs.last_mut() {
                Some((_, to)) if *to + 1 == session.0 => *to = session.0,
                _ => runs.push((session.0, session.0)),
            }
        }
        bytes.extend_from_slice(&(runs.len() as u32).to_le_bytes());
        for (from, to) in runs {
            bytes.extend_from_slice(&from.to_le_bytes());
            bytes.extend_from_slice(&to.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let aside = path.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: VaultId = VaultId([7; 16]);

    #[test]
    fn comes_back_as_written_and_not_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let manifest = Manifest {
            segments: vec![
                Listed { number: 9, level: 0, records: 3 },
                Listed { number: 2, level: 1, records: 999 },
            ],
            covered: [1, 2, 3, 7, 9, 10].map(SessionNo).into(),
        };
        assert_eq!(Manifest::load(&path, VAULT), None);
        manifest.store(&path, VAULT).unwrap();
        assert_eq!(Manifest::load(&path, VAULT).as_ref(), Some(&manifest));
        assert_eq!(Manifest::load(&path, VaultId([8; 16])), None);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(&path, &bad).unwrap();
            assert_eq!(Manifest::load(&path, VAULT), None, "byte {at}");
        }
    }
}
