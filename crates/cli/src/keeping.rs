//! What `forget`, `tag`, `hold` and `snapshots --trash` share: snapshots by name, live or in the trash, and steps that may
//! want a fresh one-time code.
//!
//! **What it may not do.** Decide what goes. **What always holds.** A code is asked for only where the server wants one, and
//! the step is then done once more. **Where it is tested.** `tests/cli`.

use crate::account::CodeSource;
use crate::error::{Failure, Kind};
use crate::keychain::random;
use crate::output::tell;
use crate::select::What;
use crate::wire::Opened;
use backupengine_api::Code;
use backupengine_maintain::keep::{self, KeepError, KeptSnapshot};
use backupengine_model::{SelectError, SessionNo, SnapshotInfo, SnapshotSelector, select};
use backupengine_store::{Keeper, Maintainable};
use backupengine_transfer::TransferError;
use backupengine_vault::Vault;
use std::collections::BTreeSet;

/// Everything that is not gone, oldest first.
pub(crate) struct All {
    pub(crate) all: Vec<KeptSnapshot>,
}

impl All {
    /// Asks the ledger.
    ///
    /// # Errors
    /// Where it does not answer.
    pub(crate) fn of(opened: &Opened) -> Result<Self, Failure> {
        Ok(Self { all: keep::kept(&opened.vault, opened.keeper()?)? })
    }

    /// What is listed.
    pub(crate) fn live(&self) -> impl Iterator<Item = &KeptSnapshot> {
        self.all.iter().filter(|one| one.kept.purge_after.is_none())
    }

    /// What is in the trash.
    pub(crate) fn trash(&self) -> impl Iterator<Item = &KeptSnapshot> {
        self.all.iter().filter(|one| one.kept.purge_after.is_some())
    }

    /// One of them.
    pub(crate) fn find(&self, session: SessionNo) -> Option<&KeptSnapshot> {
        self.all.iter().find(|one| one.info.session == session)
    }

    /// Whether it is held against removal.
    pub(crate) fn is_held(&self, session: SessionNo) -> bool {
        self.find(session).is_some_and(|one| one.kept.held)
    }

    /// Snapshots by name, each once, oldest first. Names of the list mean what is listed; an id may also be one in the
    /// trash, where `also_trash` says so.
    ///
    /// # Errors
    /// Where a name fits none or several; bad usage where it is none.
    pub(crate) fn named(
        &self,
        names: &[String],
        device: Option<&str>,
        also_trash: bool,
    ) -> Result<Vec<SnapshotInfo>, Failure> {
        let live: Vec<SnapshotInfo> = self.live().map(|one| one.info.clone()).collect();
        let trash: Vec<SnapshotInfo> = self.trash().map(|one| one.info.clone()).collect();
        let mut found = Vec::new();
        for name in names {
            let what = alone(name)?;
            let by_id = matches!(what.snapshot, SnapshotSelector::IdPrefix(_));
            found.push(match select(&live, &what.snapshot, device) {
                Ok(info) => info.clone(),
                Err(SelectError::None(_)) if by_id && select(&trash, &what.snapshot, device).is_ok() => {
                    let info = select(&trash, &what.snapshot, device)?;
                    if !also_trash {
                        return Err(in_trash(info));
                    }
                    info.clone()
                }
                Err(_) => what.choose(&live, device)?.clone(),
            });
        }
        Ok(each_once(found))
    }

    /// Snapshots in the trash by name, each once, oldest first.
    ///
    /// # Errors
    /// See [`All::named`].
    pub(crate) fn named_in_trash(
        &self,
        names: &[String],
        device: Option<&str>,
    ) -> Result<Vec<SnapshotInfo>, Failure> {
        let trash: Vec<SnapshotInfo> = self.trash().map(|one| one.info.clone()).collect();
        let mut found = Vec::new();
        for name in names {
            let what = alone(name)?;
            found.push(select(&trash, &what.snapshot, device).cloned().map_err(|error| {
                Failure::new(Kind::Failed, error)
                    .while_doing("the trash does not hold what was named")
                    .hint("`backupengine snapshots --trash` lists what it holds")
            })?);
        }
        Ok(each_once(found))
    }
}

fn in_trash(info: &SnapshotInfo) -> Failure {
    Failure::new(Kind::Failed, format!("the snapshot {} is in the trash", info.id))
        .hint(format!("bring it back: backupengine forget --undo {}", info.id))
}

/// A snapshot without a path.
///
/// # Errors
/// Bad usage.
pub(crate) fn alone(name: &str) -> Result<What, Failure> {
    let what = What::parse(name)?;
    if what.has_path {
        return Err(Failure::usage(format!("{name:?} names a path; this is about whole snapshots"))
            .hint("leave out the colon and what follows"));
    }
    Ok(what)
}

fn each_once(mut found: Vec<SnapshotInfo>) -> Vec<SnapshotInfo> {
    let mut seen = BTreeSet::new();
    found.retain(|info| seen.insert(info.session));
    found.sort_by_key(|info| (info.created, info.session));
    found
}

impl Opened {
    /// The ledger's deciding side.
    ///
    /// # Errors
    /// Where the server is not reached.
    pub(crate) fn keeper(&self) -> Result<&dyn Keeper, Failure> {
        Ok(self.upkeep()?)
    }

    /// The ledger's side that gives space back.
    ///
    /// # Errors
    /// Where the server is not reached.
    pub(crate) fn upkeep(&self) -> Result<&dyn Maintainable, Failure> {
        self.keeper.as_deref().ok_or_else(|| {
            Failure::new(Kind::Unreachable, "the server is not reached, and it decides this".to_owned())
                .hint("run it again when the network is there")
        })
    }

    /// Does a step of an owner's, with a salt of its own; once more after a fresh one-time code where the server wants
    /// one.
    ///
    /// # Errors
    /// The step's; a wrong code.
    pub(crate) fn decide<T>(
        &mut self,
        codes: &CodeSource<'_>,
        step: impl Fn(&Vault, &dyn Keeper, [u8; 8]) -> Result<T, KeepError>,
    ) -> Result<T, Failure> {
        // Labels are sealed anew, and what an older key does not open would be left out of them.
        self.refuse_old_keys()?;
        match step(&self.vault, self.keeper()?, random()?) {
            Err(error) if wants_code(&error) => {}
            other => return Ok(other?),
        }
        if let Some((online, store)) = &mut self.online {
            tell("This needs a fresh one-time code.");
            online.verify_again(codes)?;
            store.account().renew()?;
        }
        Ok(step(&self.vault, self.keeper()?, random()?)?)
    }
}

fn wants_code(error: &KeepError) -> bool {
    let KeepError::Store(error) = error else { return false };
    let cause = error.source.as_ref().and_then(|cause| cause.downcast_ref::<TransferError>());
    matches!(cause, Some(TransferError::Refused(refusal)) if refusal.known() == Some(Code::FreshTotpRequired))
}

impl From<KeepError> for Failure {
    fn from(error: KeepError) -> Self {
        match error {
            KeepError::Store(error) => error.into(),
            KeepError::Vault(error) => error.into(),
            KeepError::TagsTooLong => Self::usage(error.to_string()).hint("use fewer or shorter tags"),
            KeepError::TooManyDevices => Self::new(Kind::Failed, error)
                .hint("leave the newest snapshot of more devices, or forget them one device after the other"),
            _ => Self::new(Kind::Failed, error),
        }
    }
}
