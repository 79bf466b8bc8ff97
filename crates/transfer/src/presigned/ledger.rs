//! The ledger by the control plane: lists in pages, sessions, commits.
use super::upkeep::{calls, sound};
use super::{Core, mount, store_error};
use backupengine_api::{
    BlobPage, CommitSession, Empty, EnvelopeRecord, ListBlobs, ListSessions, ListSnapshots, MovedNumber,
    OfVault, Opaque, OpenSession, PackSet, PackSets, SessionListed, SnapshotListed, SnapshotTime, op,
};
use backupengine_model::ledger::{
    Commit, Counters, Moved, PackRun, SessionKind, SessionRecord, SessionState, Since, SnapshotRecord,
};
use backupengine_model::{DeviceId, SessionNo, Timestamp};
use backupengine_store::{
    BlobKey, BlobKind, EnvelopeId, ErrorKind, Opened, SessionList, SnapshotList, StoreError,
};

/// Records of one page.
pub(super) const PAGE: u32 = 1000;

impl Core {
    pub(crate) async fn version(&self) -> Result<u64, StoreError> {
        if let Some(version) = self.answers.version() {
            return Ok(version);
        }
        let answer =
            self.account.ask::<op::Version>(&OfVault { vault: self.vault }).await.map_err(store_error)?;
        self.answers.set_version(answer.version);
        Ok(answer.version)
    }

