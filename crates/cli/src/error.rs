//! A failure as the user meets it: what happened, to which object, what to do next, and the exit status.
//!
//! **What it may not do.** Print a secret: messages come from errors that hold none.
//! **What always holds.** The kind alone decides the exit status; the causes follow the message on one line.
//! **Where it is tested.** Below, and case by case in `tests/cli`.

use backupengine_model::ledger::RuleBroken;
use backupengine_model::{ReadError, ReadFailure, SelectError};
use backupengine_push::PushError;
use backupengine_store::{ErrorKind, StoreError};
use backupengine_vault::VaultError;
use std::error::Error;
use std::io;
use std::path::Path;

/// What kind of failure; its number is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// It did not work.
    Failed = 1,
    /// It was asked for wrongly.
    Usage = 2,
    /// It worked, but not for everything, or something is damaged.
    Partial = 3,
    /// Wrong secret, or not allowed.
    Denied = 4,
    /// The vault cannot be reached.
    Unreachable = 5,
    /// In use elsewhere.
    InUse = 6,
    /// Stopped by a signal.
    Interrupted = 130,
}

impl Kind {
    /// Its name in `--json`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Partial => "partial",
            Self::Denied => "denied",
            Self::Unreachable => "unreachable",
            Self::InUse => "in_use",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Why a command ended without doing what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) error: Box<dyn Error + Send + Sync>,
    /// What to do next, one line each.
    pub(crate) hints: Vec<String>,
}

/// What a command that ended comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it.
    Done,
    /// Some things could not be read or are damaged; each was listed.
    Partial,
}

impl Failure {
    pub(crate) fn new(kind: Kind, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, error: error.into(), hints: Vec::new() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message.into())
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted".to_owned())
    }

    /// The system refused to `verb` the file at `path`.
    pub(crate) fn io(verb: &str, path: &Path, cause: io::Error) -> Self {
        let kind = match cause.kind() {
            io::ErrorKind::PermissionDenied => Kind::Denied,
            io::ErrorKind::Interrupted => Kind::Interrupted,
            _ => Kind::Failed,
        };
        let hint = match cause.kind() {
            io::ErrorKind::NotFound => Some("check the path"),
            io::ErrorKind::PermissionDenied => Some("check owner and permissions"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some("make room there"),
            _ => None,
        };
        let text = format!("could not {verb} {}", path.display());
        let failure = Self::new(kind, Told { text, cause: Box::new(cause) });
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same failure with what was being done in front.
    #[must_use]
    pub(crate) fn while_doing(self, text: impl Into<String>) -> Self {
        Self { error: Box::new(Told { text: text.into(), cause: self.error }), ..self }
    }

    /// What to do next; never nothing.
    pub(crate) fn advice(&self) -> Vec<String> {
        if self.hints.is_empty() && self.kind != Kind::Interrupted {
            return vec!["run it again with -v -v to see what happens inside".to_owned()];
        }
        self.hints.clone()
    }

    /// Message and causes in one line. A cause that the line before it already tells is left out.
    pub(crate) fn message(&self) -> String {
        let mut text = self.error.to_string();
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.ends_with(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        text
    }

    /// Whether the reader of our output went away, as `head` does: nothing to complain about.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let own: &(dyn Error + 'static) = &*self.error;
        let mut next = Some(own);
        while let Some(error) = next {
            if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
                return true;
            }
            next = error.source();
        }
        false
    }
}

