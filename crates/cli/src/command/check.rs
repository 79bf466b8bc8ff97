//! `check`: is everything there that the snapshots need, and is it what it was?
use crate::args::Check;
use crate::error::{Failure, Kind, Outcome};
use crate::keychain::random;
use crate::output::{self, count, size, tell};
use crate::progress::Bar;
use crate::wire::{Blocks, How, Opened, Wire};
use backupengine_maintain::{
    Affected, CheckConfig, CheckError, CheckObserver, CheckReport, CheckStats, Finding, Object, Phase,
    ReadData, check,
};
use backupengine_push::note_lost;
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Paths of one finding that people are shown; programs get all.
const SHOWN: usize = 20;

/// Checks and lists what is not as it should be.
///
/// # Errors
/// When the vault does not open, or cannot be reached.
pub(crate) fn run(wire: &Wire, args: &Check) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let read_data = args.read_data.as_deref().map(read_data).transpose()?;
    // What is stored is looked at, not what this device kept of it.
    let opened = wire.open_how(&How { blocks: Blocks::None, past_damage: true, ..How::default() })?;
    opened.refuse_checking_with_older_keys()?;
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let passphrase = opened.online.is_none();
    let config = CheckConfig { read_data, threads, passphrase };
    let watch = Watch { bar: Bar::start(&wire.global, Some(0)), json: wire.global.json, begun };
    let done = check(&opened.vault, &config, &wire.stop, &watch);
    drop(watch);
    let report = done?;
    remember_lost(wire, &opened, &report, read_data);
    print(wire, &report, read_data, begun)?;
    Ok(if report.findings.is_empty() { Outcome::Done } else { Outcome::Partial })
}

/// Has the next push of this device take nothing for stored that is lost.
pub(super) fn remember_lost(wire: &Wire, opened: &Opened, report: &CheckReport, read_data: Option<ReadData>) {
    let lost = report.findings.iter().filter_map(|finding| match finding.object {
        Object::Pack(session, number) => Some((session, number, None)),
        Object::Frame { session, number, offset } => Some((session, number, Some(offset))),
        _ => None,
    });
    let vault = opened.vault.keyring().vault();
    let all_read = read_data.is_some_and(|read| read.percent == 100);
    if let Err(error) = note_lost(&wire.push_state(vault), vault, lost, all_read) {
        tracing::warn!(%error, "what is lost cannot be remembered for the next push");
    }
}

pub(super) fn read_data(text: &str) -> Result<ReadData, Failure> {
    let percent = text.trim_end_matches('%').parse().ok().filter(|p| (1..=100).contains(p));
    let percent = percent.ok_or_else(|| {
        Failure::usage(format!("--read-data={text} is no share"))
            .hint("give 1 to 100, or --read-data alone for all")
    })?;
    Ok(ReadData { percent, seed: u64::from_le_bytes(random()?) })
}

/// Shows how far it is.
pub(super) struct Watch {
    pub(super) bar: Bar,
    pub(super) json: bool,
    pub(super) begun: Instant,
}

impl CheckObserver for Watch {
    fn progress(&self, phase: Phase, stats: &CheckStats) {
        if !self.bar.is_due() {
            return;
        }
        if self.json {
            let mut object = figures(stats, self.begun);
            object.insert("type".into(), "progress".into());
            object.insert("phase".into(), phase_name(phase).into());
            // Whoever reads may go away; the check goes on.
            drop(output::json(&object.into()));
            return;
        }
        let (done, total, text) = match phase {
            Phase::Roots => (0, stats.snapshots_total, "roots".to_owned()),
            Phase::Packs => (stats.packs, stats.packs_total, "packs".to_owned()),
            Phase::Data => {
                let rate = stats.bytes_read as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
                (stats.bytes_read, stats.bytes_to_read, format!("data ({}/s)", size(rate as u64)))
            }
            Phase::Trees => (stats.snapshots, stats.snapshots_total, "trees".to_owned()),
        };
        self.bar.set_total(total);
        self.bar.update(done, text);
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Roots => "roots",
        Phase::Packs => "packs",
        Phase::Data => "data",
        Phase::Trees => "trees",
    }
}