    pub(crate) async fn snapshots(&self) -> Result<SnapshotList, StoreError> {
        if let Some(page) = self.answers.snapshots() {
            return list(page.version, page.snapshots);
        }
        'anew: for _ in 0..8 {
            let mut all: Vec<SnapshotListed> = Vec::new();
            let mut version = None;
            loop {
                let before = all.last().map(|last| last.session);
                let request = ListSnapshots { vault: self.vault, before, limit: PAGE, trashed: false };
                let page = self.account.ask::<op::SnapshotList>(&request).await.map_err(store_error)?;
                // A list is one moment's: pages of two versions do not belong together.
                if *version.get_or_insert(page.version) != page.version {
                    continue 'anew;
                }
                let more = page.more && !page.snapshots.is_empty();
                all.extend(page.snapshots);
                if !more {
                    self.answers.set_version(page.version);
                    return list(page.version, all);
                }
            }
        }
        Err(StoreError::new(
            ErrorKind::Unavailable,
            "the list of snapshots changed all the while it was read",
        ))
    }

    pub(crate) async fn sessions(&self) -> Result<SessionList, StoreError> {
        let mut sessions = Vec::new();
        let (mut after, mut epoch) = (0, None);
        loop {
            let request = ListSessions { vault: self.vault, after, limit: PAGE };
            let page = self.account.ask::<op::SessionList>(&request).await.map_err(store_error)?;
            // The first page's: what moved while the others came is not known.
            let gc_epoch = *epoch.get_or_insert(page.gc_epoch);
            let last = page.sessions.last().map(|session| session.session);
            for listed in page.sessions {
                sessions.push(session(listed)?);
            }
            match last {
                Some(last) if page.more && last > after => after = last,
                _ => return Ok(SessionList { gc_epoch, sessions }),
            }
        }
    }

    pub(crate) async fn space(&self) -> Result<(u64, Option<u64>), StoreError> {
        let usage = self.account.ask::<op::Usage>(&Empty {}).await.map_err(store_error)?;
        let free = usage.quota.map(|quota| quota.saturating_sub(usage.used).saturating_sub(usage.reserved));
        Ok((usage.used, free))
    }

    pub(crate) async fn open_session(&self, device: DeviceId) -> Result<Opened, StoreError> {
        if device != self.account.device() {
            return Err(StoreError::new(ErrorKind::Denied, "this login belongs to another device"));
        }
        let request = OpenSession { vault: self.vault, kind: "push".to_owned(), idem: word()? };
        let opened = self.account.ask::<op::SessionOpen>(&request).await.map_err(store_error)?;
        if self.answers.version().is_some_and(|known| known != opened.version) {
            // What is remembered of the list is out of date.
            self.answers.forget();
        }
        let (session, version, gc_epoch) = (SessionNo(opened.session), opened.version, opened.gc_epoch);
        Ok(Opened { session, version, gc_epoch })
    }

    pub(crate) async fn commit(&self, device: DeviceId, commit: &Commit) -> Result<(), StoreError> {
        if device != self.account.device() {
            return Err(StoreError::rule(backupengine_model::ledger::RuleBroken::WrongSession));
        }
        let snapshot = &commit.snapshot;
        let packs = commit.meta_packs.iter();
        let request = CommitSession {
            vault: self.vault,
            session: snapshot.session.0,
            id: snapshot.id,
            device: snapshot.device,
            created: SnapshotTime { secs: snapshot.created.secs, nanos: snapshot.created.nanos },
            root_size: snapshot.root_size,
            head_len: snapshot.head_len,
            label: Opaque(snapshot.label.clone()),
            packs: commit.packs,
            bytes: commit.bytes,
            meta_packs: packs.map(of_run).collect(),
            gc_epoch: commit.gc_epoch,
            hold: commit.hold.map(|session| session.0),
        };
        self.account.ask::<op::SessionCommit>(&request).await.map_err(store_error)?;
        self.answers.forget();
        Ok(())
    }

    pub(crate) async fn revive(&self, packs: &[PackRun]) -> Result<Counters, StoreError> {
        sound(packs)?;
        let mut at = Counters::default();
        for part in calls(packs) {
            let packs = part.iter().map(of_run).collect();
            let request = PackSets { vault: self.vault, packs };
            let now = self.account.ask::<op::GcUnretire>(&request).await.map_err(store_error)?;
            at = Counters { version: now.version, gc_epoch: now.gc_epoch };
        }
        Ok(at)
    }

    /// The envelopes, from the opening call while it is fresh.
    pub(crate) async fn envelopes(&self) -> Result<Vec<(EnvelopeId, Vec<u8>)>, StoreError> {
        let records = self.envelope_records().await?;
        let found =
            records.into_iter().filter_map(|record| Some((envelope_id(&record.id)?, record.sealed.0)));
        let mut found: Vec<_> = found.collect();
        found.sort_unstable_by_key(|(id, _)| *id);
        Ok(found)
    }

    pub(super) async fn envelope_records(&self) -> Result<Vec<EnvelopeRecord>, StoreError> {
        Ok(match self.answers.envelopes() {
            Some(records) => records,
            None => {
                let lease = Some(self.opened.lease.id.clone());
                let anew = mount(&self.account, Some(self.vault), lease).await.map_err(store_error)?;
                self.answers.set_envelopes(anew.envelopes.clone());
                anew.envelopes
            }
        })
    }

    pub(crate) async fn list_blobs(&self, kind: BlobKind) -> Result<Vec<(BlobKey, u64)>, StoreError> {
        let (kind, session) = match kind {
            BlobKind::Envelopes => {
                let found = self.envelopes().await?.into_iter();
                return Ok(found.map(|(id, sealed)| (BlobKey::Envelope(id), sealed.len() as u64)).collect());
            }
            BlobKind::PacksOf(session) => ("packs", Some(session.0)),
            BlobKind::Packs => ("packs", None),
            BlobKind::Roots => ("roots", None),
        };
        let mut found = Vec::new();
        let mut cursor = None;
        loop {
            let request =
                ListBlobs { vault: self.vault, kind: kind.to_owned(), session, cursor: cursor.clone() };
            let page: BlobPage = self.account.ask::<op::BlobList>(&request).await.map_err(store_error)?;
            found.extend(page.blobs.into_iter().filter_map(|blob| Some((parse(&blob.name)?, blob.size))));
            if page.cursor.is_none() || page.cursor == cursor {
                break;
            }
            cursor = page.cursor;
        }
        found.sort_unstable();
        Ok(found)
    }
}

fn list(version: u64, listed: Vec<SnapshotListed>) -> Result<SnapshotList, StoreError> {
    let mut snapshots = listed.into_iter().map(record).collect::<Result<Vec<_>, _>>()?;
    snapshots.sort_unstable_by_key(|snapshot| snapshot.session);
    Ok(SnapshotList { version, snapshots })
}

/// After a rebuild from the bucket nobody knows the device, the time and the label: they are told as nothing, and
/// the reader takes them from the root.
pub(super) fn record(listed: SnapshotListed) -> Result<SnapshotRecord, StoreError> {
    let created = match listed.created {
        Some(time) => Timestamp { secs: time.secs, nanos: time.nanos },
        None => Timestamp { secs: listed.committed, nanos: 0 },
    };
    Ok(SnapshotRecord {
        session: SessionNo(listed.session),
        id: listed.id,
        device: device(listed.device.as_deref())?,
        created,
        root_size: listed.root_size,
        head_len: listed.head_len,
        label: listed.label.unwrap_or_default().0,
    })
}

