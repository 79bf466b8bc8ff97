//! `forget`: into the trash what was named, or what no rule keeps; and back.
use crate::account::CodeSource;
use crate::args::{Forget, Rules};
use crate::command::snapshots::{holds, object, path_of};
use crate::error::{Failure, Kind, Outcome};
use crate::floor;
use crate::keeping::All;
use crate::output;
use crate::time;
use crate::wire::{MEMORY, Opened, Wire};
use backupengine_maintain::keep;
use backupengine_maintain::retention::{self, Candidate, Count, Group, Policy, Reason, Verdict};
use backupengine_model::{SessionNo, SnapshotInfo, Timestamp};
use backupengine_vault::Floor;
use serde_json::{Value, json};

/// Does what was asked.
///
/// # Errors
/// Bad usage; a policy that would keep nothing; what is held; what the ledger says.
pub(crate) fn run(wire: &Wire, args: &Forget) -> Result<Outcome, Failure> {
    let policy = policy(&args.rules)?;
    let named = !args.snapshots.is_empty();
    if named && (!policy.is_empty() || args.tag.is_some() || args.path.is_some()) {
        return Err(Failure::usage("snapshots were named, and rules or filters given as well")
            .hint("name the snapshots that go, or say by rules what stays"));
    }
    if !named && policy.is_empty() {
        return Err(Failure::usage("nothing says what is to go")
            .hint("name snapshots, or give a rule, such as --keep-last 10 or --keep-daily 7"));
    }
    let codes = CodeSource::new(wire, args.codes.totp_command.as_deref());
    let mut opened = wire.open(MEMORY)?;
    if !args.dry_run {
        // What older keys do not open has no name and no source: rules would judge it wrongly.
        opened.refuse_old_keys()?;
    }
    let all = All::of(&opened)?;
    if args.undo {
        return undo(wire, args, &mut opened, &all, &codes);
    }
    let plan = if named { by_name(args, &all)? } else { by_rules(args, &all, &policy)? };
    let sessions: Vec<SessionNo> = plan.goes().map(|info| info.session).collect();
    if !args.dry_run && !sessions.is_empty() {
        opened.decide(&codes, |vault, keeper, salt| keep::forget(vault, keeper, &sessions, salt))?;
        if sessions.len() == all.live().count() {
            // No snapshot is left whose label could say what was forgotten: this device remembers by itself.
            let vault = opened.vault.keyring().vault();
            floor::save(&floor::path(&wire.places.state, vault), &Floor::default(), true)?;
        }
    }
    let after = if args.dry_run || sessions.is_empty() { all } else { All::of(&opened)? };
    if wire.global.json {
        plan.json(args.dry_run, &after)?
    } else {
        plan.print(wire, args.dry_run, &after)?
    }
    Ok(Outcome::Done)
}

/// What stays and what goes: of each group, or of what was named.
struct Plan {
    groups: Vec<Group>,
    named: Vec<SnapshotInfo>,
}

impl Plan {
    fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.groups.iter().flat_map(|group| &group.verdicts)
    }

    fn goes(&self) -> impl Iterator<Item = &SnapshotInfo> {
        let judged = self.verdicts().filter(|verdict| !verdict.stays()).map(|verdict| &verdict.snapshot);
        judged.chain(&self.named)
    }

    fn json(&self, dry_run: bool, after: &All) -> Result<(), Failure> {
        let kept: Vec<Value> = self
            .verdicts()
            .filter(|verdict| verdict.stays())
            .map(|verdict| {
                let mut object = object(&verdict.snapshot);
                let reasons: Vec<String> = verdict.reasons.iter().map(Reason::to_string).collect();
                object.insert("reasons".into(), reasons.into());
                object.into()
            })
            .collect();
        let forgotten: Vec<Value> = self
            .goes()
            .map(|info| {
                let mut object = object(info);
                let until = until(after, info.session).map(time::rfc3339);
                object.insert("purge_after".into(), until.into());
                object.into()
            })
            .collect();
        output::json(&json!({"dry_run": dry_run, "kept": kept, "forgotten": forgotten}))
    }

    fn print(&self, wire: &Wire, dry_run: bool, after: &All) -> Result<(), Failure> {
        let goes = if dry_run { "would go" } else { "trash" };
        for group in &self.groups {
            if !wire.global.quiet {
                let sources: Vec<_> = group.sources.iter().map(|path| output::shown(path)).collect();
                output::line(format!(
                    "{}: {}",
                    output::shown(group.device_name.as_bytes()),
                    sources.join(" ")
                ))?;
            }
            for Verdict { snapshot, reasons } in &group.verdicts {
                let reasons: Vec<String> = reasons.iter().map(Reason::to_string).collect();
                let reasons = reasons.join(", ");
                let what = if reasons.is_empty() { goes } else { "stays" };
                row(what, snapshot, output::shown(reasons.as_bytes()).as_ref())?;
            }
        }
        for info in &self.named {
            let sources: Vec<_> = info.sources.iter().map(|path| output::shown(path)).collect();
            row(
                goes,
                info,
                &format!("{}  {}", output::shown(info.device_name.as_bytes()), sources.join(" ")),
            )?;
        }
        if wire.global.quiet {
            return Ok(());
        }
        let number = self.goes().count() as u64;
        let stays = self.verdicts().filter(|verdict| verdict.stays()).count() as u64;
        let stays = if self.groups.is_empty() {
            String::new()
        } else {
            format!("{}, ", told(stays, "stays", "stay"))
        };
        if dry_run {
            return output::line(format!(
                "{stays}{} into the trash. Nothing was changed.",
                told(number, "would go", "would go")
            ));
        }
        let last = self.goes().filter_map(|info| until(after, info.session)).min();
        match last {
            Some(last) => output::line(format!(
                "{stays}{} into the trash; until {} `backupengine forget --undo S` brings {} back.",
                told(number, "went", "went"),
                time::local(last),
                if number == 1 { "it" } else { "them" },
            )),
            None => output::line(format!("{stays}nothing goes.")),
        }
    }
}

