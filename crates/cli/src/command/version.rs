//! `version`: what this program is and which vaults it reads.
use crate::error::{Failure, Outcome};
use crate::output;
use crate::wire::Wire;
use serde_json::json;

/// The version of the vault format this program writes; it reads this one and all before.
const FORMAT: u32 = 1;

/// Prints it.
///
/// # Errors
/// When stdout is closed.
pub(crate) fn run(wire: &Wire) -> Result<Outcome, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if wire.global.json {
        output::json(&json!({ "version": version, "format": FORMAT }))?;
    } else {
        output::line(format!("backupengine {version} (vault format {FORMAT})"))?;
    }
    Ok(Outcome::Done)
}