fn line(finding: &Finding) -> String {
    format!("{}: {}: {}", finding.problem, finding.object, output::shown(finding.detail.as_bytes()))
}

fn figures(stats: &CheckStats, begun: Instant) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |name: &str, value: u64| drop(object.insert(name.to_owned(), value.into()));
    put("snapshots", stats.snapshots);
    put("snapshots_total", stats.snapshots_total);
    put("packs", stats.packs);
    put("packs_total", stats.packs_total);
    put("pages", stats.pages);
    put("nodes", stats.nodes);
    put("frames_read", stats.frames_read);
    put("bytes_read", stats.bytes_read);
    put("bytes_to_read", stats.bytes_to_read);
    put("envelopes", stats.envelopes);
    put("unused", stats.unused);
    put("unused_bytes", stats.unused_bytes);
    put("findings", stats.findings);
    object.insert("seconds".into(), json!((begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0));
    object
}

pub(super) fn finding_object(finding: &Finding) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("type".into(), "finding".into());
    object.insert("object_kind".into(), finding.object.kind().into());
    object.insert("object".into(), finding.object.to_string().into());
    object.insert("problem".into(), finding.problem.as_str().into());
    object.insert("detail".into(), finding.detail.clone().into());
    object.insert("affected_nodes".into(), finding.affected_nodes.into());
    let affected: Vec<Value> = finding.affected.iter().map(|a| affected_object(a).into()).collect();
    object.insert("affected".into(), affected.into());
    object
}

fn affected_object(affected: &Affected) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("snapshot".into(), affected.snapshot.to_string().into());
    output::put_path(&mut object, "path", &affected.path);
    if let Some(to) = &affected.to {
        output::put_path(&mut object, "to", to);
    }
    object.insert("nodes".into(), affected.nodes.into());
    object
}

/// A finding with what it costs, for a person.
pub(super) fn print_finding(finding: &Finding) -> Result<(), Failure> {
    output::line(line(finding))?;
    for affected in finding.affected.iter().take(SHOWN) {
        output::line(format!("    {}", output::shown(affected.to_string().as_bytes())))?;
    }
    if finding.affected.len() > SHOWN {
        output::line(format!("    and {} more; --json lists them", finding.affected.len() - SHOWN))?;
    }
    Ok(())
}

fn print(
    wire: &Wire,
    report: &CheckReport,
    read_data: Option<ReadData>,
    begun: Instant,
) -> Result<(), Failure> {
    let stats = &report.stats;
    if wire.global.json {
        for finding in &report.findings {
            output::json(&finding_object(finding).into())?;
        }
        let mut object = figures(stats, begun);
        object.insert("type".into(), "summary".into());
        return output::json(&object.into());
    }
    for finding in &report.findings {
        print_finding(finding)?;
    }
    if wire.global.quiet {
        return Ok(());
    }
    let snapshots = count(stats.snapshots, "snapshot", "snapshots");
    let names = count(stats.nodes, "name", "names");
    let packs = count(stats.packs, "pack", "packs");
    output::line(format!("checked  {snapshots}, {packs}, {names}"))?;
    match read_data {
        Some(read) => output::line(format!("read     {} ({} %)", size(stats.bytes_read), read.percent))?,
        None => output::line("read     no stored bytes of files; --read-data reads them too")?,
    }
    if stats.unused > 0 {
        let blobs = count(stats.unused, "blob", "blobs");
        output::line(format!(
            "unused   {blobs}, {}, that no listed snapshot needs",
            size(stats.unused_bytes)
        ))?;
    }
    if report.findings.is_empty() {
        return output::line("no damage found");
    }
    let found = count(report.findings.len() as u64, "thing is", "things are");
    output::line(format!("{found} not as they should be"))?;
    tell("hint: everything that is not listed can still be restored");
    tell("hint: make it whole from what this device and its files still have: backupengine repair");
    Ok(())
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Interrupted => {
                Self::new(Kind::Interrupted, error).hint("run it again; it changes nothing")
            }
            CheckError::Overtaken => Self::new(Kind::InUse, error)
                .hint("run it again when no prune is running, on this device or another"),
            CheckError::Vault(vault) => vault.into(),
            _ => Self::new(Kind::Failed, error),
        }
    }
}
