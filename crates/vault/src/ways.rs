//! The ways into a vault, and how they change: a passphrase more, another recovery code, new keys for all.
//!
//! **What it may not do.** Put anything, draw randomness or ask a person: a change is worked out here, and put by
//! whoever may write.
//! **What always holds.** Every change names all envelopes it has seen, so that of two at once one comes through. After
//! it a passphrase or the recovery code opens the newest keys. Nothing is changed with keys that are not the newest. The
//! root key rests under the recovery code alone, so its envelope goes only where another one takes its place.
//! **Where it is tested.** In the reader's tests; `tests/cli`.

use crate::VaultError;
use crate::fetch::Fetcher;
use backupengine_model::VaultId;
use backupengine_model::ledger::ENVELOPES_MAX;
use backupengine_seal::{
    EnvelopeKind, KdfParams, Keyring, Passphrase, RecoveryCode, RootKey, UnlockSecret, WrapError,
    envelope_epoch, envelope_kind, envelope_vault, open_envelope, seal_envelope,
};
use backupengine_store::{BlobKey, BlobKind, EnvelopeChange, EnvelopeId, ErrorKind};
use bytes::Bytes;

/// Largest envelope that is looked at, in bytes.
const ENVELOPE_MAX: u64 = 64 << 10;
/// How often they are looked at while they change.
const LOOKS: usize = 4;
/// Most passphrases of a vault: unlocking tries one after the other.
const PASSPHRASES_MAX: usize = 4;

/// One envelope that the store lists.
#[derive(Clone, Debug)]
pub struct WayIn {
    /// Its name.
    pub id: EnvelopeId,
    /// What opens it.
    pub kind: EnvelopeKind,
    /// Up to which key epoch it reaches, by its own word: it is believed only once it opened.
    pub epoch: u16,
    /// The bytes.
    pub envelope: Bytes,
}

/// All envelopes that the store lists.
#[derive(Clone, Debug, Default)]
pub struct WaysIn {
    /// Those that are whole and of this vault.
    pub ways: Vec<WayIn>,
    /// Those that are whole and say that they are of another vault: what they open is refused.
    pub foreign: Vec<WayIn>,
    /// The others, and why.
    pub unusable: Vec<(EnvelopeId, WrapError)>,
}

impl WaysIn {
    pub(crate) fn read(fetcher: &Fetcher, vault: VaultId) -> Result<Self, VaultError> {
        for _ in 1..LOOKS {
            match Self::read_once(fetcher, vault) {
                // Somebody changes them: what was listed is taken away, and others count.
                Err(VaultError::Store(error)) if error.kind == ErrorKind::NotFound => {}
                done => return done,
            }
        }
        Self::read_once(fetcher, vault)
    }

    fn read_once(fetcher: &Fetcher, vault: VaultId) -> Result<Self, VaultError> {
        let mut found = Self::default();
        for (key, size) in fetcher.list(BlobKind::Envelopes)?.into_iter().take(ENVELOPES_MAX) {
            let BlobKey::Envelope(id) = key else { continue };
            if size > ENVELOPE_MAX {
                found.unusable.push((id, WrapError::Malformed));
                continue;
            }
            let envelope = fetcher.whole(key)?;
            let read = || {
                let (kind, epoch) = (envelope_kind(&envelope)?, envelope_epoch(&envelope)?);
                Ok::<_, WrapError>((kind, epoch, envelope_vault(&envelope)? == vault))
            };
            match read() {
                Ok((kind, epoch, true)) => found.ways.push(WayIn { id, kind, epoch, envelope }),
                Ok((kind, epoch, false)) => found.foreign.push(WayIn { id, kind, epoch, envelope }),
                Err(error) => found.unusable.push((id, error)),
            }
        }
        Ok(found)
    }

    /// The newest key epoch that any of them names.
    pub fn newest_epoch(&self) -> Option<u16> {
        self.ways.iter().map(|way| way.epoch).max()
    }

    /// Those of a kind, the newest keys first; those of other vaults at the end.
    pub fn newest_first(&self, kind: EnvelopeKind) -> Vec<&WayIn> {
        let mut ways: Vec<&WayIn> = self.ways.iter().filter(|way| way.kind == kind).collect();
        ways.sort_by_key(|way| std::cmp::Reverse(way.epoch));
        ways.extend(self.foreign.iter().filter(|way| way.kind == kind));
        ways
    }

