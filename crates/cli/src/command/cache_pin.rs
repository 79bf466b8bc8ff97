//! `cache pin` and `cache unpin`: trees that open without a network.
//!
//! What always holds: what does not fit is refused before its content is fetched; what is pinned was opened once, so
//! that it is known to be whole. Broken off, it stays pinned as far as it came, and the same command goes on.
use crate::args::{Pin as PinArgs, Unpin as UnpinArgs};
use crate::cache;
use crate::error::{Failure, Kind, Outcome};
use crate::find::find;
use crate::output::{self, count, shown, size};
use crate::pins::{self, Pin};
use crate::progress::Bar;
use crate::select::What;
use crate::wire::{Blocks, How, Wire};
use backupengine_model::{ContentReader, SnapshotId, SnapshotSelector, VaultId};
use backupengine_seal::Keyring;
use backupengine_store::{BLOCK_LEN, BlobKey, BlockCache, DiskCache};
use backupengine_vault::Vault;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Bytes read at once.
const PIECE: usize = 1 << 20;
/// Files that are announced to the reader at once.
const ANNOUNCED: usize = 64;

/// The keys of the account's device, without asking anybody; none where it has none.
///
/// # Errors
/// When what is kept of them does not read.
pub(crate) fn own_keyring(wire: &Wire) -> Result<Option<Keyring>, Failure> {
    Ok(wire.account()?.device()?.as_ref().and_then(pins::keyring))
}

/// A pinned tree, for programs.
pub(crate) fn put(pin: &Pin) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("snapshot".into(), pin.snapshot.to_string().into());
    if let Some(path) = &pin.path {
        output::put_path(&mut object, "path", path);
    }
    object.insert("blocks".into(), pin.set.blocks.into());
    object.insert("blocks_here".into(), pin.set.held.into());
    object
}

/// Fetches a tree and keeps it.
///
/// # Errors
/// No such tree; what cannot be fetched; no room, and by how much.
pub(crate) fn pin(wire: &Wire, vault: VaultId, args: &PinArgs) -> Result<Outcome, Failure> {
    let what = What::parse(&args.what)?;
    let size = args.cache_size.as_deref().map(|text| cache::parse_size(text, None)).transpose()?;
    let kept = Arc::new(cache::open(&wire.places.cache, vault, size)?);
    if kept.keeps_nothing() {
        return Err(Failure::usage("the cache of this vault keeps nothing")
            .hint("give it room: backupengine cache pin --cache-size 10GiB ..."));
    }
    let how = How { blocks: Blocks::Kept(kept.clone()), ..How::default() };
    let opened = wire.open_how(&how)?;
    let list = opened.vault.list()?;
    let snapshot = what.choose(&list, args.device.as_deref())?;
    let top = find(&opened.vault, snapshot, &what)?;

    let bar = Bar::start(&wire.global, None);
    let tree = pins::walk(&opened.vault, &top, &mut |tree| {
        bar.update(0, format!("{} found", count(tree.files.len() as u64, "file", "files")));
        if wire.stopped() { Err(Failure::interrupted()) } else { Ok(()) }
    })?;
    drop(bar);
    let mut blocks = tree.blocks;
    blocks.extend(opened.vault.touched());
    let path = what.path_bytes();
    let name = name_in(&kept, opened.vault.keyring(), snapshot.id, &path)?;
    kept.pin(&name, blocks.iter().copied()).map_err(cache::no_room)?;

    fetch(wire, &opened.vault, &tree.files)?;
    bring(&opened.vault, &kept, &blocks)?;
    let pinned = pins::all(&kept, Some(opened.vault.keyring()))?.into_iter().find(|pin| pin.set.name == name);
    let pinned =
        pinned.ok_or_else(|| Failure::new(Kind::Failed, "the tree is not pinned any more".to_owned()))?;
    if pinned.set.held < pinned.set.blocks {
        let missing = (pinned.set.blocks - pinned.set.held) * BLOCK_LEN as u64;
        return Err(Failure::new(
            Kind::Failed,
            format!("{} of {} have no room on the disk", self::size(missing), args.what),
        )
        .hint("the cache leaves a twentieth of the disk free: make room there, and run it again"));
    }
    if wire.global.json {
        output::json(&put(&pinned).into())?;
    } else if !wire.global.quiet {
        let files = count(tree.files.len() as u64, "file", "files");
        let takes = self::size(pinned.set.blocks * BLOCK_LEN as u64);
        output::line(format!("pinned {}:{}: {files}, {takes} at most", pinned.snapshot, shown(&path)))?;
    }
    Ok(Outcome::Done)
}

