//! The top of the mount as ordinary folders: `latest`, one folder per snapshot, `by-device`, `by-tag`.
//!
//! Pure: built from the list of snapshots, table-tested below. What always holds: every link leads to a
//! snapshot folder of the same build; a link's number changes with its target, so that replacing it is one
//! step for whoever looks.

mod names;
mod numbers;

use crate::{Ino, Invalidations};
use backupengine_model::{SessionNo, SnapshotInfo, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// The mount's root among the own numbers.
const ROOT: u32 = 1;

/// What an own number stands for.
#[derive(Debug)]
pub(crate) enum Own {
    Folder(Folder),
    Link(Link),
}

#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) parent: u32,
    pub(crate) modified: Timestamp,
    /// Sorted by cookie.
    pub(crate) entries: Vec<Entry>,
    by_name: BTreeMap<Vec<u8>, usize>,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) target: Vec<u8>,
    pub(crate) modified: Timestamp,
}

/// One name of an own folder.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Belongs to the name for as long as it is there; what cursors are made of.
    pub(crate) cookie: u64,
    pub(crate) name: Vec<u8>,
    pub(crate) target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Own(u32),
    /// "/" of a snapshot.
    Snapshot(SessionNo),
}

impl Folder {
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Entry> {
        self.by_name.get(name).map(|at| &self.entries[*at])
    }

    /// Folders below, for the link count.
    pub(crate) fn folders(&self, all: &Namespace) -> u32 {
        let is_folder = |entry: &&Entry| match entry.target {
            Target::Snapshot(_) => true,
            Target::Own(number) => matches!(all.get(number), Some(Own::Folder(_))),
        };
        self.entries.iter().filter(is_folder).count() as u32
    }
}

/// Everything above the snapshots.
#[derive(Debug, Default)]
pub(crate) struct Namespace {
    own: BTreeMap<u32, Own>,
    numbers: BTreeMap<Vec<u8>, u32>,
    created: BTreeMap<SessionNo, Timestamp>,
    newest: Option<SessionNo>,
}