    /// Which of them a secret opens, the newest keys first.
    ///
    /// # Errors
    /// [`VaultError::WrongSecret`] where it opens none; [`VaultError::Envelope`] where one could not be tried.
    pub fn opened_by(&self, secret: &UnlockSecret<'_>) -> Result<(&WayIn, Option<RootKey>), VaultError> {
        let mut untried = None;
        let mut ours = self.newest_first(secret.kind());
        ours.truncate(self.ways.iter().filter(|way| way.kind == secret.kind()).count());
        for way in ours {
            match open_envelope(&way.envelope, secret) {
                Ok(opened) => return Ok((way, opened.root_key)),
                Err(WrapError::WrongSecret) => {}
                Err(error) => untried = Some(error),
            }
        }
        Err(untried.map_or(VaultError::WrongSecret, VaultError::from))
    }
}

/// What becomes of the ways in of one kind.
#[derive(Debug)]
pub enum Ways<T> {
    /// They stay as they are.
    Keep,
    /// They go.
    Drop,
    /// One more.
    Add(T),
    /// This one instead of all of them.
    Replace(T),
}

impl<T> Ways<T> {
    const fn keeps(&self) -> bool {
        matches!(self, Self::Keep | Self::Add(_))
    }

    const fn added(&self) -> Option<&T> {
        match self {
            Self::Add(new) | Self::Replace(new) => Some(new),
            Self::Keep | Self::Drop => None,
        }
    }
}

impl WaysIn {
    /// The change that brings the ways in to what is wanted, all new envelopes with the keys of `keyring`: those at hand,
    /// or the same [rotated](Keyring::rotated). `random` gives fresh random bytes.
    ///
    /// A recovery code's envelope that is not replaced stays, whatever it opens: the root key rests there alone.
    ///
    /// # Errors
    /// [`VaultError::OldKeys`], [`VaultError::NoWayIn`], [`VaultError::TooManyWays`]; [`VaultError::Envelope`] where the
    /// passphrase hash does not run, or a newer program's envelope would have to go.
    pub fn change(
        &self,
        keyring: &Keyring,
        passphrase: &Ways<&Passphrase>,
        recovery: &Ways<(&RecoveryCode, &RootKey)>,
        kdf: KdfParams,
        random: &dyn Fn(&mut [u8]),
    ) -> Result<EnvelopeChange, VaultError> {
        let found = keyring.current_epoch();
        if let Some(newest) = self.newest_epoch().filter(|newest| *newest > found) {
            return Err(VaultError::OldKeys { found, newest });
        }
        if let Some((_, newer)) =
            self.unusable.iter().find(|(_, e)| matches!(e, WrapError::UnknownVersion(_)))
        {
            return Err(VaultError::Envelope(newer.clone()));
        }
        let stays = |way: &&WayIn| match way.kind {
            EnvelopeKind::Passphrase => passphrase.keeps(),
            EnvelopeKind::Recovery => recovery.keeps() || matches!(recovery, Ways::Drop),
            // None is stored by any program so far.
            EnvelopeKind::Device | EnvelopeKind::Enrolment => true,
        };
        let kept: Vec<&WayIn> = self.ways.iter().filter(stays).collect();
        let phrases = kept.iter().filter(|way| way.kind == EnvelopeKind::Passphrase).count();
        if matches!(passphrase, Ways::Add(_)) && phrases >= PASSPHRASES_MAX {
            return Err(VaultError::TooManyWays);
        }
        let person = |kind| matches!(kind, EnvelopeKind::Passphrase | EnvelopeKind::Recovery);
        let reach = kept.iter().any(|way| person(way.kind) && way.epoch == found);
        if !reach && passphrase.added().is_none() && recovery.added().is_none() {
            return Err(VaultError::NoWayIn);
        }
        let (mut add, mut recovery_ids) = (Vec::new(), Vec::new());
        let mut seal = |root: Option<&RootKey>, secret: &UnlockSecret<'_>| {
            let (mut id, mut fresh) = ([0; 8], [0; 44]);
            random(&mut id);
            random(&mut fresh);
            let sealed = seal_envelope(keyring, root, secret, kdf, fresh)?;
            add.push((EnvelopeId(id), sealed));
            if root.is_some() {
                recovery_ids.push(EnvelopeId(id));
            }
            Ok::<_, WrapError>(())
        };
        if let Some(passphrase) = passphrase.added() {
            seal(None, &UnlockSecret::Passphrase(passphrase))?;
        }
        if let Some((code, root)) = recovery.added() {
            seal(Some(root), &UnlockSecret::Recovery(code))?;
        }
        let expected = self
            .ways
            .iter()
            .chain(&self.foreign)
            .map(|way| way.id)
            .chain(self.unusable.iter().map(|(id, _)| *id));
        let keep = kept.iter().map(|way| way.id).collect();
        Ok(EnvelopeChange { expected: expected.collect(), keep, add, recovery: recovery_ids, epoch: found })
    }
}
