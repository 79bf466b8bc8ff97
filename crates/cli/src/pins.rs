//! Trees that are kept on this device: how they are called in the cache, and which blocks they need.
//!
//! **What it may not do.** Write a path into the cache's folder but sealed: nothing opened rests on disk.
//! **What always holds.** What is pinned is all that the mount asks for when it shows the tree and reads all of it, on the
//! way from the root too.
//! **Where it is tested.** Below; `tests/cli` (a pinned tree is read without a server).

use crate::error::Failure;
use crate::keychain::{Device, hex, random, unhex};
use backupengine_model::{ContentReader, Kind, Node, NodeId, SessionNo, SnapshotId, TreeReader};
use backupengine_seal::{Keyring, open_envelope};
use backupengine_store::{BlobKey, DiskCache, Pinned};
use backupengine_vault::Vault;
use std::collections::BTreeSet;

/// Session numbers begin at 1: what is sealed under 0 passes for no snapshot's label.
const NAMES: SessionNo = SessionNo(0);
/// Before a path, so that it passes for nothing else that is sealed so.
const MARK: &[u8] = b"pinned\0";

/// A pinned tree.
#[derive(Clone, Debug)]
pub(crate) struct Pin {
    /// Its name in the cache.
    pub(crate) set: Pinned,
    pub(crate) snapshot: SnapshotId,
    /// From "/" on; `None` where this device has no key that opens it.
    pub(crate) path: Option<Vec<u8>>,
}

/// The name of a tree in the cache.
///
/// # Errors
/// When the system gives no randomness.
pub(crate) fn name(keyring: &Keyring, snapshot: SnapshotId, path: &[u8]) -> Result<String, Failure> {
    let sealed = keyring.seal_label(NAMES, random()?, &[MARK, path].concat());
    Ok(format!("{snapshot}.{}", hex(&sealed)))
}

/// All pinned trees; what is not named so is none.
///
/// # Errors
/// When the list of pins does not read.
pub(crate) fn all(cache: &DiskCache, keyring: Option<&Keyring>) -> Result<Vec<Pin>, Failure> {
    let read = |set: Pinned| {
        let (snapshot, sealed) = set.name.split_once('.')?;
        let snapshot = SnapshotId::from_hex(snapshot).ok()?;
        let plain = keyring.and_then(|keyring| keyring.open_label(NAMES, &unhex(sealed)?).ok());
        let path = plain.and_then(|plain| plain.strip_prefix(MARK).map(<[u8]>::to_vec));
        Some(Pin { set, snapshot, path })
    };
    Ok(cache.pins()?.into_iter().filter_map(read).collect())
}

/// The keys of this device, without asking anybody.
pub(crate) fn keyring(device: &Device) -> Option<Keyring> {
    open_envelope(&device.envelope, &device.unlock_secret()).ok().map(|opened| opened.keyring)
}

/// What a tree is made of.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Its files.
    pub(crate) files: Vec<(NodeId, u64)>,
    /// Blocks of their content.
    pub(crate) blocks: BTreeSet<(BlobKey, u32)>,
}

/// Walks a tree as a mount does that shows all of it: names, attributes, links, extended attributes. Content is looked
/// up, not fetched.
///
/// # Errors
/// What cannot be read; whatever `go_on` says.
pub(crate) fn walk(
    vault: &Vault,
    top: &Node,
    go_on: &mut dyn FnMut(&Tree) -> Result<(), Failure>,
) -> Result<Tree, Failure> {
    let mut tree = Tree::default();
    let mut folders = Vec::new();
    take(vault, top, &mut tree, &mut folders)?;
    while let Some(dir) = folders.pop() {
        go_on(&tree)?;
        // A name that is not there is looked for as well, wherever it would stand.
        for absent in [&b"\x01"[..], b"\xff\xff"] {
            vault.lookup(dir, absent)?;
        }
        let mut from = 0;
        loop {
            let page = TreeReader::list(vault, dir, from, 1000)?;
            for slot in &page.slots {
                vault.lookup(dir, &slot.name)?;
                take(vault, &slot.node, &mut tree, &mut folders)?;
            }
            from += page.slots.len() as u64;
            if page.end || page.slots.is_empty() {
                break;
            }
        }
    }
    Ok(tree)
}

fn take(vault: &Vault, node: &Node, tree: &mut Tree, folders: &mut Vec<NodeId>) -> Result<(), Failure> {
    if node.has_xattrs {
        vault.xattrs(node.id)?;
    }
    match node.attributes.kind {
        Kind::Directory => folders.push(node.id),
        Kind::File => {
            tree.files.push((node.id, node.attributes.size));
            tree.blocks.extend(vault.blocks_of(node.id).map_err(Failure::from)?);
        }
        Kind::Symlink => drop(vault.read_link(node.id)?),
        Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {}
    }
    Ok(())
}

/// Reads a file whole: what is kept of it then is known to open.
///
/// # Errors
/// What cannot be read; whatever `go_on` says of the bytes read.
pub(crate) fn read(
    vault: &Vault,
    file: NodeId,
    buffer: &mut [u8],
    go_on: &mut dyn FnMut(u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut offset = 0;
    loop {
        let got = vault.read_at(file, offset, buffer)?;
        go_on(got as u64)?;
        if got < buffer.len() {
            return Ok(());
        }
        offset += got as u64;
    }
}
