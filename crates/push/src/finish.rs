//! The end of a push: root pack, then commit.
//!
//! **What it is.** The record that makes the snapshot readable, signed and chained, sealed into a pack of its
//! own; and the one call that makes the snapshot exist.
//! **What it may not do.** Run before every pack is durable: it is given what [`Packer::finish`] returned.
//! **What always holds.** Root before commit. A snapshot's id is the salt of its root pack.
//! **Where it is tested.** In the tests of whole pushes; `tests/protocol`.
//!
//! [`Packer::finish`]: crate::packer::Packer::finish
use crate::beside;
use crate::commit;
use crate::config::{Device, PushConfig};
use crate::error::PushError;
use crate::packer::PackSource;
use crate::sealer::Sealer;
use crate::session;
use crate::tree::FinishedTree;
use backupengine_format::page::Xattr;
use backupengine_format::root::RootRecord;
use backupengine_model::ledger::{Commit, SnapshotRecord};
use backupengine_model::{
    Attributes, DeviceId, FrameKind, PackRef, RootHash, SUSPICIOUS, SessionNo, SnapshotId, SnapshotInfo,
    Totals,
};
use backupengine_store::BlobKey;
use backupengine_vault::Vault;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

/// What the record says beside the tree.
pub(crate) struct Facts {
    pub(crate) attributes: Attributes,
    pub(crate) xattrs: Arc<[Xattr]>,
    pub(crate) chain: Chain,
    /// Packs of the session: one more than the largest number.
    pub(crate) packs: u32,
    /// Bytes of those packs.
    pub(crate) bytes: u64,
    /// Whether the push is to be marked,
    pub(crate) suspicious: bool,
    /// and which earlier snapshot is to be held then.
    pub(crate) hold: Option<SessionNo>,
}

/// How the new root is tied to those before it.
#[derive(Default)]
pub(crate) struct Chain {
    pub(crate) parent: Option<(SessionNo, RootHash)>,
    pub(crate) others: Vec<(DeviceId, SessionNo, RootHash)>,
}

impl Chain {
    /// The newest root of every device, as this device sees them now. One that does not read is left out.
    pub(crate) fn now(vault: &Vault, list: &[SnapshotInfo], device: DeviceId) -> Self {
        let mut newest: BTreeMap<DeviceId, SessionNo> = BTreeMap::new();
        for snapshot in list {
            let entry = newest.entry(snapshot.device).or_insert(snapshot.session);
            *entry = snapshot.session.max(*entry);
        }
        let newest: Vec<(DeviceId, SessionNo)> = newest.into_iter().collect();
        let roots = beside::each(beside::at_once(vault), &newest, |(_, session)| vault.root(*session));
        let mut chain = Self::default();
        for ((of, session), root) in newest.into_iter().zip(roots) {
            match root {
                Ok(root) if of == device => chain.parent = Some((session, root.hash)),
                Ok(root) => chain.others.push((of, session, root.hash)),
                Err(error) => tracing::warn!(%session, %error, "a root does not read; nothing chains to it"),
            }
        }
        chain
    }
}

/// The paths a snapshot says it was made of.
pub(crate) fn sources(config: &PushConfig) -> Vec<Vec<u8>> {
    config.walk.roots.iter().map(|root| root.as_os_str().as_bytes().to_vec()).collect()
}

/// What the commit made.
pub(crate) struct Made {
    /// As the ledger lists it.
    pub(crate) record: SnapshotRecord,
    pub(crate) root: RootHash,
}

/// Stores the root and commits.
///
/// # Errors
/// The store's; the snapshot then does not exist, whatever was stored.
pub(crate) fn finish(
    vault: &Vault,
    device: &Device,
    config: &PushConfig,
    (source, mut sealer): (PackSource<'_>, Sealer),
    tree: FinishedTree,
    facts: Facts,
) -> Result<Made, PushError> {
    let mut open = source.begin(PackRef::ROOT)?;
    let pack = open.pack();
    let set = sealer.page(&tree.references.encode());
    let reference_set = open.push(FrameKind::ReferenceSet, set, Vec::new(), None)?;
    let mut tags = config.tags.clone();
    tags.extend(facts.suspicious.then(|| SUSPICIOUS.to_owned()));
    tags.sort_unstable();
    tags.dedup();
    let info = SnapshotInfo {
        session: pack.session,
        id: SnapshotId(pack.salt),
        created: config.created,
        device: device.key.id(),
        device_name: config.device_name.clone(),
        tags,
        sources: sources(config),
    };
    let mut record = RootRecord {
        vault: vault.keyring().vault(),
        session: pack.session,
        device: info.device,
        created: info.created,
        device_name: info.device_name.clone(),
        tags: info.tags.clone(),
        sources: info.sources.clone(),
        attributes: facts.attributes,
        xattrs: facts.xattrs.to_vec(),
        totals: Totals { stored: facts.bytes, ..tree.totals },
        parent: facts.chain.parent,
        others: facts.chain.others,
        top: tree.top,
        root_listing: tree.listing,
        reference_set,
        page_packs: tree.page_packs,
        writer: concat!("backupengine ", env!("CARGO_PKG_VERSION")).to_owned(),
        signature: [0; 64],
        certificate: device.certificate.encode(),
    };
    record.signature = device.key.sign_root(&record.encode_unsigned());
    let encoded = record.encode();
    let root = vault.keyring().content_ids().root_hash(&encoded);
    let head = sealer.page(&encoded);
    let (spool, head_len) = source.end(open, &mut sealer, Some(head), None)?;
    let root_size = spool.len();
    vault.ask(source.store.put(BlobKey::Root(pack.session), spool))?;
    let snapshot = session::record(vault, &info, root_size, head_len, source.random);
    let meta_packs = session::meta_packs(&record);
    let bytes = facts.bytes + root_size;
    let (packs, hold) = (facts.packs, facts.hold);
    let mut commit = Commit { snapshot, packs, bytes, meta_packs, gc_epoch: None, hold };
    commit::commit(vault, source.store, info.device, &mut commit, &tree.references)?;
    Ok(Made { record: commit.snapshot, root })
}
