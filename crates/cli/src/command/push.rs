//! `push`: backs up into a new snapshot.
use crate::args::Push;
use crate::command::suspicion;
use crate::error::{Failure, Outcome};
use crate::keychain::{fill, random};
use crate::output::{self, count, grouped, size, tell};
use crate::progress::Bar;
use crate::time;
use crate::wire::{How, MEMORY, Opened, Wire};
use backupengine_model::TreeReader;
use backupengine_push::{Device, Observer, PushConfig, PushReport, PushStats};
use backupengine_seal::{Certificate, DeviceKey, Role};
use backupengine_source::{Notice, NoticeKind, WalkConfig, own_mounts};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Pushes and prints what came of it; the snapshot's id last.
///
/// # Errors
/// Whatever keeps a snapshot from being made.
pub(crate) fn run(wire: &Wire, args: &Push) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let created = args.time.as_deref().map_or_else(|| Ok(time::now()), time::parse_time)?;
    let excludes = excludes(args)?;
    let how = How { memory: MEMORY, believe_later: !args.dry_run, ..How::default() };
    let mut opened = wire.open_how(&how)?;
    let walk = walk_config(wire, args, &opened, excludes)?;
    if !args.dry_run {
        opened.refuse_old_keys()?;
        wire.device(&mut opened)?;
    }
    let device_name = wire.device_name(args.device_name.as_deref());
    let canaries = suspicion::canaries(&wire.config.canaries, &args.canaries, &walk.roots)?;
    // How many there were takes a round trip or two: only for who looks at it.
    let expected = Bar::is_shown(&wire.global).then(|| expected_files(&opened, &device_name)).flatten();
    let refused = Mutex::new(None);
    let (bar, json) = (Bar::start(&wire.global, expected), wire.global.json);
    let watch = Watch { bar, json, begun, wire, opened: &opened, refused: &refused };
    let config = PushConfig {
        walk,
        device_name,
        tags: args.tags.clone(),
        canaries: canaries.clone(),
        created,
        state: wire.push_state(opened.vault.keyring().vault()),
        dry_run: args.dry_run,
        threads: 0,
    };
    let device = pushing_device(&opened)?;
    let done = backupengine_push::push(
        &opened.vault,
        opened.store.clone(),
        &device,
        config,
        &fill,
        &wire.stop,
        &watch,
    );
    drop(watch);
    if let Some(failure) = refused.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(failure);
    }
    let report = done?;
    if let (Some((session, _)), Some(root)) = (report.snapshot, report.root) {
        wire.raise_floor(opened.vault.keyring().vault(), device.key.id(), session, root)?;
    }
    if let Some(record) = report.record.clone().filter(|_| opened.online.is_some()) {
        wire.remember_own(opened.vault.keyring().vault(), record, report.stats.bytes_stored);
    }
    print(wire, &report, begun)?;
    suspicion::tell_of(&report, &canaries);
    Ok(if report.stats.errors > 0 { Outcome::Partial } else { Outcome::Done })
}

/// Who signs. A dry run on a device that is none of the vault's looks as one that never pushed; nothing is
/// signed then.
pub(crate) fn pushing_device(opened: &Opened) -> Result<Device, Failure> {
    if let Some(device) = &opened.device {
        return Ok(Device { key: device.signing_key(), certificate: device.certificate.clone() });
    }
    let key = DeviceKey::from_seed(random()?);
    let certificate = Certificate {
        vault: opened.vault.keyring().vault(),
        device_public: key.public(),
        role: Role::Reader,
        issued_secs: 0,
        issuer: None,
        signature: [0; 64],
    };
    Ok(Device { key, certificate })
}

fn excludes(args: &Push) -> Result<Vec<String>, Failure> {
    let mut patterns = Vec::new();
    for path in &args.exclude_files {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::io("read", path, e))?;
        patterns
            .extend(text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')).map(str::to_owned));
    }
    // The last that matches wins, so what was typed wins over what stands in files.
    patterns.extend(args.excludes.iter().cloned());
    Ok(patterns)
}

fn walk_config(
    wire: &Wire,
    args: &Push,
    opened: &Opened,
    excludes: Vec<String>,
) -> Result<WalkConfig, Failure> {
    let vault = opened.place.folder();
    let mounts = own_mounts().map_err(|e| Failure::io("read", Path::new("the list of mounts"), e))?;
    for path in &args.paths {
        if let Some(vault) = vault {
            refuse_inside(path, vault, "the vault itself")?;
        }
        for mount in &mounts {
            refuse_inside(path, &mount.path, "a mounted vault")?;
        }
        let is_link = path.symlink_metadata().is_ok_and(|m| m.is_symlink());
        if is_link && !path.as_os_str().as_encoded_bytes().ends_with(b"/") && path.is_dir() {
            let shown = output::shown_path(path);
            tell(format!("{shown} is a link and is stored as one; write {shown}/ for what it leads to."));
        }
    }
    Ok(WalkConfig {
        roots: args.paths.iter().map(|path| full_path(path)).collect::<Result<_, _>>()?,
        excludes,
        exclude_caches: args.exclude_caches,
        gitignore: args.gitignore,
        one_file_system: args.one_file_system,
        skip: vault
            .into_iter()
            .chain([&*wire.places.state, &*wire.places.cache])
            .map(Path::to_owned)
            .collect(),
        skip_devices: mounts.iter().map(|mount| mount.device).collect(),
        threads: 0,
    })
}

/// The path as it stands in the snapshot: links among its parents resolved, and its last name too where a slash
/// at its end says so.
pub(crate) fn full_path(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |e| Failure::io("find", path, e).hint("check the path; nothing was stored");
    let bytes = path.as_os_str().as_encoded_bytes();
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !bytes.ends_with(b"/") && !bytes.ends_with(b"/.") => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            Ok(parent.canonicalize().map_err(failed)?.join(name))
        }
        _ => path.canonicalize().map_err(failed),
    }
}

