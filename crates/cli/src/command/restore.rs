//! `restore`: copies files out, with everything the filesystem can hold.
use crate::args::{Overwrite, Restore};
use crate::error::{Failure, Kind, Outcome};
use crate::find::find;
use crate::lease::Lease;
use crate::output::{self, count, grouped, size, tell};
use crate::progress::Bar;
use crate::select::What;
use crate::wire::{Opened, Wire};
use backupengine_model::{Kind as NodeKind, TreePath, TreeReader};
use backupengine_restore::{
    Destination, Failure as FileFailure, Observer, RestoreConfig, RestoreError, RestoreReport, RestoreStats,
    Selection,
};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Instant;

/// Restores and prints what came of it.
///
/// # Errors
/// Whatever keeps anything from being restored; single files that fail are listed.
pub(crate) fn run(wire: &Wire, args: &Restore) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let whats = args.what.iter().map(|text| What::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let opened = wire.open_and_tell()?;
    let (selections, bytes) = selections(&opened, &whats, args.device.as_deref())?;
    // Given back at the end, however that comes.
    let _lease = Lease::of(&opened)?;
    let destination = match &args.to {
        Some(folder) => Destination::Into(folder.clone()),
        None => Destination::InPlace,
    };
    let config = RestoreConfig {
        overwrite: match args.overwrite {
            Overwrite::Never => backupengine_restore::Overwrite::Never,
            Overwrite::Changed => backupengine_restore::Overwrite::Changed,
            Overwrite::Always => backupengine_restore::Overwrite::Always,
        },
        verify: args.verify,
        sparse: args.sparse,
        ..RestoreConfig::default()
    };
    let watch = Watch { bar: Bar::start(&wire.global, bytes), json: wire.global.json, begun };
    let done = backupengine_restore::restore(
        &opened.vault,
        &opened.vault,
        &selections,
        &destination,
        &config,
        &wire.stop,
        &watch,
    );
    drop(watch);
    let report = done?;
    print(wire, &report, begun)?;
    Ok(if report.stats.errors > 0 { Outcome::Partial } else { Outcome::Done })
}

/// What to restore, and how many bytes that is where it is known without counting.
fn selections(
    opened: &Opened,
    whats: &[What],
    device: Option<&str>,
) -> Result<(Vec<Selection>, Option<u64>), Failure> {
    let list = opened.vault.list()?;
    let mut selections = Vec::new();
    let mut bytes = Some(0);
    for what in whats {
        let snapshot = what.choose(&list, device)?;
        let node = find(&opened.vault, snapshot, what)?;
        let more = if what.path.is_empty() {
            opened.vault.totals(snapshot.session).ok().map(|totals| totals.bytes)
        } else {
            Some(node.attributes.size).filter(|_| node.attributes.kind == NodeKind::File)
        };
        bytes = bytes.zip(more).map(|(sum, more)| sum + more);
        let path = TreePath::from_slashes(&what.path_bytes()).map_err(|e| Failure::new(Kind::Usage, e))?;
        selections.push(Selection { session: snapshot.session, path });
    }
    Ok((selections, bytes))
}

/// Shows how far it is.
struct Watch {
    bar: Bar,
    json: bool,
    begun: Instant,
}

impl Observer for Watch {
    fn progress(&self, stats: &RestoreStats, current: &Path) {
        if !self.bar.is_due() {
            return;
        }
        if self.json {
            let mut object = figures(stats, self.begun);
            object.insert("type".into(), "progress".into());
            output::put_path(&mut object, "current", current.as_os_str().as_encoded_bytes());
            // Whoever reads may go away; the restore goes on.
            drop(output::json(&object.into()));
            return;
        }
        let rate = stats.bytes_written as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        let files = count(stats.files_written + stats.files_unchanged, "file", "files");
        let text = format!("{files}, {} written ({}/s)", size(stats.bytes_written), size(rate as u64));
        self.bar.update(stats.bytes_written + stats.bytes_unchanged, text);
    }

