//! Action × kind of blob × next operation.
//!
//! Operations on each damaged copy: open, list, read everything, look at structure, check all bytes, push
//! again, read again. What must hold is said where it is asserted.

use crate::fixture::{Base, check_with, checked, names, objects, read_all, text};
use crate::targets::{Kind, Target, targets};
use backupengine_maintain::Object;
use backupengine_model::TreeReader;
use backupengine_store::{FolderStore, Writable};
use backupengine_testkit::build::{TestVault, Unwatched};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What happens to a blob.
pub(crate) type Action = fn(&Base, &Path, &Target);

pub(crate) fn flip(_: &Base, folder: &Path, target: &Target) {
    let file = fs::OpenOptions::new().read(true).write(true).open(folder.join(&target.name)).unwrap();
    let middle = ((target.range.start + target.range.end) / 2) as u64;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], middle).unwrap();
}

pub(crate) fn truncate(_: &Base, folder: &Path, target: &Target) {
    let file = fs::OpenOptions::new().write(true).open(folder.join(&target.name)).unwrap();
    file.set_len(((target.range.start + target.range.end) / 2) as u64).unwrap();
}

pub(crate) fn empty(_: &Base, folder: &Path, target: &Target) {
    fs::OpenOptions::new().write(true).open(folder.join(&target.name)).unwrap().set_len(0).unwrap();
}

pub(crate) fn zero(_: &Base, folder: &Path, target: &Target) {
    let path = folder.join(&target.name);
    let len = fs::metadata(&path).unwrap().len() as usize;
    let from = target.range.start;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; (len - from).min(4096)], from as u64).unwrap();
}

pub(crate) fn delete(_: &Base, folder: &Path, target: &Target) {
    fs::remove_file(folder.join(&target.name)).unwrap();
}

/// Another blob of the family, of another session where there are several.
fn relative(folder: &Path, target: &Target) -> PathBuf {
    let name = &target.name;
    let found = match name.split_once('/') {
        Some(("p", rest)) => {
            let (session, number) = rest.split_once('/').unwrap();
            let other = fs::read_dir(folder.join("p")).unwrap().map(|entry| entry.unwrap().path());
            other
                .map(|path| path.join(number))
                .find(|path| path.exists() && !path.to_str().unwrap().contains(session))
        }
        Some((family, own)) => {
            let other = fs::read_dir(folder.join(family)).unwrap().map(|entry| entry.unwrap().path());
            other.filter(|path| !path.ends_with(own)).min()
        }
        None => fs::read_dir(folder.join("r")).unwrap().map(|entry| entry.unwrap().path()).min(),
    };
    found.unwrap_or_else(|| panic!("{name} stands alone"))
}

fn swap(_: &Base, folder: &Path, target: &Target) {
    let (one, other) = (folder.join(&target.name), relative(folder, target));
    let (a, b) = (fs::read(&one).unwrap(), fs::read(&other).unwrap());
    fs::write(one, b).unwrap();
    fs::write(other, a).unwrap();
}

fn replace(base: &Base, folder: &Path, target: &Target) {
    let path = folder.join(&target.name);
    match target.kind {
        Kind::Ledger => fs::write(path, &base.old_ledger).unwrap(),
        Kind::Marker => {
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, text.replace(&"b7".repeat(16), &"b8".repeat(16))).unwrap();
        }
        Kind::Envelope => fs::write(path, foreign_envelope()).unwrap(),
        _ => {
            let other = relative(folder, target);
            fs::copy(other, path).unwrap();
        }
    }
}

fn foreign_envelope() -> Vec<u8> {
    use backupengine_seal::{
        DedupSecret, DeviceSecret, KdfParams, Keyring, MasterSecret, UnlockSecret, seal_envelope,
    };
    let (master, dedup) = (MasterSecret::from_bytes([1; 32]), DedupSecret::from_bytes([2; 32]));
    let ring = Keyring::new(backupengine_model::VaultId([9; 16]), master, dedup, [0; 32]);
    let secret = DeviceSecret::from_bytes([3; 32]);
    seal_envelope(&ring, None, &UnlockSecret::Device(&secret), KdfParams::FLOOR, [4; 44]).unwrap()
}

