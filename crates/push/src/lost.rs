//! What a check found to be lost, for the next push: it takes none of it for stored.
//!
//! **What it is.** A small file in the state folder, one place a line. **What it may not do.** Be needed: without it a push
//! refers to what earlier snapshots refer to, and is as harmed as they are. **What always holds.** What is named here is
//! only stored once more than it had to be, if it was whole after all. **Where it is tested.** Below; `tests/damage`.
use backupengine_format::page::{Content, Xattr, XattrValue};
use backupengine_model::{FrameRef, SessionNo, VaultId};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A pack, or one frame of it by its offset.
pub type LostPlace = (SessionNo, u32, Option<u32>);

/// See the module header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lost(BTreeSet<LostPlace>);

fn path(state: &Path, vault: VaultId) -> PathBuf {
    state.join(format!("lost-{vault}"))
}

/// Remembers what is lost for the pushes of this device. `all_read` where every stored byte was looked at: then nothing
/// else is lost; else frames that were found before stay known.
///
/// # Errors
/// Where the folder cannot be written.
pub fn note_lost(
    state: &Path,
    vault: VaultId,
    lost: impl IntoIterator<Item = LostPlace>,
    all_read: bool,
) -> io::Result<()> {
    let path = path(state, vault);
    let mut all: BTreeSet<LostPlace> = lost.into_iter().collect();
    let before = Lost::load(state, vault);
    if !all_read {
        all.extend(before.0.iter().filter(|(.., offset)| offset.is_some()));
    }
    if all == before.0 {
        return Ok(());
    }
    if all.is_empty() {
        return fs::remove_file(&path);
    }
    let line = |(session, number, offset): &LostPlace| {
        let offset = offset.map_or_else(String::new, |offset| format!(" {offset}"));
        format!("{} {number}{offset}\n", session.0)
    };
    fs::create_dir_all(state)?;
    let aside = path.with_extension("new");
    fs::write(&aside, all.iter().map(line).collect::<String>())?;
    fs::rename(&aside, &path)
}

impl Lost {
    /// What is remembered; nothing where there is no such file, or a line is none.
    pub(crate) fn load(state: &Path, vault: VaultId) -> Self {
        let text = fs::read_to_string(path(state, vault)).unwrap_or_default();
        let place = |line: &str| {
            let mut words = line.split(' ').map(|word| word.parse().ok());
            let (session, number) = (words.next()??, words.next()??);
            let offset = words.next().map_or(Some(None), |word| word.map(Some))?;
            Some((SessionNo(session), number, offset))
        };
        Self(text.lines().filter_map(place).collect())
    }

    /// Whether anything of this pack is lost.
    pub(crate) fn touches(&self, session: SessionNo, number: u32) -> bool {
        self.0.range((session, number, None)..=(session, number, Some(u32::MAX))).next().is_some()
    }

    fn holds(&self, at: &FrameRef) -> bool {
        let (session, number) = (at.pack.session, at.pack.number);
        self.0.contains(&(session, number, None)) || self.0.contains(&(session, number, Some(at.offset)))
    }

    /// Whether bytes of a file or of its extended attributes are lost, or may be.
    pub(crate) fn needs_again(&self, content: &Content, xattrs: &[Xattr]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let lost = match content {
            Content::None | Content::Inline(_) => false,
            Content::Bundle { frame, .. } => self.holds(frame),
            Content::Extents(rows) => {
                rows.iter().filter_map(|row| row.frame.as_ref()).any(|at| self.holds(at))
            }
            // Where its bytes are stands in other pages.
            Content::Pages(_) => true,
        };
        lost || xattrs.iter().any(|xattr| match &xattr.value {
            XattrValue::Stored { frame, .. } => self.holds(frame),
            XattrValue::Inline(_) => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::PackRef;

    const VAULT: VaultId = VaultId([3; 16]);

    fn frame(session: u32, number: u32, offset: u32) -> FrameRef {
        let pack = PackRef { session: SessionNo(session), number, salt: [0; 8], epoch: 1 };
        FrameRef { pack, offset, stored_len: 9 }
    }

    #[test]
    fn what_was_noted_is_known_until_all_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let (pack, place) = ((SessionNo(7), 1, None), (SessionNo(8), 0, Some(64)));
        let noted = |lost: &[LostPlace], all_read| {
            note_lost(dir.path(), VAULT, lost.iter().copied(), all_read).unwrap();
            Lost::load(dir.path(), VAULT)
        };
        let lost = noted(&[pack, place], false);
        assert!(lost.holds(&frame(7, 1, 5)) && lost.holds(&frame(8, 0, 64)) && !lost.holds(&frame(8, 0, 65)));
        assert!(
            lost.touches(SessionNo(8), 0) && !lost.touches(SessionNo(8), 1) && !lost.touches(SessionNo(7), 0)
        );
        let bundle = Content::Bundle { frame: frame(8, 0, 64), inner: 3 };
        assert!(lost.needs_again(&bundle, &[]) && !lost.needs_again(&Content::None, &[]));
        assert!(lost.needs_again(&Content::Pages(Vec::new()), &[]));
        // A look at the structure sees packs only.
        let lost = noted(&[], false);
        assert!(!lost.holds(&frame(7, 1, 5)) && lost.holds(&frame(8, 0, 64)));
        let lost = noted(&[], true);
        assert!(!lost.needs_again(&bundle, &[]) && !lost.needs_again(&Content::Pages(Vec::new()), &[]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::write(path(dir.path(), VAULT), "no place\n7 1 x\n9 2\n").unwrap();
        assert_eq!(Lost::load(dir.path(), VAULT).0, BTreeSet::from([(SessionNo(9), 2, None)]));
    }
}
