//! Commands of the account, as clap sees them.
//!
//! **What it may not do.** See `args`. **What always holds.** No secret is ever an argument; words that two screens show
//! are none. **Where it is tested.** `tests/cli`.

use clap::{Args as ClapArgs, Subcommand};

/// Where a one-time code comes from.
#[derive(Debug, ClapArgs)]
pub(crate) struct Codes {
    /// Command that prints a one-time code; for a new factor its otpauth address goes to the command's standard input
    /// [env: BACKUPENGINE_TOTP_CODE holds a code itself]
    #[arg(long, value_name = "CMD")]
    pub(crate) totp_command: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Signup {
    /// Address of the server
    #[arg(long, value_name = "URL")]
    pub(crate) server: String,
    /// Where the account and its data live, for good
    #[arg(long, value_parser = ["us", "ca", "eu"])]
    pub(crate) region: String,
    /// E-mail address [default: asked for]. The password is asked for [env: BACKUPENGINE_PASSWORD]
    #[arg(long, value_name = "E")]
    pub(crate) email: Option<String>,
    #[command(flatten)]
    pub(crate) codes: Codes,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Login {
    /// Address of the server [default: --vault, or the account of this device]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Log in with a browser instead of a password
    #[arg(long, value_parser = ["google", "azure", "apple"], conflicts_with = "email")]
    pub(crate) provider: Option<String>,
    /// Only print the address for the browser
    #[arg(long)]
    pub(crate) no_browser: bool,
    /// E-mail address [default: the last one, or asked for]
    #[arg(long, value_name = "E")]
    pub(crate) email: Option<String>,
    /// The vault's six words, as the device that approved this one shows them
    #[arg(long, value_name = "WORDS")]
    pub(crate) vault_fingerprint: Option<String>,
    /// Seconds to wait for the approval of a new device
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) wait: u64,
    #[command(flatten)]
    pub(crate) codes: Codes,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Logout {
    /// Take this device's keys away as well: the next login makes a new device, which has to be approved
    #[arg(long)]
    pub(crate) forget_device: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Mfa {
    /// List second factors
    List,
    /// Add one: a spare is good to have
    Add {
        /// What to call it
        #[arg(long, value_name = "N", default_value = "spare")]
        name: String,
        #[command(flatten)]
        codes: Codes,
    },
    /// Take one away
    Remove {
        /// Its name, its id, or the beginning of its id
        factor: String,
        #[command(flatten)]
        codes: Codes,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Device {
    /// List devices
    List,
    /// Let a new device in, or give one another role
    Approve(Approve),
    /// End a device: its next call is refused
    Revoke {
        /// Its id, the beginning of it, or its name
        device: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        codes: Codes,
    },
    /// Give a device another name
    Rename {
        /// Its id, the beginning of it, or its name
        device: String,
        /// The new name
        name: String,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Approve {
    /// Its id, or the beginning of it
    pub(crate) device: String,
    /// What it may do: `writer` pushes, `reader` looks and restores, `maintainer` prunes, `owner` everything
    #[arg(long, value_parser = ["owner", "maintainer", "writer", "reader"], default_value = "writer")]
    pub(crate) role: String,
    /// The device's six words, as its own screen shows them
    #[arg(long, value_name = "WORDS")]
    pub(crate) fingerprint: Option<String>,
    #[command(flatten)]
    pub(crate) codes: Codes,
}