    fn failure(&self, failure: &FileFailure) {
        if self.json {
            let mut object = Map::new();
            object.insert("type".into(), "failure".into());
            output::put_path(&mut object, "path", failure.path.as_os_str().as_encoded_bytes());
            object.insert("message".into(), failure.message.clone().into());
            drop(output::json(&object.into()));
        }
    }
}

fn figures(stats: &RestoreStats, begun: Instant) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |name: &str, value: u64| drop(object.insert(name.to_owned(), value.into()));
    put("files_written", stats.files_written);
    put("files_unchanged", stats.files_unchanged);
    put("files_skipped", stats.files_skipped);
    put("directories", stats.directories);
    put("specials", stats.specials);
    put("hard_links", stats.hard_links);
    put("bytes_written", stats.bytes_written);
    put("bytes_unchanged", stats.bytes_unchanged);
    put("bytes_verified", stats.bytes_verified);
    put("owners_refused", stats.owners_refused);
    put("xattrs_refused", stats.xattrs_refused);
    put("errors", stats.errors);
    object.insert("seconds".into(), json!((begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0));
    object
}

fn print(wire: &Wire, report: &RestoreReport, begun: Instant) -> Result<(), Failure> {
    let stats = &report.stats;
    if wire.global.json {
        let mut object = figures(stats, begun);
        object.insert("type".into(), "summary".into());
        return output::json(&object.into());
    }
    for failure in &report.failures {
        let path = output::shown_path(&failure.path);
        tell(format!("failed: {path}: {}", output::shown(failure.message.as_bytes())));
    }
    if stats.errors > report.failures.len() as u64 {
        tell(format!("and {} more", grouped(stats.errors - report.failures.len() as u64)));
    }
    if wire.global.quiet {
        return Ok(());
    }
    let (new, same, left) = (stats.files_written, stats.files_unchanged, stats.files_skipped);
    let (new, same, left) = (grouped(new), grouped(same), grouped(left));
    let folders = count(stats.directories, "folder", "folders");
    output::line(format!("files    {new} written, {same} there already, {left} left alone, in {folders}"))?;
    output::line(format!("written  {}", size(stats.bytes_written)))?;
    if stats.bytes_verified > 0 {
        output::line(format!("verified {}", size(stats.bytes_verified)))?;
    }
    output::line(format!("time     {:.2} s", begun.elapsed().as_secs_f64()))?;
    if stats.owners_refused > 0 {
        let names = count(stats.owners_refused, "name", "names");
        tell(format!("{names} belong to you now: only root may give files to others."));
    }
    if stats.xattrs_refused > 0 {
        let attributes = count(stats.xattrs_refused, "attribute", "attributes");
        tell(format!("{attributes} of the system were not set: only root may."));
    }
    if stats.errors > 0 {
        tell(format!("{} failed; run it again to try them again.", count(stats.errors, "name", "names")));
    }
    Ok(())
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Interrupted => Self::new(Kind::Interrupted, error)
                .hint("run the same restore again: what is there already is not written twice"),
            RestoreError::Read(read) => read.into(),
            RestoreError::Target { ref source, .. } => {
                let denied = source.kind() == std::io::ErrorKind::PermissionDenied;
                let kind = if denied { Kind::Denied } else { Kind::Failed };
                Self::new(kind, error).hint("give a folder that you may write to")
            }
            RestoreError::Full { .. } => Self::new(Kind::Failed, error)
                .hint("make room there, or give another folder, and run it again"),
            RestoreError::SameName { .. } => {
                Self::new(Kind::Usage, error).hint("restore them one after the other into two folders")
            }
            RestoreError::NotFound { .. } => {
                Self::new(Kind::Failed, error).hint("`backupengine ls` shows what a snapshot holds")
            }
            _ => Self::new(Kind::Failed, error),
        }
    }
}
