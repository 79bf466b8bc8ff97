//! `snapshots`: lists what there is, or what is in the trash, newest last.
use crate::args::Snapshots;
use crate::error::{Failure, Outcome};
use crate::keeping::All;
use crate::output;
use crate::time;
use crate::wire::{MEMORY, Wire};
use backupengine_model::SnapshotInfo;
use serde_json::{Map, Value};
use std::path::Path;

/// Prints the list.
///
/// # Errors
/// When the vault does not open.
pub(crate) fn run(wire: &Wire, args: &Snapshots) -> Result<Outcome, Failure> {
    let opened = wire.open(MEMORY)?;
    let wanted = args.path.as_deref().map(path_of);
    let fits = |s: &SnapshotInfo| {
        args.device.as_ref().is_none_or(|device| s.device_name == *device)
            && args.tag.as_ref().is_none_or(|tag| s.tags.contains(tag))
            && wanted.as_deref().is_none_or(|path| s.sources.iter().any(|source| holds(source, path)))
    };
    if args.trash {
        return trash(wire, &All::of(&opened)?, fits);
    }
    let list = opened.vault.list()?;
    let mut fitting: Vec<&SnapshotInfo> = list.iter().filter(|s| fits(s)).collect();
    fitting.sort_by_key(|s| (s.created, s.session));
    if wire.global.json {
        let list: Vec<Value> = fitting.iter().map(|s| object(s).into()).collect();
        output::json(&list.into())?;
    } else {
        print(wire, &fitting)?;
    }
    Ok(Outcome::Done)
}

fn trash(wire: &Wire, all: &All, fits: impl Fn(&SnapshotInfo) -> bool) -> Result<Outcome, Failure> {
    let mut fitting = all.trash().filter(|one| fits(&one.info)).peekable();
    if wire.global.json {
        let list: Vec<Value> = fitting
            .map(|one| {
                let mut object = object(&one.info);
                object.insert("purge_after".into(), one.kept.purge_after.map(time::rfc3339).into());
                object.insert("held".into(), one.kept.held.into());
                object.into()
            })
            .collect();
        return output::json(&list.into()).map(|()| Outcome::Done);
    }
    if !wire.global.quiet {
        if fitting.peek().is_none() {
            output::tell("The trash is empty.");
        } else {
            output::line(format!("{:16}  {:19}  {:19}  device: paths", "id", "time", "can come back until"))?;
        }
    }
    for one in fitting {
        let paths: Vec<_> = one.info.sources.iter().map(|path| output::shown(path)).collect();
        let until = one.kept.purge_after.map(time::local).unwrap_or_default();
        output::line(format!(
            "{}  {}  {until:19}  {}: {}{}",
            one.info.id,
            time::local(one.info.created),
            output::shown(one.info.device_name.as_bytes()),
            paths.join(" "),
            if one.kept.held { "  (held)" } else { "" },
        ))?;
    }
    Ok(Outcome::Done)
}

/// A path of this system as snapshots name them.
pub(crate) fn path_of(path: &Path) -> Vec<u8> {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).into_os_string().into_encoded_bytes()
}

/// Whether `path` is `source` or lies below it.
pub(crate) fn holds(source: &[u8], path: &[u8]) -> bool {
    let source = source.strip_suffix(b"/").unwrap_or(source);
    path.strip_prefix(source).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// A snapshot in JSON.
pub(crate) fn object(snapshot: &SnapshotInfo) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("id".into(), snapshot.id.to_string().into());
    object.insert("session".into(), snapshot.session.0.into());
    object.insert("time".into(), time::rfc3339(snapshot.created).into());
    object.insert("device".into(), snapshot.device_name.clone().into());
    object.insert("device_id".into(), snapshot.device.to_string().into());
    object.insert("tags".into(), snapshot.tags.clone().into());
    let paths: Vec<String> = snapshot.sources.iter().map(|p| String::from_utf8_lossy(p).into()).collect();
    object.insert("paths".into(), paths.into());
    object
}

fn print(wire: &Wire, list: &[&SnapshotInfo]) -> Result<(), Failure> {
    if list.is_empty() {
        if !wire.global.quiet {
            output::tell("No snapshots yet; make one: backupengine push FOLDER");
        }
        return Ok(());
    }
    let width = list.iter().map(|s| output::shown(s.device_name.as_bytes()).chars().count()).max();
    let width = width.unwrap_or(0).max("device".len());
    if !wire.global.quiet {
        output::line(format!("{:16}  {:19}  {:width$}  paths", "id", "time", "device"))?;
    }
    for snapshot in list {
        let device = output::shown(snapshot.device_name.as_bytes());
        let paths: Vec<_> = snapshot.sources.iter().map(|path| output::shown(path)).collect();
        let mut line = format!(
            "{}  {}  {device:width$}  {}",
            snapshot.id,
            time::local(snapshot.created),
            paths.join(" ")
        );
        if !snapshot.tags.is_empty() {
            line.push_str(&format!("  [{}]", output::shown(snapshot.tags.join(", ").as_bytes())));
        }
        output::line(line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_holds_what_lies_below() {
        assert!(holds(b"/home", b"/home"));
        assert!(holds(b"/home", b"/home/me"));
        assert!(holds(b"/", b"/home"));
        assert!(!holds(b"/home", b"/homes"));
        assert!(!holds(b"/home/me", b"/home"));
    }
}
