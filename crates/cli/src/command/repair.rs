//! `repair`: rebuilds what can be rebuilt, heals what was lost from what this device still has, lists what stays damaged.
use crate::account::CodeSource;
use crate::args::Repair;
use crate::command::check::{Watch, finding_object, print_finding, read_data, remember_lost};
use crate::command::push::{full_path, pushing_device, refuse_inside};
use crate::error::{Failure, Kind, Outcome};
use crate::floor;
use crate::keeping::All;
use crate::keychain::fill;
use crate::output::{self, count, size, tell};
use crate::progress::Bar;
use crate::wire::{Blocks, How, Opened, Wire};
use backupengine_maintain::{
    CheckConfig, CheckReport, Finding, HealStats, Object, ReadData, RebuiltLedger, RepairConfig, RepairError,
    RepairObserver, check, damaged_packs, damaged_roots, heal, keep, rebuild_ledger,
};
use backupengine_model::{DeviceId, SessionNo, SnapshotId};
use backupengine_push::{IndexState, LiveRemains, mend_index};
use backupengine_source::{WalkConfig, own_mounts};
use backupengine_store::FolderStore;
use backupengine_vault::Floor;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

/// Repairs.
///
/// # Errors
/// When the vault does not open or cannot be reached; what the store refuses.
pub(crate) fn run(wire: &Wire, args: &Repair) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let read_data = args.read_data.as_deref().map(read_data).transpose()?;
    let mut opened = open(wire)?;
    let search = search(wire, args, &opened)?;
    let mut done = Repaired { ledger: rebuilt(&opened, args)?, ..Repaired::default() };
    if !done.ledger.is_unchanged() && !args.dry_run {
        opened = open(wire)?;
    }
    let mut report = look(wire, &opened, read_data)?;
    done.found = report.findings.len() as u64;
    let mendable = !damaged_packs(&report.findings).is_empty() || !damaged_roots(&report.findings).is_empty();
    if mendable {
        done.healed = healed(wire, args, &mut opened, &report, search)?;
        if !args.dry_run {
            opened = open(wire)?;
            report = look(wire, &opened, read_data)?;
        }
    }
    if args.forget_damaged && !args.dry_run {
        forget(wire, args, &mut opened, &report, &mut done)?;
        if !done.forgotten.is_empty() {
            opened = open(wire)?;
            report = look(wire, &opened, read_data)?;
        }
    }
    if !args.dry_run {
        let keyring = opened.vault.keyring();
        done.index = mend_index(&wire.push_state(keyring.vault()), keyring);
        remember_lost(wire, &opened, &report, read_data);
    }
    done.print(wire, args, &opened, &report, begun)?;
    let would_be = args.dry_run && (done.found > 0 || !done.ledger.is_unchanged());
    Ok(if report.findings.is_empty() && !would_be { Outcome::Done } else { Outcome::Partial })
}

/// What came of it.
#[derive(Default)]
struct Repaired {
    ledger: RebuiltLedger,
    /// Findings before anything was healed.
    found: u64,
    healed: HealStats,
    index: IndexState,
    forgotten: Vec<SnapshotId>,
    /// Damaged, and not forgotten because they are held.
    held: Vec<SnapshotId>,
}

/// What is stored is looked at, not what this device kept of it; anew each time, past every cache.
fn open(wire: &Wire) -> Result<Opened, Failure> {
    let opened = wire.open_how(&How { blocks: Blocks::None, past_damage: true, ..How::default() })?;
    // What they do not open is not damaged.
    opened.refuse_checking_with_older_keys()?;
    Ok(opened)
}

/// Where to look for files that are not where they were.
fn search(wire: &Wire, args: &Repair, opened: &Opened) -> Result<WalkConfig, Failure> {
    let vault = opened.place.folder();
    let mounts = own_mounts().map_err(|e| Failure::io("read", Path::new("the list of mounts"), e))?;
    let mut roots = Vec::new();
    for path in &args.paths {
        if let Some(vault) = vault {
            refuse_inside(path, vault, "the vault itself")?;
        }
        for mount in &mounts {
            refuse_inside(path, &mount.path, "a mounted vault")?;
        }
        path.symlink_metadata().map_err(|e| Failure::io("find", path, e))?;
        roots.push(full_path(path)?);
    }
    let skip = vault.into_iter().chain([&*wire.places.state, &*wire.places.cache]);
    Ok(WalkConfig {
        roots,
        skip: skip.map(Path::to_owned).collect(),
        skip_devices: mounts.iter().map(|mount| mount.device).collect(),
        ..WalkConfig::default()
    })
}

