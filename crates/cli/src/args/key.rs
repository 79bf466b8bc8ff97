//! Commands of a vault's keys, as clap sees them.
//!
//! **What it may not do.** See `args`. **What always holds.** No secret is ever an argument. **Where it is tested.**
//! `tests/cli`.

use super::account::Codes;
use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// List what opens the vault, and up to which key epoch
    List,
    /// Let one more passphrase open the vault, or another one
    AddPassphrase(AddPassphrase),
    /// Give the vault a new key, under which everything is sealed from now on
    Rotate(Rotate),
    /// Open the vault with the recovery code and set a new passphrase, or make this device one of the account's vault
    Recover(Recover),
}

/// Where a new passphrase comes from.
#[derive(Debug, ClapArgs)]
pub(crate) struct NewPassphrase {
    /// File that holds the new passphrase, `-` for stdin [env: BACKUPENGINE_NEW_PASSPHRASE holds it itself; else it is
    /// asked for]
    #[arg(long, value_name = "FILE")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// Take a passphrase that can be guessed
    #[arg(long)]
    pub(crate) allow_weak_passphrase: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AddPassphrase {
    /// Take all other passphrases away
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) new: NewPassphrase,
    #[command(flatten)]
    pub(crate) codes: Codes,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Whoever has the old key can read what was pushed until now, until it is rewritten: a rotation \
                        protects what is pushed from now on. Passphrases that are not given open nothing afterwards. \
                        A recovery code that is not given opens what was pushed until now, and nothing later."
)]
pub(crate) struct Rotate {
    /// Set a new passphrase instead of the one there is
    #[arg(long)]
    pub(crate) new_passphrase: bool,
    #[command(flatten)]
    pub(crate) new: NewPassphrase,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) codes: Codes,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Recover {
    /// Make a new recovery code, in the place of the one that is typed; it is shown once
    #[arg(long)]
    pub(crate) new_recovery_code: bool,
    /// Leave the passphrases as they are
    #[arg(long, conflicts_with_all = ["new_passphrase_file", "allow_weak_passphrase"])]
    pub(crate) keep_passphrase: bool,
    #[command(flatten)]
    pub(crate) new: NewPassphrase,
    /// Do not ask for a new recovery code back
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) codes: Codes,
}
