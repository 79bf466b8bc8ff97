//! What a push and `status` say of signs of ransomware, and which files a push is to watch.
//!
//! **What it may not do.** Judge: `push` does. **What always holds.** It is said on stderr, whatever else is quiet; the exit
//! status is that of a push that read everything, for it did. **Where it is tested.** `tests/cli`.
use crate::command::push::full_path;
use crate::error::Failure;
use crate::output::{self, count, grouped, shown_path, tell};
use crate::time;
use backupengine_model::{SUSPICIOUS, SnapshotInfo};
use backupengine_push::{PushReport, Signal};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Files to watch: those that were named, which have to lie in what is pushed, and those of the config file that do.
///
/// # Errors
/// Bad usage.
pub(crate) fn canaries(
    config: &[PathBuf],
    named: &[PathBuf],
    roots: &[PathBuf],
) -> Result<Vec<PathBuf>, Failure> {
    let pushed = |path: &PathBuf| roots.iter().any(|root| path.starts_with(root));
    let mut all = Vec::new();
    for path in named {
        let real = real(path)?;
        if !pushed(&real) {
            return Err(Failure::usage(format!(
                "the canary {} does not lie in what is pushed",
                path.display()
            ))
            .hint("name a file below one of the paths; nothing was stored"));
        }
        all.push(real);
    }
    for path in config {
        all.extend(Some(real(path)?).filter(pushed));
    }
    Ok(all)
}

/// As snapshots name it. It may be gone, with the folder it was in: that is for the push to say.
fn real(path: &Path) -> Result<PathBuf, Failure> {
    full_path(path).or_else(|_| std::path::absolute(path).map_err(|e| Failure::io("find", path, e)))
}

/// Says on stderr what was found, and what to do about it.
pub(crate) fn tell_of(report: &PushReport, canaries: &[PathBuf]) {
    for path in canaries.iter().filter(|path| path.symlink_metadata().is_err()) {
        if !report.signals.contains(&Signal::CanaryMissing { path: path.clone() }) {
            tell(format!("the canary {} is not there: nobody can touch it", shown_path(path)));
        }
    }
    let Some((_, id)) = report.snapshot.filter(|_| !report.signals.is_empty()) else { return };
    tell("WARNING: this looks like the work of ransomware.");
    for signal in &report.signals {
        tell(format!("  {}", line(signal)));
    }
    tell(format!("The snapshot {id} was made all the same; it is marked with the tag {SUSPICIOUS:?}."));
    if let Some(held) = report.held {
        tell(format!("The one before, {held}, is held: nothing removes it."));
    }
    let unhold = report.held.map_or_else(String::new, |held| format!(" && backupengine unhold {held}"));
    tell(
        "hint: look at your files before you go on; what was before is in the mount, and `restore` brings it back",
    );
    tell(format!("hint: if all is well: backupengine tag {id} --remove {SUSPICIOUS}{unhold}"));
}

fn line(signal: &Signal) -> String {
    match signal {
        Signal::Unreadable { files, of } => format!(
            "{} of {} that could be read before cannot be told from noise now.",
            count(*files, "file", "files"),
            grouped(*of)
        ),
        Signal::Replaced { files, gone, of } => format!(
            "{} of {} are gone, and {} that cannot be told from noise came in their place.",
            count(*gone, "file", "files"),
            grouped(*of),
            grouped(*files)
        ),
        Signal::Extension { files, extension } => format!(
            "{} have an extension that ransomware gives, such as .{extension}",
            count(*files, "new file", "new files")
        ),
        Signal::CanaryMissing { path } => format!("The canary {} is gone.", shown_path(path)),
        Signal::CanaryChanged { path } => format!("The canary {} was written to.", shown_path(path)),
        other => format!("{other:?}"),
    }
}

/// For programs.
pub(crate) fn object(signal: &Signal) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    let path = match signal {
        Signal::Unreadable { files, of } => {
            put("kind", "unreadable".into());
            put("files", (*files).into());
            put("of", (*of).into());
            None
        }
        Signal::Replaced { files, gone, of } => {
            put("kind", "replaced".into());
            put("files", (*files).into());
            put("gone", (*gone).into());
            put("of", (*of).into());
            None
        }
        Signal::Extension { files, extension } => {
            put("kind", "extension".into());
            put("files", (*files).into());
            put("extension", extension.clone().into());
            None
        }
        Signal::CanaryMissing { path } => {
            put("kind", "canary_missing".into());
            Some(path)
        }
        Signal::CanaryChanged { path } => {
            put("kind", "canary_changed".into());
            Some(path)
        }
        _ => {
            put("kind", "other".into());
            None
        }
    };
    if let Some(path) = path {
        output::put_path(&mut object, "path", path.as_os_str().as_encoded_bytes());
    }
    object.into()
}

/// What `status` says of marked snapshots until somebody looked.
pub(crate) fn standing(list: &[SnapshotInfo]) -> Option<String> {
    let marked = || list.iter().filter(|info| info.is_suspicious());
    let newest = marked().max_by_key(|info| (info.created, info.session))?;
    let others = match marked().count() - 1 {
        0 => String::new(),
        n => format!(", and {} before it", count(n as u64, "other", "others")),
    };
    Some(format!(
        "the snapshot {} of {}{others} looked like the work of ransomware: look at it, then `backupengine tag {} --remove \
         {SUSPICIOUS}`",
        newest.id,
        time::local(newest.created),
        newest.id,
    ))
}
