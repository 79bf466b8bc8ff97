//! The command line as clap sees it: every command, flag and help text in one place.
//!
//! **What it may not do.** Decide anything: values go to the commands as they were given.
//! **What always holds.** No secret is ever an argument.
//! **Where it is tested.** `tests/cli`: the golden of all help, and a case per command.

mod account;
mod keep;
mod key;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

pub(crate) use account::{Approve, Device, Login, Logout, Mfa, Signup};
pub(crate) use keep::{Forget, Hold, Rules, Tag};
pub(crate) use key::{AddPassphrase, Key, NewPassphrase, Recover, Rotate};

/// Backups you restore from: push a folder, mount the vault, copy files out
#[derive(Debug, Parser)]
#[command(
    name = "backupengine",
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "First minutes:\n  backupengine init ~/vault\n  backupengine push ~/Documents\n  \
                  backupengine mount ~/snapshots      # browse; Ctrl-C unmounts\n\n\
                  With a server:\n  backupengine signup --server https://backup.example.org --region eu\n  \
                  backupengine init                   # makes the account's vault\n  \
                  backupengine push ~/Documents\n\n\
                  Exit status: 0 done, 1 failed, 2 bad usage, 3 done but not for everything, \
                  4 wrong passphrase or not allowed, 5 vault or server cannot be reached, 6 in use elsewhere, \
                  130 interrupted"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Folder of the vault, or address of the account's server [env: BACKUPENGINE_VAULT; else the default in the
    /// config file]
    #[arg(long, global = true, value_name = "PATH|URL")]
    pub(crate) vault: Option<PathBuf>,
    /// File that holds the passphrase, `-` for stdin [env: BACKUPENGINE_PASSPHRASE holds it itself]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "passphrase_command")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Command that prints the passphrase
    #[arg(long, global = true, value_name = "CMD")]
    pub(crate) passphrase_command: Option<String>,
    /// File that holds the recovery code [env: BACKUPENGINE_RECOVERY_CODE holds it itself]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) recovery_code_file: Option<PathBuf>,
    /// Accept that the vault shows an older or another past than this device has seen
    #[arg(long, global = true)]
    pub(crate) accept_rollback: bool,
    /// Print for programs: one document, or one object a line where results stream
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print results and errors only
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Tell more; twice for debugging
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Show nothing that moves
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// What goes into the log: error, warn, info, debug, trace
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Write the log to this file instead of stderr
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a vault, in a folder or for the account; shows its recovery code once
    Init(Init),
    /// Back up into a new snapshot
    Push(Push),
    /// Show all snapshots as read-only folders
    Mount(Mount),
    /// End a mount
    Unmount(Unmount),
    /// List snapshots, newest last
    Snapshots(Snapshots),
    /// List a folder of a snapshot
    Ls(Ls),
    /// Print a file of a snapshot
    Cat(Cat),
    /// Copy files out of a snapshot, with everything the filesystem can hold
    Restore(Restore),
    /// Put snapshots into the trash: those named, or those no rule keeps
    Forget(Forget),
    /// Give a snapshot tags, or take them away
    Tag(Tag),
    /// Hold snapshots against removal
    Hold(Hold),
    /// Let held snapshots go again
    Unhold(Hold),
    /// Give back the space of what no snapshot needs any more
    Prune(Prune),
    /// Verify what is stored; exit 3 where anything is damaged
    Check(Check),
    /// Heal what is damaged, as far as it can be; exit 3 where some of it stays so
    Repair(Repair),
    /// Vault, device, last push, mounts and anything wrong, in one screen
    Status(Status),
    /// Make an account with a server
    Signup(Signup),
    /// Log in, and make this machine a device of the account
    Login(Login),
    /// End this machine's login; its keys stay
    Logout(Logout),
    /// Who is logged in, with which device and role
    Whoami,
    /// Second factors of the account
    #[command(subcommand)]
    Mfa(Mfa),
    /// What opens the vault: passphrases, the recovery code, devices
    #[command(subcommand)]
    Key(Key),
    /// Devices of the account
    #[command(subcommand)]
    Device(Device),
    /// Sealed blocks of an account's vault on this device's disk
    #[command(subcommand)]
    Cache(Cache),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the version
    Version,
}

