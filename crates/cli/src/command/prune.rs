//! `prune`: gives back the space of what no snapshot needs any more.
use crate::args::Prune;
use crate::command::push::pushing_device;
use crate::error::{Failure, Kind, Outcome};
use crate::keychain::fill;
use crate::output::{self, count, size, tell};
use crate::time;
use crate::wire::{MEMORY, Wire};
use backupengine_maintain::{PruneConfig, PruneError, PruneReport, prune, prune_dry};
use backupengine_model::ledger::Haste;
use backupengine_vault::VaultError;
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Prunes, or says what would come back.
///
/// # Errors
/// A snapshot that does not read; what the ledger says.
pub(crate) fn run(wire: &Wire, args: &Prune) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let mut opened = wire.open(MEMORY)?;
    if args.now && opened.online.is_some() {
        return Err(Failure::usage("an account keeps its trash and what was given up by the server's clock")
            .hint("leave --now out: space comes back when the time is over"));
    }
    // What an older key does not open nobody can say the needs of; and copies are sealed under the newest.
    opened.refuse_old_keys()?;
    let haste = if args.now { Haste::Now } else { Haste::Wait };
    let config = PruneConfig { haste, ..PruneConfig::default() };
    let report = if args.dry_run {
        prune_dry(&opened.vault, opened.upkeep()?, &config, time::now())?
    } else {
        wire.device(&mut opened)?;
        let device = pushing_device(&opened)?.key.id();
        prune(&opened.vault, opened.upkeep()?, device, &config, &fill)?
    };
    if wire.global.json {
        let mut object = object(&report);
        object.insert("dry_run".into(), args.dry_run.into());
        object.insert("no_room".into(), report.full.into());
        object.insert("alarm".into(), report.is_mass().into());
        object.insert("seconds".into(), json!((begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0));
        output::json(&object.into())?;
    } else if !wire.global.quiet {
        print(&report, args)?;
    }
    if report.is_mass() {
        tell(format!(
            "WARNING: {} of {} that are stored {} given up at once. Where nobody forgot that much, look who did: \
             `backupengine snapshots --trash`",
            size(report.retired.1),
            size(report.stored),
            if args.dry_run { "would be" } else { "were" },
        ));
    }
    Ok(Outcome::Done)
}

fn object(report: &PruneReport) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |name: &str, value: u64| drop(object.insert(name.to_owned(), value.into()));
    put("snapshots", report.snapshots);
    put("bytes_stored", report.stored);
    put("packs_revived", report.revived.0);
    put("bytes_revived", report.revived.1);
    put("packs_retired", report.retired.0);
    put("bytes_retired", report.retired.1);
    put("packs_moved", report.moved.0);
    put("bytes_moved", report.moved.1);
    put("bytes_copied", report.moved.2);
    put("packs_deleted", report.deleted.0);
    put("bytes_deleted", report.deleted.1);
    put("packs_waiting", report.waiting.0);
    put("bytes_waiting", report.waiting.1);
    object
}

fn print(report: &PruneReport, args: &Prune) -> Result<(), Failure> {
    let packs = |(packs, bytes): (u64, u64)| format!("{} ({})", count(packs, "pack", "packs"), size(bytes));
    let would = if args.dry_run { "would be " } else { "" };
    let moved = report.moved;
    if report.revived.0 > 0 {
        output::line(format!(
            "{} {would}brought back: somebody had given them up, and snapshots need them.",
            packs(report.revived)
        ))?;
    }
    if report.retired.0 > 0 {
        output::line(format!("{} {would}given up: no snapshot needs them.", packs(report.retired)))?;
    }
    if moved.0 > 0 {
        let copies = size(moved.2);
        output::line(format!(
            "{} {would}replaced by {copies} that are needed of them.",
            packs((moved.0, moved.1))
        ))?;
    }
    if report.deleted.0 > 0 {
        output::line(format!("{} deleted.", packs(report.deleted)))?;
    }
    if report.waiting.0 > 0 {
        let now = if args.now { "" } else { ", or with --now in a folder" };
        output::line(format!(
            "{} wait: they go three days after they were given up, when every push that was open then has ended{now}.",
            packs(report.waiting)
        ))?;
    }
    if report.full {
        output::line(
            "There was no room to copy what little is needed of some packs: run it again when there is.",
        )?;
    } else if (report.retired.0, moved.0, report.deleted.0, report.waiting.0) == (0, 0, 0, 0) {
        output::line(format!(
            "Nothing to give back: {} need all of it.",
            count(report.snapshots, "snapshot", "snapshots")
        ))?;
    }
    Ok(())
}

impl From<PruneError> for Failure {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Store(store) => store.into(),
            PruneError::Vault(vault) => vault.into(),
            // Rotated while this ran.
            PruneError::Unreadable { source: source @ VaultError::UnknownEpoch { .. }, .. } => {
                Self::from(source)
                    .while_doing("nothing was given up")
                    .hint("run it again, with the newer keys")
            }
            PruneError::Unreadable { .. } => Self::new(Kind::Failed, error).hint(
                "`backupengine check` says what is damaged; forget that snapshot if it cannot be mended",
            ),
            _ => Self::new(Kind::Failed, error),
        }
    }
}