/// A folder's ledger; an account's is the server's.
fn rebuilt(opened: &Opened, args: &Repair) -> Result<RebuiltLedger, Failure> {
    match opened.place.folder() {
        Some(folder) => Ok(rebuild_ledger(&opened.vault, &FolderStore::open(folder)?, &fill, args.dry_run)?),
        None => Ok(RebuiltLedger::default()),
    }
}

fn look(wire: &Wire, opened: &Opened, read_data: Option<ReadData>) -> Result<CheckReport, Failure> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let config = CheckConfig { read_data, threads, passphrase: opened.online.is_none() };
    let watch = Watch { bar: Bar::start(&wire.global, Some(0)), json: false, begun: Instant::now() };
    Ok(check(&opened.vault, &config, &wire.stop, &watch)?)
}

/// Shows how far it is.
struct Healing {
    bar: Bar,
}

impl RepairObserver for Healing {
    fn progress(&self, done: u64, stats: &HealStats) {
        if self.bar.is_due() {
            self.bar.set_total(stats.packs_damaged);
            self.bar.update(done, format!("healing packs ({} frames lost)", stats.frames_lost));
        }
    }
}

fn healed(
    wire: &Wire,
    args: &Repair,
    opened: &mut Opened,
    report: &CheckReport,
    search: WalkConfig,
) -> Result<HealStats, Failure> {
    let device = if args.dry_run {
        DeviceId([0; DeviceId::LEN])
    } else {
        wire.device(opened)?;
        pushing_device(opened)?.key.id()
    };
    let keyring = opened.vault.keyring();
    let remains = LiveRemains::open(&wire.push_state(keyring.vault()), keyring, search);
    let folder = opened.place.folder().map(FolderStore::open).transpose()?;
    let (folder, dry_run) = (folder.as_ref(), args.dry_run);
    let config = RepairConfig { device, remains: &remains, folder, dry_run };
    let watch = Healing { bar: Bar::start(&wire.global, Some(0)) };
    Ok(heal(&opened.vault, opened.upkeep()?, &report.findings, &config, &fill, &wire.stop, &watch)?)
}

/// Puts snapshots that are still harmed into the trash, but for those that are held.
fn forget(
    wire: &Wire,
    args: &Repair,
    opened: &mut Opened,
    report: &CheckReport,
    done: &mut Repaired,
) -> Result<(), Failure> {
    let harmed = harmed(&report.findings);
    let all = All::of(opened)?;
    let (mut goes, mut ids) = (Vec::new(), Vec::new());
    for one in all.live().filter(|one| harmed.contains(&one.info.session)) {
        if one.kept.held {
            done.held.push(one.info.id);
        } else {
            goes.push(one.info.session);
            ids.push(one.info.id);
        }
    }
    if goes.is_empty() {
        return Ok(());
    }
    let codes = CodeSource::new(wire, args.codes.totp_command.as_deref());
    opened.decide(&codes, |vault, keeper, salt| keep::forget(vault, keeper, &goes, salt))?;
    if goes.len() == all.live().count() {
        // As for `forget`: no snapshot is left whose label could say what was forgotten.
        let vault = opened.vault.keyring().vault();
        floor::save(&floor::path(&wire.places.state, vault), &Floor::default(), true)?;
    }
    done.forgotten = ids;
    Ok(())
}

/// Snapshots of which anything cannot be read or believed.
fn harmed(findings: &[Finding]) -> BTreeSet<SessionNo> {
    let named = findings.iter().filter_map(|finding| match finding.object {
        Object::Root(session) | Object::Snapshot(session) => Some(session),
        Object::Frame { session, number: u32::MAX, .. } => Some(session),
        _ => None,
    });
    let affected = findings.iter().flat_map(|finding| &finding.affected).map(|affected| affected.session);
    named.chain(affected).collect()
}

impl Repaired {
    fn print(
        &self,
        wire: &Wire,
        args: &Repair,
        opened: &Opened,
        report: &CheckReport,
        begun: Instant,
    ) -> Result<(), Failure> {
        if wire.global.json {
            for finding in &report.findings {
                output::json(&finding_object(finding).into())?;
            }
            return output::json(&self.summary(args, report, begun));
        }
        for finding in &report.findings {
            print_finding(finding)?;
        }
        if !wire.global.quiet {
            self.tell_done(args)?;
        }
        self.tell_left(args, opened, report)
    }

