//! `tag`: gives a snapshot tags and takes them away.
use crate::account::CodeSource;
use crate::args::Tag;
use crate::command::snapshots::object;
use crate::error::{Failure, Outcome};
use crate::keeping::alone;
use crate::output;
use crate::wire::{MEMORY, Wire};
use backupengine_maintain::keep;
use backupengine_model::SnapshotInfo;
use std::collections::BTreeSet;

/// Changes the tags.
///
/// # Errors
/// No such snapshot; tags that do not fit; what the ledger says.
pub(crate) fn run(wire: &Wire, args: &Tag) -> Result<Outcome, Failure> {
    let what = alone(&args.snapshot)?;
    if args.add.iter().any(|tag| tag.is_empty()) {
        return Err(Failure::usage("a tag has at least one character").hint("name the tag after --add"));
    }
    if let Some(both) = args.add.iter().find(|tag| args.remove.contains(tag)) {
        return Err(Failure::usage(format!("{both:?} is to be added and removed")).hint("say one of both"));
    }
    let codes = CodeSource::new(wire, args.codes.totp_command.as_deref());
    let mut opened = wire.open(MEMORY)?;
    let list = opened.vault.list()?;
    let info = what.choose(&list, args.device.as_deref())?.clone();
    let mut tags: BTreeSet<String> = info.tags.iter().cloned().collect();
    tags.retain(|tag| !args.remove.contains(tag));
    tags.extend(args.add.iter().cloned());
    let tags =
        opened.decide(&codes, |vault, keeper, salt| keep::retag(vault, keeper, info.session, &tags, salt))?;
    if wire.global.json {
        output::json(&object(&SnapshotInfo { tags, ..info }).into())?;
    } else if tags.is_empty() {
        output::line(format!("{} has no tags.", info.id))?;
    } else {
        output::line(format!("{} has the tags {}.", info.id, output::shown(tags.join(", ").as_bytes())))?;
    }
    Ok(Outcome::Done)
}
