//! `hold` and `unhold`: snapshots that nobody may remove.
use crate::account::CodeSource;
use crate::args::Hold;
use crate::error::{Failure, Outcome};
use crate::keeping::All;
use crate::output;
use crate::wire::{MEMORY, Wire};
use backupengine_maintain::keep::KeepError;
use backupengine_model::SessionNo;
use serde_json::{Value, json};

/// Holds snapshots, or lets them go.
///
/// # Errors
/// No such snapshot; what the ledger says.
pub(crate) fn run(wire: &Wire, args: &Hold, hold: bool) -> Result<Outcome, Failure> {
    let codes = CodeSource::new(wire, args.codes.totp_command.as_deref());
    let mut opened = wire.open(MEMORY)?;
    let named = All::of(&opened)?.named(&args.snapshots, args.device.as_deref(), true)?;
    let sessions: Vec<SessionNo> = named.iter().map(|info| info.session).collect();
    opened.decide(&codes, |vault, keeper, _| {
        vault.ask(keeper.hold(&sessions, hold)).map_err(KeepError::from)
    })?;
    if wire.global.json {
        let all: Vec<Value> =
            named.iter().map(|info| json!({"id": info.id.to_string(), "held": hold})).collect();
        return output::json(&all.into()).map(|()| Outcome::Done);
    }
    for info in &named {
        let what = if hold { "is held against removal" } else { "is held no more" };
        output::line(format!("{} {what}.", info.id))?;
    }
    Ok(Outcome::Done)
}