/// Whether this leaves the vault as good as before: names of envelopes mean nothing.
fn is_harmless(action: &str, target: &Target) -> bool {
    action == "swap" && target.kind == Kind::Envelope
}

fn try_all(name: &str, action: Action) {
    let base = Base::new();
    let mut hit = BTreeSet::new();
    for target in targets(&base) {
        // Of each kind one in the newest session and one that older snapshots share.
        if !hit.insert((target.kind, target.newest)) && target.kind != Kind::Envelope {
            continue;
        }
        let case = format!("{name} {:?} {}", target.kind, target.name);
        let copy = base.copy();
        action(&base, copy.path(), &target);
        try_one(&base, copy.path(), &target, name, &case);
    }
    let kinds: BTreeSet<Kind> = hit.into_iter().map(|(kind, _)| kind).collect();
    assert!(kinds.len() >= 10, "only {kinds:?} were hit");
}

fn try_one(base: &Base, folder: &Path, target: &Target, action: &str, case: &str) {
    let reader = match base.reader_on(folder) {
        Ok(reader) => reader,
        Err(error) => {
            // Only the marker keeps a vault from opening, and it says what is wrong.
            assert_eq!(target.kind, Kind::Marker, "{case}: {error}");
            assert!(!error.is_empty());
            return;
        }
    };
    let listed = reader.snapshots().unwrap_or_else(|error| panic!("{case}: no list: {error}"));
    // A lost root can still be listed by the ledger; an old or rebuilt list can be shorter.
    assert!(listed.iter().all(|info| base.sessions.contains(&info.session)), "{case}: a made-up snapshot");

    let lost = base_lost(base, &reader, target, action, case);
    let report = checked(&base.reader_on(folder).unwrap());
    let findings = &report.findings;
    if is_harmless(action, target) {
        assert!(findings.is_empty(), "{case}: {findings:#?}");
    } else {
        assert!(!findings.is_empty(), "{case}: check found nothing");
    }
    assert!(
        findings.iter().any(|finding| fits(&finding.object, target)) || is_harmless(action, target),
        "{case}: {findings:#?}"
    );
    for (session, paths) in &lost {
        for path in paths {
            assert!(
                names(findings, *session, path),
                "{case}: check does not name {} of {session}",
                text(path)
            );
        }
    }
    // And no more is named than cannot be read.
    for affected in findings.iter().flat_map(|finding| &finding.affected).filter(|a| a.to.is_none()) {
        let really = lost.get(&affected.session).is_some_and(|paths| paths.contains(&affected.path));
        assert!(really, "{case}: {affected} can be read");
    }
    // Structure alone finds all but changed bytes of data.
    let structure = check_with(&base.reader_on(folder).unwrap(), None);
    if target.kind != Kind::Data || !["flip", "zero"].contains(&action) {
        assert_eq!(objects(&structure.findings).is_empty(), is_harmless(action, target), "{case}");
    }
    push_again(base, folder, target, case);
}

/// What cannot be read any more, after making sure that what can be read is right.
fn base_lost(
    base: &Base,
    reader: &backupengine_vault::Vault,
    target: &Target,
    action: &str,
    case: &str,
) -> std::collections::BTreeMap<backupengine_model::SessionNo, Vec<Vec<u8>>> {
    let lost = base.lost(reader, case);
    let harmed = lost.values().filter(|paths| !paths.is_empty()).count();
    let all: usize = lost.values().map(Vec::len).sum();
    match target.kind {
        Kind::Envelope | Kind::Ledger | Kind::Marker => assert_eq!(all, 0, "{case}"),
        // A root costs its own snapshot; a swap costs two.
        Kind::RootRecord | Kind::RootTrailer | Kind::ReferenceSet => {
            assert!(harmed <= if action == "swap" { 2 } else { 1 }, "{case}: {harmed} snapshots are harmed");
        }
        // A frame costs the files in it.
        Kind::Data if action == "flip" => assert!((1..=8).contains(&all), "{case}: {all}"),
        Kind::Footer if action == "flip" => assert_eq!(all, 0, "{case}"),
        // A page or pack of the newest session costs the older snapshots nothing.
        _ if target.newest && action != "swap" => assert!(harmed <= 1, "{case}: {harmed}"),
        _ => {}
    }
    lost
}

