//! Changing which key envelopes there are.
//!
//! May not look into one. What always holds: copies lie in the bucket before the
//! control plane is asked to commit, so that what counts can be found again without it. Tested in `tests/stores`.
use super::{Core, ledger, store_error};
use backupengine_api::{ChangeEnvelopes, DeviceEnvelope, EnvelopeRecord, NewEnvelope, Opaque, op};
use backupengine_model::Timestamp;
use backupengine_store::{EnvelopeChange, EnvelopeId, EnvelopeInfo, StoreError};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

impl Core {
    /// See [`PresignedStore::change_keys`](super::PresignedStore::change_keys).
    pub(crate) async fn change_keys(
        self: &Arc<Self>,
        change: &EnvelopeChange,
        devices: Vec<DeviceEnvelope>,
    ) -> Result<(), StoreError> {
        let asked = self.envelope_request(change, devices.clone(), false);
        for (at, (id, sealed)) in change.add.iter().enumerate() {
            self.put_copy(&asked, at, *id, sealed).await?;
        }
        let commit = self.envelope_request(change, devices, true);
        let done = self.account.ask::<op::EnvelopeChange>(&commit).await.map_err(store_error);
        self.answers.forget();
        done.map(drop)
    }

    pub(crate) fn envelope_request(
        &self,
        change: &EnvelopeChange,
        devices: Vec<DeviceEnvelope>,
        commit: bool,
    ) -> ChangeEnvelopes {
        let name = |id: &EnvelopeId| ledger::envelope_name(*id);
        let added = change.add.iter().map(|(id, sealed)| NewEnvelope {
            id: name(id),
            epoch: change.epoch.into(),
            kind: if change.recovery.contains(id) { "recovery" } else { "passphrase" }.to_owned(),
            sealed: Opaque(sealed.clone()),
            sha256: Opaque(Sha256::digest(sealed).to_vec()),
        });
        let mut request = ChangeEnvelopes {
            vault: self.vault,
            expected: change.expected.iter().map(name).collect(),
            keep: change.keep.iter().map(name).collect(),
            add: added.collect(),
            devices,
            commit,
            idem: String::new(),
        };
        // The same change again is the same call.
        let text = format!("{request:?}");
        request.idem = Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect();
        request
    }

    pub(crate) async fn envelope_infos(&self) -> Result<Vec<EnvelopeInfo>, StoreError> {
        let info = |record: EnvelopeRecord| {
            let stored = record.created.map(|secs| Timestamp { secs, nanos: 0 });
            Some(EnvelopeInfo { id: ledger::envelope_id(&record.id)?, stored })
        };
        let mut found: Vec<_> = self.envelope_records().await?.into_iter().filter_map(info).collect();
        found.sort_unstable_by_key(|info| info.id);
        Ok(found)
    }
}