/// The name that the tree has already, or a new one.
fn name_in(cache: &DiskCache, keyring: &Keyring, id: SnapshotId, path: &[u8]) -> Result<String, Failure> {
    let mut pinned = pins::all(cache, Some(keyring))?.into_iter();
    match pinned.find(|pin| pin.snapshot == id && pin.path.as_deref() == Some(path)) {
        Some(pin) => Ok(pin.set.name),
        None => pins::name(keyring, id, path),
    }
}

/// Reads all files, so that what is kept of them is known to open.
fn fetch(wire: &Wire, vault: &Vault, files: &[(backupengine_model::NodeId, u64)]) -> Result<(), Failure> {
    let bar = Bar::start(&wire.global, Some(files.iter().map(|(_, size)| size).sum()));
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    for some in files.chunks(ANNOUNCED) {
        let ids: Vec<_> = some.iter().map(|(id, _)| *id).collect();
        vault.will_read(&ids);
        for id in ids {
            pins::read(vault, id, &mut buffer, &mut |bytes| {
                done += bytes;
                if bar.is_due() {
                    bar.update(done, size(done));
                }
                if wire.stopped() { Err(Failure::interrupted()) } else { Ok(()) }
            })?;
        }
    }
    Ok(())
}

/// What was read out of memory, or was evicted before it was pinned, is not on the disk yet.
fn bring(vault: &Vault, cache: &DiskCache, blocks: &BTreeSet<(BlobKey, u32)>) -> Result<(), Failure> {
    for &(blob, block) in blocks {
        if !cache.holds(blob, block) && !vault.bring(blob, block)? {
            // The disk is full: how much is missing is counted by the caller.
            return Ok(());
        }
    }
    Ok(())
}

/// Lets a tree go.
///
/// # Errors
/// Where it is not pinned.
pub(crate) fn unpin(wire: &Wire, vault: VaultId, args: &UnpinArgs) -> Result<Outcome, Failure> {
    let what = What::parse(&args.what)?;
    let cache = cache::open(&wire.places.cache, vault, None)?;
    let (keyring, id) = match &what.snapshot {
        // Named by its id, nobody needs to be asked which it is.
        SnapshotSelector::IdPrefix(prefix) => (own_keyring(wire)?, prefix.to_ascii_lowercase()),
        _ => {
            let opened = wire.open_and_tell()?;
            let list = opened.vault.list()?;
            let id = what.choose(&list, args.device.as_deref())?.id.to_string();
            (Some(opened.vault.keyring().clone()), id)
        }
    };
    let all = pins::all(&cache, keyring.as_ref())?;
    let path = what.path_bytes();
    let fits =
        |pin: &&Pin| pin.snapshot.to_string().starts_with(&id) && pin.path.as_deref() == Some(&path[..]);
    let mut found = all.iter().filter(fits);
    let Some(pin) = found.next() else {
        return Err(Failure::new(Kind::Failed, format!("{} is not pinned", args.what))
            .hint("`backupengine cache info` lists what is"));
    };
    if found.next().is_some() {
        return Err(Failure::usage(format!("{} is pinned of several snapshots", args.what))
            .hint("give more of the id; `backupengine cache info` lists them"));
    }
    cache.unpin(&pin.set.name)?;
    if wire.global.json {
        output::json(&put(pin).into())?;
    } else if !wire.global.quiet {
        output::line(format!("{}:{} is not pinned any more", pin.snapshot, shown(&path)))?;
    }
    Ok(Outcome::Done)
}
