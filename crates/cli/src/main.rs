//! `backupengine`: the program a person with files uses. Wires the crates together and talks to people.
//!
//! **What it is.** Arguments, config, secrets, messages, exit status; a file per command.
//!
//! **What it may not do.** Hold logic: what a push, a mount or a check is stands in the crates below.
//!
//! **What always holds.** stdout carries results, stderr everything else; every failure says what to do next; a
//! signal leaves the vault sound; no secret is printed, logged or taken as an argument.
//!
//! **Where it is tested.** `tests/cli`, against the built program; the modules here have their own tests.
// All but one call to the allocator, see there.
#![deny(unsafe_code)]

mod account;
mod allocator;
mod args;
mod background;
mod cache;
mod command;
mod config;
mod doing;
mod error;
mod find;
mod floor;
mod keeping;
mod keychain;
mod lease;
mod log;
mod mounts;
mod output;
mod pace;
mod pins;
mod place;
mod progress;
mod refusal;
mod secret;
mod secrets;
mod seen;
mod select;
mod telling;
mod time;
mod wire;

use args::{Args, Command};
use clap::Parser;
use error::{Failure, Kind, Outcome};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn main() -> ExitCode {
    allocator::keep_little();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are results; the rest is bad usage and goes to stderr with clap's own hint.
            let status = if error.use_stderr() { Kind::Usage as u8 } else { 0 };
            drop(error.print());
            return ExitCode::from(status);
        }
    };
    let json = args.global.json;
    match run(args) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Partial) => ExitCode::from(Kind::Partial as u8),
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure, json);
            ExitCode::from(failure.kind as u8)
        }
    }
}

fn run(args: Args) -> Result<Outcome, Failure> {
    log::start(&args.global)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), command = args.command.name(), "begun");
    let stop = Arc::new(AtomicBool::new(false));
    if !matches!(args.command, Command::Mount(_)) {
        stop_on_signals(&stop)?;
    }
    let places = config::Places::find()?;
    let config = config::Config::load(&places.config)?;
    let wire = wire::Wire { global: args.global, places, config, stop };
    command::run(&wire, args.command)
}

/// The first signal asks to stop, the second does not ask.
fn stop_on_signals(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let status = Kind::Interrupted as i32;
        signal_hook::flag::register_conditional_shutdown(signal, status, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|e| Failure::new(Kind::Failed, e).while_doing("signals cannot be watched"))?;
    }
    Ok(())
}

fn report(failure: &Failure, json: bool) {
    if json {
        let value = serde_json::json!({
            "type": "error",
            "kind": failure.kind.name(),
            "message": failure.message(),
            "hints": failure.advice(),
        });
        output::tell(value.to_string());
        return;
    }
    output::tell(format!("backupengine: {}", output::shown(failure.message().as_bytes())));
    for hint in failure.advice() {
        output::tell(format!("hint: {hint}"));
    }
}
