//! `completions`: a script that lets a shell complete commands and flags.
use crate::args::{Args, Completions};
use crate::error::{Failure, Outcome};
use crate::output;
use clap::CommandFactory;

/// Prints the script; it is the result with `--json` as well.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn run(args: &Completions) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "backupengine", &mut script);
    output::print(&script)?;
    Ok(Outcome::Done)
}