fn told(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", output::count(number, "snapshot", "snapshots"), if number == 1 { one } else { many })
}

fn row(what: &str, info: &SnapshotInfo, rest: &str) -> Result<(), Failure> {
    let line = format!("  {what:8}  {}  {}  {rest}", info.id, time::local(info.created));
    output::line(line.trim_end())
}

/// Until when it can be brought back.
fn until(after: &All, session: SessionNo) -> Option<Timestamp> {
    after.find(session)?.kept.purge_after
}

fn by_name(args: &Forget, all: &All) -> Result<Plan, Failure> {
    let named = all.named(&args.snapshots, args.device.as_deref(), false)?;
    if let Some(held) = named.iter().find(|info| all.is_held(info.session)) {
        return Err(Failure::new(Kind::Failed, format!("the snapshot {} is held against removal", held.id))
            .hint(format!("if it really is to go, let it go first: backupengine unhold {}", held.id))
            .hint("nothing was changed"));
    }
    Ok(Plan { groups: Vec::new(), named })
}

fn by_rules(args: &Forget, all: &All, policy: &Policy) -> Result<Plan, Failure> {
    let wanted = args.path.as_deref().map(path_of);
    let candidates: Vec<Candidate> = all
        .live()
        .filter(|one| args.device.as_ref().is_none_or(|device| one.info.device_name == *device))
        .filter(|one| args.tag.as_ref().is_none_or(|tag| one.info.tags.contains(tag)))
        .filter(|one| {
            wanted.as_deref().is_none_or(|path| one.info.sources.iter().any(|source| holds(source, path)))
        })
        .map(|one| Candidate { snapshot: one.info.clone(), held: one.kept.held })
        .collect();
    let groups = retention::apply(&candidates, policy, time::now(), &time::zone()).map_err(|error| {
        let failure = Failure::new(Kind::Usage, error);
        failure.hint("nothing was changed; add a rule that keeps something, such as --keep-last 1")
    })?;
    Ok(Plan { groups, named: Vec::new() })
}

fn policy(rules: &Rules) -> Result<Policy, Failure> {
    let within = rules.keep_within.as_deref().map(|text| {
        time::duration(text).ok_or_else(|| {
            let failure = Failure::usage(format!("{text:?} is no duration"));
            if text.ends_with('m') {
                return failure.hint("m may be minutes or months: write min or mo");
            }
            failure.hint("write it like 36h, 30d, 2w, 6mo, 1y or 1y6mo")
        })
    });
    let policy = Policy {
        last: count(rules.keep_last.as_deref(), "last")?,
        hourly: count(rules.keep_hourly.as_deref(), "hourly")?,
        daily: count(rules.keep_daily.as_deref(), "daily")?,
        weekly: count(rules.keep_weekly.as_deref(), "weekly")?,
        monthly: count(rules.keep_monthly.as_deref(), "monthly")?,
        yearly: count(rules.keep_yearly.as_deref(), "yearly")?,
        within: within.transpose()?,
        tags: rules.keep_tags.clone(),
    };
    Ok(policy)
}

fn count(text: Option<&str>, of: &str) -> Result<Count, Failure> {
    match text {
        None => Ok(Count::default()),
        Some("unlimited" | "-1") => Ok(Count::Unlimited),
        Some(text) => text.parse().map(Count::Last).map_err(|_| {
            Failure::usage(format!("--keep-{of} {text}: that is no number of snapshots"))
                .hint("give a number, or unlimited")
        }),
    }
}

fn undo(
    wire: &Wire,
    args: &Forget,
    opened: &mut Opened,
    all: &All,
    codes: &CodeSource<'_>,
) -> Result<Outcome, Failure> {
    let named = all.named_in_trash(&args.snapshots, args.device.as_deref())?;
    let sessions: Vec<SessionNo> = named.iter().map(|info| info.session).collect();
    if !args.dry_run {
        opened.decide(codes, |vault, keeper, salt| keep::bring_back(vault, keeper, &sessions, salt))?;
    }
    if wire.global.json {
        let restored: Vec<Value> = named.iter().map(|info| object(info).into()).collect();
        output::json(&json!({"dry_run": args.dry_run, "restored": restored}))?;
        return Ok(Outcome::Done);
    }
    let what = if args.dry_run { "would come back" } else { "is back" };
    for info in &named {
        row(what, info, "")?;
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_numbers_or_unlimited() {
        assert_eq!(count(None, "last").unwrap(), Count::Last(0));
        assert_eq!(count(Some("7"), "last").unwrap(), Count::Last(7));
        for text in ["unlimited", "-1"] {
            assert_eq!(count(Some(text), "last").unwrap(), Count::Unlimited);
        }
        for bad in ["", "x", "-2", "1.5", "99999999999"] {
            assert_eq!(count(Some(bad), "last").unwrap_err().kind, Kind::Usage, "{bad:?}");
        }
    }
}