fn session(listed: SessionListed) -> Result<SessionRecord, StoreError> {
    let state = match listed.state.as_str() {
        "open" => SessionState::Open,
        "committed" => SessionState::Committed,
        _ => SessionState::Expired,
    };
    let kind = match listed.kind.as_str() {
        "compact" => SessionKind::Compact,
        "heal" => SessionKind::Heal,
        _ => SessionKind::Push,
    };
    let numbers = |runs: Vec<PackSet>| {
        let run = |set: PackSet| set.from..set.from.saturating_add(set.count);
        runs.into_iter().map(run).filter(|run| !run.is_empty())
    };
    let moved = |it: MovedNumber| {
        let since = Since { epoch: it.gc_epoch, at: Timestamp::default() };
        (it.number, Moved { to: SessionNo(it.to_session), number: it.to_number, since, gone: it.gone })
    };
    let opened = Timestamp { secs: listed.opened, nanos: 0 };
    Ok(SessionRecord {
        state,
        kind,
        packs: listed.packs,
        bytes: listed.bytes,
        acked: listed.acked,
        // Since when is the server's matter.
        retired: numbers(listed.retired).map(|run| (run, Since::default())).collect(),
        deleted: numbers(listed.deleted).collect(),
        moved: listed.moved.into_iter().map(moved).collect(),
        ..SessionRecord::new(SessionNo(listed.session), device(listed.device.as_deref())?, opened)
    })
}

pub(super) fn of_run(run: &PackRun) -> PackSet {
    PackSet { session: run.session.0, from: run.from, count: run.count }
}

/// A word of one's own for a call that may be repeated.
pub(super) fn word() -> Result<String, StoreError> {
    let mut word = [0; 16];
    getrandom::fill(&mut word).map_err(|error| {
        StoreError::new(ErrorKind::Io, format!("the system gives no randomness: {error}"))
    })?;
    Ok(word.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn device(text: Option<&str>) -> Result<DeviceId, StoreError> {
    let Some(text) = text else { return Ok(DeviceId([0; DeviceId::LEN])) };
    DeviceId::from_hex(text).map_err(|error| {
        StoreError::new(ErrorKind::LedgerDamaged, "the control plane named a device that is none")
            .caused_by(error)
    })
}

/// The key of a blob's name.
/// An envelope by its name in the contract.
pub(super) fn envelope_id(name: &str) -> Option<EnvelopeId> {
    match parse(&format!("k/{name}")) {
        Some(BlobKey::Envelope(id)) => Some(id),
        _ => None,
    }
}

/// Its name in the contract.
pub(super) fn envelope_name(id: EnvelopeId) -> String {
    BlobKey::Envelope(id).to_string().trim_start_matches("k/").to_owned()
}

fn parse(name: &str) -> Option<BlobKey> {
    let hex = |text: &str, digits: usize| -> Option<u64> {
        let good =
            text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        good.then(|| u64::from_str_radix(text, 16).ok())?
    };
    let session = |text| hex(text, 8).and_then(|n| u32::try_from(n).ok()).map(SessionNo);
    let (family, rest) = name.split_once('/')?;
    match family {
        "p" => {
            let (of, number) = rest.split_once('/')?;
            Some(BlobKey::Pack(session(of)?, u32::try_from(hex(number, 8)?).ok()?))
        }
        "r" => session(rest).map(BlobKey::Root),
        "k" => hex(rest, 16).map(|id| BlobKey::Envelope(EnvelopeId(id.to_be_bytes()))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let keys = [
            BlobKey::Pack(SessionNo(10), 0xfffe),
            BlobKey::Root(SessionNo(u32::MAX)),
            BlobKey::Envelope(EnvelopeId([0, 1, 2, 3, 4, 5, 6, 0xff])),
        ];
        for key in keys {
            assert_eq!(parse(&key.to_string()), Some(key));
        }
        for bad in [
            "",
            "p/1",
            "p/0000000A/00000000",
            "p/0000000a/0000000",
            "r/+0000001",
            "k/00",
            "v/root",
            "r/00000001/",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