    fn summary(&self, args: &Repair, report: &CheckReport, begun: Instant) -> Value {
        let (healed, adopted) = (&self.healed, &self.ledger.adopted);
        let ids = |ids: &[SnapshotId]| ids.iter().map(SnapshotId::to_string).collect::<Vec<_>>();
        json!({
            "type": "summary",
            "dry_run": args.dry_run,
            "ledger_lost": self.ledger.was_lost,
            "sessions_adopted": adopted.sessions,
            "snapshots_adopted": adopted.snapshots,
            "packs_located": adopted.moved,
            "packs_damaged": healed.packs_damaged,
            "packs_healed": healed.packs_healed,
            "roots_restored": healed.roots_restored,
            "frames_salvaged": healed.frames_salvaged,
            "frames_kept": healed.frames_kept,
            "frames_from_files": healed.frames_from_files,
            "frames_lost": healed.frames_lost,
            "bytes_stored": healed.bytes_stored,
            "index_dropped": self.index == IndexState::Dropped,
            "forgotten": ids(&self.forgotten),
            "held": ids(&self.held),
            "findings_before": self.found,
            "findings": report.findings.len(),
            "seconds": (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        })
    }

    fn tell_done(&self, args: &Repair) -> Result<(), Failure> {
        let would = if args.dry_run { "would be " } else { "" };
        let adopted = &self.ledger.adopted;
        if !self.ledger.is_unchanged() {
            let snapshots = count(adopted.snapshots, "snapshot", "snapshots");
            let what = if self.ledger.was_lost {
                format!("{would}rebuilt from what is stored")
            } else {
                "was an older one".to_owned()
            };
            output::line(format!("ledger   {what}: {snapshots} {would}listed that it did not know"))?;
        }
        if self.ledger.was_lost {
            output::line(
                "         lost with it: what was in the trash is listed again, nothing is held any more,",
            )?;
            output::line("         and tags are those that `push` gave")?;
        }
        let healed = &self.healed;
        if healed.roots_restored > 0 {
            output::line(format!("roots    {} {would}restored", healed.roots_restored))?;
        }
        if healed.packs_healed > 0 {
            let packs = count(healed.packs_healed, "pack", "packs");
            output::line(format!(
                "healed   {packs}: {} {would}made again from files, {} from the vault itself, {} kept on this device ({})",
                count(healed.frames_from_files, "frame", "frames"),
                healed.frames_salvaged,
                count(healed.frames_kept, "page", "pages"),
                size(healed.bytes_stored),
            ))?;
        }
        if self.index == IndexState::Dropped {
            output::line("index    of this device was damaged and is dropped; the next push makes it anew")?;
        }
        for id in &self.forgotten {
            output::line(format!("trash    {id}"))?;
        }
        for id in &self.held {
            output::line(format!("held     {id} is damaged and stays: it is held"))?;
        }
        if !self.forgotten.is_empty() {
            tell("hint: what is in the trash comes back with `backupengine forget --undo`");
        }
        Ok(())
    }

    fn tell_left(&self, args: &Repair, opened: &Opened, report: &CheckReport) -> Result<(), Failure> {
        if args.dry_run {
            return output::line("Nothing was changed.");
        }
        if report.findings.is_empty() {
            return output::line("everything that was looked at is whole");
        }
        let left = count(report.findings.len() as u64, "thing is", "things are");
        output::line(format!("{left} still not as they should be; all else can be restored"))?;
        let has = |wanted: fn(&Object) -> bool| report.findings.iter().any(|f| wanted(&f.object));
        if has(|object| matches!(object, Object::Ledger)) && opened.online.is_some() {
            tell(
                "hint: the account's records are the server's: its operator rebuilds them from the bucket with `backupengine-server rebuild`",
            );
        }
        if has(|object| matches!(object, Object::Envelopes | Object::Envelope(_))) {
            tell(
                "hint: a key envelope is made from its secret alone; keep the one that still opens the vault safe",
            );
        }
        if !damaged_packs(&report.findings).is_empty() {
            if args.paths.is_empty() {
                tell("hint: name the folders where the lost files may be now: backupengine repair PATH…");
            }
            tell("hint: the next push stores what it still finds; older snapshots keep their gaps");
        }
        if !args.forget_damaged && !harmed(&report.findings).is_empty() {
            tell("hint: --forget-damaged puts the snapshots that are not whole into the trash");
        }
        Ok(())
    }
}

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::Interrupted => Self::new(Kind::Interrupted, error)
                .hint("run it again: nothing is worse than before, and what was written is used"),
            RepairError::Store(store) => store.into(),
            RepairError::Vault(vault) => vault.into(),
            RepairError::Write(write) => write.into(),
            _ => Self::new(Kind::Failed, error),
        }
    }
}
