//! One file per command. Each takes what the wire puts together and prints what came of it.
//!
//! **What it may not do.** Write anywhere but stdout (results) and stderr (messages).
//! **What always holds.** The outcome says whether all was done; a failure says why not.
//! **Where it is tested.** `tests/cli`, a folder of cases.

mod approve;
mod cache;
mod cache_pin;
mod cat;
mod check;
mod completions;
mod device;
mod forget;
mod hold;
mod init;
mod init_account;
mod key;
mod key_recover;
mod key_rotate;
mod login;
mod logout;
mod ls;
mod mfa;
mod mount;
mod prune;
mod push;
mod repair;
mod restore;
mod signup;
mod snapshots;
mod status;
mod status_account;
mod suspicion;
mod tag;
mod top;
mod unmount;
mod version;
mod whoami;

use crate::args::Command;
use crate::error::{Failure, Outcome};
use crate::wire::Wire;

/// Runs a command.
///
/// # Errors
/// Whatever keeps it from doing what it was asked.
pub(crate) fn run(wire: &Wire, command: Command) -> Result<Outcome, Failure> {
    match command {
        Command::Init(args) => init::run(wire, &args),
        Command::Push(args) => push::run(wire, &args),
        Command::Unmount(args) => unmount::run(wire, &args),
        Command::Snapshots(args) => snapshots::run(wire, &args),
        Command::Ls(args) => ls::run(wire, &args),
        Command::Cat(args) => cat::run(wire, &args),
        Command::Status(args) if args.top => top::run(wire),
        Command::Status(_) => status::run(wire),
        Command::Cache(args) => cache::run(wire, &args),
        Command::Completions(args) => completions::run(&args),
        Command::Signup(args) => signup::run(wire, &args),
        Command::Login(args) => login::run(wire, &args),
        Command::Logout(args) => logout::run(wire, &args),
        Command::Whoami => whoami::run(wire),
        Command::Mfa(args) => mfa::run(wire, &args),
        Command::Key(args) => key::run(wire, &args),
        Command::Device(args) => device::run(wire, &args),
        Command::Version => version::run(wire),
        Command::Mount(args) => mount::run(wire, &args),
        Command::Restore(args) => restore::run(wire, &args),
        Command::Prune(args) => prune::run(wire, &args),
        Command::Check(args) => check::run(wire, &args),
        Command::Repair(args) => repair::run(wire, &args),
        Command::Forget(args) => forget::run(wire, &args),
        Command::Tag(args) => tag::run(wire, &args),
        Command::Hold(args) => hold::run(wire, &args, true),
        Command::Unhold(args) => hold::run(wire, &args, false),
    }
}