/// Whether a finding is at the thing that was hit, or at the blob it is in.
fn fits(object: &Object, target: &Target) -> bool {
    let blob = match object {
        Object::Ledger => "ledger".to_owned(),
        Object::Envelopes => return target.kind == Kind::Envelope,
        Object::Footer(session, number) => Object::Pack(*session, *number).to_string(),
        Object::Frame { session, number, .. } => Object::Pack(*session, *number).to_string(),
        other => other.to_string(),
    };
    blob == target.name
}

/// A push into a damaged vault: it may refuse, it may not harm what is left, and what it stores is right
/// wherever it can be read.
fn push_again(base: &Base, folder: &Path, target: &Target, case: &str) {
    let store: Arc<dyn Writable> = match FolderStore::open(folder) {
        Ok(store) => Arc::new(store),
        Err(error) => panic!("{case}: {error}"),
    };
    let source = base.source.path();
    let pushed = base.pusher.push_to(&store, base.pusher.config(source), &Unwatched);
    let reader = base.reader_on(folder).unwrap();
    base.lost(&reader, &format!("{case}, after a push"));
    let report = match pushed {
        Ok(report) => report,
        Err(error) => {
            // Without the ledger no session can be told from one that was given already.
            assert_eq!(target.kind, Kind::Ledger, "{case}: {error:?}");
            return;
        }
    };
    let (session, _) = report.snapshot.unwrap();
    let newest = base.sessions.last().unwrap();
    for (path, node) in read_all(&reader, session) {
        // The folders above are shared with everybody on this machine.
        let below = path.starts_with(source.as_os_str().as_encoded_bytes());
        if let Some(node) = node.ok().filter(|_| below) {
            let before = base.shown[newest][&path].as_ref().unwrap();
            assert!(node == *before, "{case}: the push stored a wrong {}", text(&path));
        }
    }
}

#[test]
fn what_snapshots_share_is_walked_once() {
    let (vault, source) = (TestVault::in_folder(), tempfile::tempdir().unwrap());
    vault.put_envelopes();
    for number in 0..4000 {
        let folder = source.path().join(format!("{}", number / 100));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{number}")), format!("file {number}")).unwrap();
    }
    let pusher = vault.pusher("laptop");
    let sessions = [(); 4].map(|()| pusher.push(source.path()));
    let stats = check_with(&vault.reader(), None).stats;
    let shown: usize = sessions.iter().map(|session| read_all(&vault.reader(), *session).len()).sum();
    assert_eq!((stats.snapshots, stats.snapshots_total), (4, 4));
    assert!(stats.nodes * 2 < shown as u64, "{} names were walked for {shown}", stats.nodes);
    assert_eq!((stats.findings, stats.unused, stats.bytes_to_read), (0, 0, 0));
    assert_eq!(stats.packs, stats.packs_total);
}

#[test]
fn a_flipped_bit() {
    try_all("flip", flip);
}

#[test]
fn a_truncated_blob() {
    try_all("truncate", truncate);
}

#[test]
fn an_emptied_blob() {
    try_all("empty", empty);
}

#[test]
fn four_kibibytes_of_zeros() {
    try_all("zero", zero);
}

#[test]
fn a_deleted_blob() {
    try_all("delete", delete);
}

#[test]
fn two_blobs_swapped() {
    try_all("swap", swap);
}

#[test]
fn a_blob_replaced_by_an_older_one() {
    try_all("replace", replace);
}