/// A backup of the backup would grow with every push.
pub(super) fn refuse_inside(path: &Path, place: &Path, what: &str) -> Result<(), Failure> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    // A dead mount cannot be asked for its real path; its own name is real already.
    if real(path).starts_with(place) || real(path).starts_with(real(place)) {
        return Err(Failure::usage(format!("{} lies in {what}", path.display()))
            .hint("push the folder you want to keep, not its backup"));
    }
    Ok(())
}

/// How many names the newest snapshot of this device holds: about what this one will.
fn expected_files(opened: &Opened, device_name: &str) -> Option<u64> {
    let list = opened.vault.list().ok()?;
    let last = list.iter().rev().find(|snapshot| snapshot.device_name == device_name)?;
    let totals = opened.vault.totals(last.session).ok()?;
    Some(totals.files + totals.directories).filter(|files| *files > 0)
}

/// Shows how far it is, and says whether the vault is believed.
struct Watch<'a> {
    bar: Bar,
    json: bool,
    begun: Instant,
    wire: &'a Wire,
    opened: &'a Opened,
    /// Why it is not.
    refused: &'a Mutex<Option<Failure>>,
}

impl Observer for Watch<'_> {
    fn believes(&self) -> bool {
        let refused = self.wire.believe(self.opened).err();
        let believed = refused.is_none();
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        believed
    }

    fn progress(&self, stats: &PushStats, current: &Path) {
        let names = stats.files_new + stats.files_changed + stats.files_unmodified + stats.directories;
        if self.json {
            let mut object = figures(stats, self.begun);
            object.insert("type".into(), "progress".into());
            output::put_path(&mut object, "current", current.as_os_str().as_encoded_bytes());
            // Whoever reads may go away; the push goes on.
            drop(output::json(&object.into()));
            return;
        }
        let rate = stats.bytes_read as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        let text = format!(
            "{}, {} read ({}/s), {} stored",
            count(names, "name", "names"),
            size(stats.bytes_read),
            size(rate as u64),
            size(stats.bytes_stored),
        );
        self.bar.update(names, text);
    }

    fn notice(&self, notice: &Notice) {
        if self.json {
            let mut object = Map::new();
            object.insert("type".into(), "notice".into());
            object.insert("kind".into(), kind_name(notice.kind).into());
            output::put_path(&mut object, "path", notice.path.as_os_str().as_encoded_bytes());
            object.insert("message".into(), notice.message.clone().into());
            drop(output::json(&object.into()));
        }
    }
}

fn kind_name(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::Unreadable => "unreadable",
        NoticeKind::Vanished => "vanished",
        NoticeKind::Torn => "torn",
        NoticeKind::Skipped => "skipped",
        NoticeKind::Excluded => "excluded",
    }
}

fn figures(stats: &PushStats, begun: Instant) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |name: &str, value: u64| drop(object.insert(name.to_owned(), value.into()));
    put("files_new", stats.files_new);
    put("files_changed", stats.files_changed);
    put("files_unmodified", stats.files_unmodified);
    put("directories", stats.directories);
    put("bytes_read", stats.bytes_read);
    put("bytes_new", stats.bytes_new);
    put("bytes_stored", stats.bytes_stored);
    put("chunks_new", stats.chunks_new);
    put("chunks_reused", stats.chunks_reused);
    put("errors", stats.errors);
    put("skipped", stats.skipped);
    put("excluded", stats.excluded);
    object.insert("seconds".into(), json!((begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0));
    object
}

fn print(wire: &Wire, report: &PushReport, begun: Instant) -> Result<(), Failure> {
    let stats = &report.stats;
    let id = report.snapshot.map(|(_, id)| id.to_string());
    if wire.global.json {
        let mut object = figures(stats, begun);
        object.insert("type".into(), "summary".into());
        object.insert("dry_run".into(), id.is_none().into());
        object.insert("snapshot".into(), id.into());
        object.insert("signals".into(), report.signals.iter().map(suspicion::object).collect());
        object.insert("held".into(), report.held.map(|id| id.to_string()).into());
        return output::json(&object.into());
    }
    for notice in &report.notices {
        if notice.kind == NoticeKind::Unreadable || !wire.global.quiet {
            let path = output::shown_path(&notice.path);
            tell(format!("{}: {path}: {}", kind_name(notice.kind), output::shown(notice.message.as_bytes())));
        }
    }
    if !wire.global.quiet {
        let (new, changed, same) = (stats.files_new, stats.files_changed, stats.files_unmodified);
        let (new, changed, same) = (grouped(new), grouped(changed), grouped(same));
        let folders = count(stats.directories, "folder", "folders");
        output::line(format!("files   {new} new, {changed} changed, {same} unmodified, in {folders}"))?;
        output::line(format!("read    {}, of which {} new", size(stats.bytes_read), size(stats.bytes_new)))?;
        let (new, reused) = (grouped(stats.chunks_new), grouped(stats.chunks_reused));
        output::line(format!("stored  {} ({new} chunks new, {reused} reused)", size(stats.bytes_stored)))?;
        output::line(format!("time    {:.2} s", begun.elapsed().as_secs_f64()))?;
    }
    if stats.errors > 0 {
        let what = count(stats.errors, "file or folder", "files or folders");
        tell(format!("{what} could not be read; the snapshot holds everything else."));
    }
    match id {
        Some(id) if wire.global.quiet => output::line(id),
        Some(id) => output::line(format!("snapshot {id}")),
        None => output::line("nothing was stored: this was a dry run"),
    }
}