/// A name on its way into a folder: links know their target's name, folders their path.
enum Plan<'a> {
    Folder(Vec<(u64, String, Plan<'a>)>),
    Link(String, &'a SnapshotInfo),
    Snapshot(&'a SnapshotInfo),
}

/// Cookies of the fixed names come before those of snapshots, which are the session behind this.
const COOKIE_BY_DEVICE: u64 = 3;
const COOKIE_BY_TAG: u64 = 4;
const COOKIE_LATEST: u64 = 5;
const COOKIE_FIRST: u64 = 16;

fn cookie(snapshot: &SnapshotInfo) -> u64 {
    COOKIE_FIRST + u64::from(snapshot.session.0)
}

/// Goes with the name of a device or tag. 31 bits, for programs whose offsets have 32; should two be alike,
/// `place` moves the second.
fn group_cookie(name: &str) -> u64 {
    COOKIE_FIRST + (numbers::hash(name.as_bytes()) >> 33)
}

/// The folder of one device or tag: a link to each of its snapshots, and `latest`. `list` is not empty.
fn group<'a>(
    list: &[&'a SnapshotInfo],
    names: Vec<String>,
    folder_of: &BTreeMap<SessionNo, &str>,
) -> Plan<'a> {
    let link =
        |snapshot: &'a SnapshotInfo| Plan::Link(format!("../../{}", folder_of[&snapshot.session]), snapshot);
    let newest = list.last().map(|s| (COOKIE_LATEST, "latest".to_owned(), link(s)));
    let each = list.iter().zip(names).map(|(s, name)| (cookie(s), name, link(s)));
    Plan::Folder(newest.into_iter().chain(each).collect())
}

impl Namespace {
    /// Builds it all; what `before` numbered keeps its numbers.
    pub(crate) fn build(snapshots: &[SnapshotInfo], before: &Self) -> Self {
        let mut sorted: Vec<&SnapshotInfo> = snapshots.iter().collect();
        sorted.sort_by_key(|s| (s.created, s.session));
        let folder_names = names::unique(&sorted, |s| {
            format!("{}_{}", names::moment(s.created), names::part(&s.device_name))
        });
        let folder_of: BTreeMap<SessionNo, &str> =
            sorted.iter().zip(&folder_names).map(|(s, name)| (s.session, name.as_str())).collect();

        let mut devices: BTreeMap<String, Vec<&SnapshotInfo>> = BTreeMap::new();
        let mut tags: BTreeMap<String, Vec<&SnapshotInfo>> = BTreeMap::new();
        for &snapshot in &sorted {
            devices.entry(names::part(&snapshot.device_name)).or_default().push(snapshot);
            for tag in snapshot.tags.iter().collect::<BTreeSet<_>>() {
                tags.entry(names::part(tag)).or_default().push(snapshot);
            }
        }
        let by_device = devices
            .into_iter()
            .map(|(name, list)| {
                let names = names::unique(&list, |s| names::moment(s.created));
                (group_cookie(&name), name, group(&list, names, &folder_of))
            })
            .collect();
        let by_tag = tags
            .into_iter()
            .map(|(name, list)| {
                let names = list.iter().map(|s| folder_of[&s.session].to_owned()).collect();
                (group_cookie(&name), name, group(&list, names, &folder_of))
            })
            .collect();
        let mut root = vec![
            (COOKIE_BY_DEVICE, "by-device".to_owned(), Plan::Folder(by_device)),
            (COOKIE_BY_TAG, "by-tag".to_owned(), Plan::Folder(by_tag)),
        ];
        if let Some(newest) = sorted.last() {
            root.push((
                COOKIE_LATEST,
                "latest".to_owned(),
                Plan::Link(folder_of[&newest.session].to_owned(), newest),
            ));
        }
        for (snapshot, name) in sorted.iter().zip(&folder_names) {
            root.push((cookie(snapshot), name.clone(), Plan::Snapshot(snapshot)));
        }

        let plan = Plan::Folder(root);
        let mut keys = BTreeSet::new();
        collect_keys(&plan, &[], &mut keys);
        keys.remove(&[][..]);
        let numbers = numbers::assign(&keys, &before.numbers, numbers::hash);
        let mut out = Self {
            own: BTreeMap::new(),
            numbers,
            created: sorted.iter().map(|s| (s.session, s.created)).collect(),
            newest: sorted.last().map(|s| s.session),
        };
        out.place(plan, &[], ROOT);
        out
    }

    fn number(&self, key: &[u8]) -> u32 {
        if key.is_empty() { ROOT } else { self.numbers.get(key).copied().unwrap_or(ROOT) }
    }

    /// Puts a plan and what is below it into `own`.
    fn place(&mut self, plan: Plan<'_>, path: &[u8], parent: u32) -> (Target, Timestamp) {
        let number = self.number(&key(&plan, path));
        match plan {
            Plan::Snapshot(snapshot) => (Target::Snapshot(snapshot.session), snapshot.created),
            Plan::Link(target, snapshot) => {
                let link = Link { target: target.into_bytes(), modified: snapshot.created };
                self.own.insert(number, Own::Link(link));
                (Target::Own(number), snapshot.created)
            }
            Plan::Folder(children) => {
                let mut modified: Option<Timestamp> = None;
                let mut entries: Vec<Entry> = Vec::with_capacity(children.len());
                for (cookie, name, child) in children {
                    let (target, time) = self.place(child, &join(path, name.as_bytes()), number);
                    modified = modified.max(Some(time));
                    entries.push(Entry { cookie, name: name.into_bytes(), target });
                }
                entries.sort_by(|a, b| (a.cookie, &a.name).cmp(&(b.cookie, &b.name)));
                for at in 1..entries.len() {
                    if entries[at].cookie <= entries[at - 1].cookie {
                        entries[at].cookie = entries[at - 1].cookie + 1;
                    }
                }
                let by_name = entries.iter().enumerate().map(|(at, e)| (e.name.clone(), at)).collect();
                let modified = modified.unwrap_or_default();
                self.own.insert(number, Own::Folder(Folder { parent, modified, entries, by_name }));
                (Target::Own(number), modified)
            }
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Own> {
        self.own.get(&number)
    }

    /// When a snapshot was pushed, while it is shown.
    pub(crate) fn created(&self, session: SessionNo) -> Option<Timestamp> {
        self.created.get(&session).copied()
    }

    /// The newest snapshot.
    pub(crate) fn newest(&self) -> Option<SessionNo> {
        self.newest
    }

    /// What a system has to forget to see `self` instead of `before`.
    pub(crate) fn changes_since(&self, before: &Self) -> Invalidations {
        let mut out = Invalidations::default();
        let numbers: BTreeSet<u32> = self.own.keys().chain(before.own.keys()).copied().collect();
        for number in numbers {
            let (Some(Own::Folder(new)), Some(Own::Folder(old))) = (self.get(number), before.get(number))
            else {
                // It came or went; the name in its parent says so.
                continue;
            };
            let names: BTreeSet<&Vec<u8>> = new.by_name.keys().chain(old.by_name.keys()).collect();
            let changed: Vec<_> = names
                .into_iter()
                .filter(|name| new.get(name).map(|e| e.target) != old.get(name).map(|e| e.target))
                .collect();
            if !changed.is_empty() || new.modified != old.modified {
                let ino = Ino(u64::from(number));
                out.inodes.push(ino);
                out.entries.extend(changed.into_iter().map(|name| (ino, name.clone())));
            }
        }
        out
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    if !out.is_empty() {
        out.push(b'/');
    }
    out.extend_from_slice(name);
    out
}

/// What a number is derived from: the path, and for links the target.
fn key(plan: &Plan<'_>, path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    if let Plan::Link(target, _) = plan {
        out.push(0);
        out.extend_from_slice(target.as_bytes());
    }
    out
}

fn collect_keys(plan: &Plan<'_>, path: &[u8], into: &mut BTreeSet<Vec<u8>>) {
    if let Plan::Snapshot(_) = plan {
        return;
    }
    into.insert(key(plan, path));
    if let Plan::Folder(children) = plan {
        children.iter().for_each(|(_, name, child)| collect_keys(child, &join(path, name.as_bytes()), into));
    }
}

#[cfg(test)]
mod tests;