/// A sentence with a cause.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Told {
    text: String,
    #[source]
    cause: Box<dyn Error + Send + Sync>,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if let Some((kind, hints)) = crate::refusal::of_store(&error) {
            return hints.into_iter().fold(Self::new(kind, error), Self::hint);
        }
        let (kind, hint) = match error.kind {
            ErrorKind::NotAVault => (
                Kind::Failed,
                "give the folder of a vault by --vault, or make one with: backupengine init FOLDER",
            ),
            ErrorKind::TooNew => {
                (Kind::Failed, "this vault was written by a newer version: update this program")
            }
            ErrorKind::Denied => {
                (Kind::Denied, "check owner and permissions, or run it as the user who owns the vault")
            }
            ErrorKind::Full => (
                Kind::Failed,
                "make room there and run it again; snapshots that are finished are not touched",
            ),
            ErrorKind::Unavailable | ErrorKind::TimedOut => (
                Kind::Unreachable,
                "is the disk or network folder of the vault within reach? then run it again",
            ),
            ErrorKind::LedgerDamaged => (
                Kind::Failed,
                "the snapshots are still there, and can be read: `backupengine repair` rebuilds it from them",
            ),
            ErrorKind::NotFound if error.key.is_some() => (
                Kind::Failed,
                "`backupengine check` says what else is missing, `backupengine repair` brings back what it can",
            ),
            ErrorKind::RuleBroken(RuleBroken::EnvelopesMoved) => {
                (Kind::InUse, "nothing was changed; look with `backupengine key list`, and run it again")
            }
            ErrorKind::NotFound => (Kind::Failed, "check the path"),
            ErrorKind::RuleBroken(RuleBroken::Held) => {
                (Kind::Failed, "let it go first, if it really is to go: backupengine unhold S")
            }
            ErrorKind::RuleBroken(RuleBroken::UnknownSnapshot) => {
                (Kind::Failed, "`backupengine snapshots` and `snapshots --trash` list what there is")
            }
            _ => return Self::new(Kind::Failed, error),
        };
        Self::new(kind, error).hint(hint)
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Store(store) => store.into(),
            VaultError::WrongSecret => Self::new(Kind::Denied, error)
                .hint("try again; without the passphrase the recovery code opens it (--recovery-code-file FILE)"),
            VaultError::UnknownEpoch { .. } => Self::new(Kind::Denied, error)
                .hint("give the vault's passphrase or recovery code once: this device keeps the newer keys then")
                .hint("snapshots from before the rotation can be read as they are"),
            VaultError::OldKeys { .. } => Self::new(Kind::Denied, error)
                .hint("what was given opens older keys only: use the passphrase or recovery code that was given when the keys were rotated"),
            VaultError::NoWayIn => Self::new(Kind::Usage, error)
                .hint("give the passphrase (--passphrase-file) or the recovery code (--recovery-code-file), or set a new passphrase (--new-passphrase)"),
            VaultError::TooManyWays => Self::new(Kind::Usage, error)
                .hint("--replace takes the other passphrases away"),
            VaultError::NoEnvelope(_) | VaultError::OtherVault { .. } => Self::new(Kind::Denied, error),
            VaultError::RolledBack { .. } | VaultError::Forked { .. } => Self::new(Kind::Failed, error)
                .hint("the vault shows another past than this device has seen: was it restored from an older copy?")
                .hint("if you know why, go on with --accept-rollback; otherwise do not push into it"),
            VaultError::NoSnapshot(_) | VaultError::Removed(_) => Self::new(Kind::Failed, error)
                .hint("`backupengine snapshots` lists what there is"),
            VaultError::Format(_) | VaultError::Damaged { .. } => Self::new(Kind::Failed, error)
                .hint("`backupengine check` says what else is damaged; other files can still be read"),
            _ => Self::new(Kind::Failed, error),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let kind = match error.failure {
            ReadFailure::Denied => Kind::Denied,
            ReadFailure::TimedOut => Kind::Unreachable,
            ReadFailure::Interrupted => Kind::Interrupted,
            _ => Kind::Failed,
        };
        let hint = match error.failure {
            ReadFailure::Damaged => {
                "`backupengine check` says what else is damaged; other files can still be read"
            }
            ReadFailure::Denied => "`backupengine status` says where the vault lies and what this device may",
            ReadFailure::TimedOut => "is what the vault lies on within reach? then run it again",
            _ => return Self::new(kind, error),
        };
        Self::new(kind, error).hint(hint)
    }
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Interrupted => Self::new(Kind::Interrupted, error)
                .hint("run the same push again: what is stored already is not stored twice"),
            PushError::Store(store) => Self::from(store),
            PushError::Vault(vault) => Self::from(vault),
            PushError::Source(_) => Self::new(Kind::Failed, error).hint("check the path; nothing was stored"),
            _ => Self::new(Kind::Failed, error),
        }
    }
}

impl From<SelectError> for Failure {
    fn from(error: SelectError) -> Self {
        let hint = match error {
            SelectError::Ambiguous { .. } => "give more of the id; `backupengine snapshots` lists them",
            _ => "`backupengine snapshots` lists what there is",
        };
        Self::new(Kind::Failed, error).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_the_exit_status() {
        let denied = Failure::from(VaultError::WrongSecret);
        assert_eq!(denied.kind as u8, 4);
        assert_eq!(Failure::from(StoreError::new(ErrorKind::Unavailable, "away")).kind as u8, 5);
        assert_eq!(Failure::from(PushError::Interrupted).kind as u8, 130);
    }

    #[test]
    fn causes_follow_on_one_line_and_not_twice() {
        let store =
            StoreError::new(ErrorKind::Full, "no room to write /v").caused_by(io::Error::other("full"));
        let failure = Failure::from(store).while_doing("the push stopped");
        assert_eq!(failure.message(), "the push stopped: no room to write /v: full");
        let twice = Failure::new(Kind::Failed, Told { text: "x".into(), cause: "x".into() });
        assert_eq!(twice.message(), "x");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let gone = Failure::io("write", Path::new("stdout"), io::ErrorKind::BrokenPipe.into());
        assert!(gone.is_broken_pipe());
        assert!(!Failure::interrupted().is_broken_pipe());
    }
}