impl Command {
    /// Its name, for the log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Push(_) => "push",
            Self::Mount(_) => "mount",
            Self::Unmount(_) => "unmount",
            Self::Snapshots(_) => "snapshots",
            Self::Ls(_) => "ls",
            Self::Cat(_) => "cat",
            Self::Restore(_) => "restore",
            Self::Forget(_) => "forget",
            Self::Tag(_) => "tag",
            Self::Hold(_) => "hold",
            Self::Unhold(_) => "unhold",
            Self::Prune(_) => "prune",
            Self::Check(_) => "check",
            Self::Repair(_) => "repair",
            Self::Status(_) => "status",
            Self::Signup(_) => "signup",
            Self::Login(_) => "login",
            Self::Logout(_) => "logout",
            Self::Whoami => "whoami",
            Self::Mfa(_) => "mfa",
            Self::Key(_) => "key",
            Self::Device(_) => "device",
            Self::Cache(_) => "cache",
            Self::Completions(_) => "completions",
            Self::Version => "version",
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Init {
    /// Folder to make the vault in; must not exist or be empty [default: --vault, or the account's vault]
    pub(crate) path: Option<PathBuf>,
    /// Do not ask for the recovery code back
    #[arg(long)]
    pub(crate) yes: bool,
    /// Take a passphrase that can be guessed
    #[arg(long)]
    pub(crate) allow_weak_passphrase: bool,
    /// No passphrase: devices and the recovery code alone open the vault (accounts only)
    #[arg(long)]
    pub(crate) no_passphrase: bool,
    /// Name of this device in its snapshots [default: the host name]
    #[arg(long, value_name = "N")]
    pub(crate) device_name: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Push {
    /// What to back up
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Tag of the snapshot (again for more)
    #[arg(long = "tag", value_name = "T")]
    pub(crate) tags: Vec<String>,
    /// Leave out what fits, in the syntax of .gitignore (again for more)
    #[arg(long = "exclude", value_name = "GLOB")]
    pub(crate) excludes: Vec<String>,
    /// File with one such pattern a line (again for more)
    #[arg(long = "exclude-file", value_name = "F")]
    pub(crate) exclude_files: Vec<PathBuf>,
    /// Leave out folders that hold a CACHEDIR.TAG
    #[arg(long)]
    pub(crate) exclude_caches: bool,
    /// Leave out what .gitignore files name
    #[arg(long)]
    pub(crate) gitignore: bool,
    /// Stay on the filesystem of each PATH
    #[arg(long)]
    pub(crate) one_file_system: bool,
    /// Name of this device in the snapshot [default: the host name]
    #[arg(long, value_name = "N")]
    pub(crate) device_name: Option<String>,
    /// A file nobody is to touch: where it is gone or was written to, the push is marked as suspicious (again for
    /// more) [also: canaries in the config file]
    #[arg(long = "canary", value_name = "PATH")]
    pub(crate) canaries: Vec<PathBuf>,
    /// Look and count, store nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// When the snapshot counts as made [default: now]
    #[arg(long, value_name = "RFC3339")]
    pub(crate) time: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Mount {
    /// An empty folder
    pub(crate) mountpoint: PathBuf,
    /// Return when the tree answers; end it with `unmount`
    #[arg(long)]
    pub(crate) background: bool,
    /// Show one snapshot, or one folder of it, instead of all
    #[arg(long, value_name = "S[:PATH]")]
    pub(crate) snapshot: Option<String>,
    /// Memory to stay within
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub(crate) memory: String,
    /// Disk that sealed blocks of an account's vault may take on this device, from now on; `none` keeps nothing
    /// [default: the size given last, else 10GiB or a tenth of the disk]
    #[arg(long, value_name = "SIZE")]
    pub(crate) cache_size: Option<String>,
    /// How long a read waits for a server that does not answer, before it fails
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) timeout: u32,
    /// Let other users look in, by the permissions stored
    #[arg(long)]
    pub(crate) allow_other: bool,
    /// Whom files seem to belong to
    #[arg(long, value_enum, default_value_t = Owner::Stored)]
    pub(crate) owner: Owner,
    /// Fetch everything, also what lies unchanged on this device
    #[arg(long)]
    pub(crate) no_seeds: bool,
    /// An option of FUSE (again for more)
    #[arg(long = "option", value_name = "FUSE_OPTION")]
    pub(crate) options: Vec<String>,
    /// Set by `--background` for the process it starts.
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Owner {
    /// To whoever mounts.
    Me,
    /// To whom they belonged.
    Stored,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Unmount {
    pub(crate) mountpoint: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Snapshots {
    /// Of this device only
    #[arg(long, value_name = "D")]
    pub(crate) device: Option<String>,
    /// With this tag only
    #[arg(long, value_name = "T")]
    pub(crate) tag: Option<String>,
    /// That hold this path only
    #[arg(long, value_name = "P")]
    pub(crate) path: Option<PathBuf>,
    /// Those in the trash instead, and until when they can be brought back
    #[arg(long)]
    pub(crate) trash: bool,
}

/// How a snapshot is named, for the help of what takes one.
const SNAPSHOT_HELP: &str = "Snapshots are named by the beginning of an id, `latest`, `latest~2`, `@2026-03-01`, \
                             `@yesterday` or `@-3d` (the newest at or before then).";

#[derive(Debug, ClapArgs)]
#[command(after_help = SNAPSHOT_HELP)]
pub(crate) struct Ls {
    /// Snapshot, and a path in it
    #[arg(value_name = "S[:PATH]", default_value = "latest")]
    pub(crate) what: String,
    /// Show mode, owner, size and time
    #[arg(long, short)]
    pub(crate) long: bool,
    /// Go into folders
    #[arg(long, short = 'R')]
    pub(crate) recursive: bool,
    /// Choose among this device's snapshots
    #[arg(long, value_name = "D")]
    pub(crate) device: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = SNAPSHOT_HELP)]
pub(crate) struct Cat {
    /// Snapshot, and the path of a file in it
    #[arg(value_name = "S:PATH")]
    pub(crate) what: String,
    /// Choose among this device's snapshots
    #[arg(long, value_name = "D")]
    pub(crate) device: Option<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = SNAPSHOT_HELP)]
pub(crate) struct Restore {
    /// Snapshot, and a path in it (again for more)
    #[arg(required = true, value_name = "S[:PATH]")]
    pub(crate) what: Vec<String>,
    /// Folder to write into
    #[arg(long, value_name = "DIR", required_unless_present = "in_place", conflicts_with = "in_place")]
    pub(crate) to: Option<PathBuf>,
    /// Put files back where they were
    #[arg(long)]
    pub(crate) in_place: bool,
    /// What to do with files that are there already
    #[arg(long, value_enum, default_value_t = Overwrite::Changed)]
    pub(crate) overwrite: Overwrite,
    /// Read every file again afterwards and compare
    #[arg(long)]
    pub(crate) verify: bool,
    /// Leave holes for all runs of zeros, not only where there were holes
    #[arg(long)]
    pub(crate) sparse: bool,
    /// Choose among this device's snapshots
    #[arg(long, value_name = "D")]
    pub(crate) device: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Overwrite {
    /// Leave them.
    Never,
    /// Replace those that differ in size or time.
    Changed,
    /// Replace all.
    Always,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Prune {
    /// Only say what would be given up
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Wait for no time: what is in the trash goes now, and what no snapshot needs at once. Of a vault in a folder only.
    /// Snapshots that are held or mounted stay, and so does what a push under way may need
    #[arg(long)]
    pub(crate) now: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Check {
    /// Read and open stored bytes as well: all, or this many percent of them
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, require_equals = true, default_missing_value = "100")]
    pub(crate) read_data: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Repair {
    /// Folders and files to search for what was lost, beside the places where snapshots had it
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Only say what is damaged and could be healed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Read all stored bytes, or this many percent of them, to find what is damaged
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, require_equals = true, default_missing_value = "100")]
    pub(crate) read_data: Option<String>,
    /// Put snapshots into the trash that could not be made whole. Those that are held stay
    #[arg(long)]
    pub(crate) forget_damaged: bool,
    #[command(flatten)]
    pub(crate) codes: account::Codes,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Status {
    /// What the running mounts are doing instead: what is fetched, for which program, and why it waits; every second
    /// on a terminal, else once
    #[arg(long)]
    pub(crate) top: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Cache {
    /// Where it is, how much it holds and may take, and what is pinned
    Info,
    /// Empty it, but for what is pinned
    Clear,
    /// Fetch a tree and keep it: it opens without a network, until it is unpinned
    #[command(after_help = SNAPSHOT_HELP)]
    Pin(Pin),
    /// Let a pinned tree go
    #[command(after_help = SNAPSHOT_HELP)]
    Unpin(Unpin),
}

#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Pin {
    /// Snapshot, and the path of a folder or file in it
    #[arg(value_name = "S:PATH")]
    pub(crate) what: String,
    /// Disk that the cache may take from now on
    #[arg(long, value_name = "SIZE")]
    pub(crate) cache_size: Option<String>,
    /// Choose among this device's snapshots
    #[arg(long, value_name = "D")]
    pub(crate) device: Option<String>,
}

#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Unpin {
    /// Snapshot, and the path as it was pinned
    #[arg(value_name = "S:PATH")]
    pub(crate) what: String,
    /// Choose among this device's snapshots
    #[arg(long, value_name = "D")]
    pub(crate) device: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Completions {
    pub(crate) shell: clap_complete::Shell,
}
