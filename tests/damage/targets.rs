//! What in a vault can be hit: the places of each kind of sealed thing, found through the footers.

use crate::fixture::{Base, at};
use backupengine_format::footer::Footer;
use backupengine_format::pack::find_end;
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_model::{FrameKind, FrameRef, PackRef, SessionNo};
use backupengine_store::BlobKey;
use backupengine_vault::Vault;
use std::fs;
use std::ops::Range;
use std::path::Path;

/// Kinds of things to hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Data,
    Leaf,
    Index,
    Footer,
    Trailer,
    ReferenceSet,
    RootRecord,
    RootTrailer,
    Envelope,
    Ledger,
    Marker,
}

/// One thing: a file of the vault's folder, and which bytes of it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    /// Name below the vault's folder.
    pub(crate) name: String,
    pub(crate) range: Range<usize>,
    /// Whether it belongs to the newest session.
    pub(crate) newest: bool,
}

/// At least one of every kind there is: the first, the middle and the last of each in each pack.
pub(crate) fn targets(base: &Base) -> Vec<Target> {
    let folder = base.vault.folder().unwrap();
    let reader = base.vault.reader();
    let mut all = Vec::new();
    for (&session, newest) in base.sessions.iter().zip([false, false, true]) {
        for number in (0..).take_while(|n| at(&folder, BlobKey::Pack(session, *n)).exists()) {
            all.extend(in_pack(&reader, &folder, session, number, newest));
        }
        all.extend(in_pack(&reader, &folder, session, PackRef::ROOT, newest));
    }
    for entry in fs::read_dir(folder.join("k")).unwrap() {
        let name = format!("k/{}", entry.unwrap().file_name().to_str().unwrap());
        all.push(whole(&folder, Kind::Envelope, name));
    }
    all.push(whole(&folder, Kind::Ledger, "ledger".into()));
    let mut marker = whole(&folder, Kind::Marker, "BACKUPENGINE".into());
    // Its first line is for people; what counts comes after.
    marker.range.start = marker.range.end - "vault: \n".len() - 32;
    all.push(marker);
    all
}

fn whole(folder: &Path, kind: Kind, name: String) -> Target {
    let len = fs::metadata(folder.join(&name)).unwrap().len() as usize;
    Target { kind, name, range: 0..len, newest: true }
}

fn in_pack(reader: &Vault, folder: &Path, session: SessionNo, number: u32, newest: bool) -> Vec<Target> {
    let is_root = number == PackRef::ROOT;
    let blob = if is_root { BlobKey::Root(session) } else { BlobKey::Pack(session, number) };
    let bytes = fs::read(at(folder, blob)).unwrap();
    let end = bytes.len() - TRAILER_LEN;
    let trailer = Trailer::decode(&bytes[end..]).unwrap();
    let (footer_at, head_at) = find_end(&trailer, bytes.len() as u64).unwrap();
    let place = FrameRef { pack: trailer.pack, offset: footer_at as u32, stored_len: trailer.footer_len };
    let footer = Footer::decode(&reader.frame(FrameKind::Footer, &place, None).unwrap()).unwrap();
    let target = |kind, range| Target { kind, name: blob.to_string(), range, newest };
    let mut found = vec![
        target(Kind::Footer, footer_at as usize..head_at as usize),
        target(if is_root { Kind::RootTrailer } else { Kind::Trailer }, end..bytes.len()),
    ];
    if is_root {
        found.push(target(Kind::RootRecord, head_at as usize..end));
    }
    let kinds = [
        (FrameKind::Data, Kind::Data),
        (FrameKind::Leaf, Kind::Leaf),
        (FrameKind::Index, Kind::Index),
        (FrameKind::ReferenceSet, Kind::ReferenceSet),
    ];
    for (frame_kind, kind) in kinds {
        let mut offset = 0;
        let mut ranges = Vec::new();
        for frame in &footer.frames {
            let next = offset + frame.stored_len as usize;
            if frame.kind == frame_kind {
                ranges.push(offset..next);
            }
            offset = next;
        }
        if let (Some(first), Some(last)) = (ranges.first(), ranges.last()) {
            let mut chosen = vec![first.clone(), ranges[ranges.len() / 2].clone(), last.clone()];
            chosen.dedup();
            found.extend(chosen.into_iter().map(|range| target(kind, range)));
        }
    }
    found
}
