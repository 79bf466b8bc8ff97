//! Retention: which snapshots stay under a policy, and why.
//!
//! **What it is.** A pure function over a list of snapshots: [`apply`]. Groups are kept apart by device (id and name)
//! and set of sources; in each, every rule looks at the snapshots from the newest to the oldest, sorts them into
//! periods of the calendar, and keeps the newest of each of the last N periods that hold any.
//!
//! **What it may not do.** Ask for the time or the time zone (both are handed in), touch a ledger, remove anything.
//!
//! **What always holds.** A snapshot that is held stays. Of each group something stays, or the whole policy is refused.
//! A snapshot that is marked as suspicious takes no other's place: the others are judged as if it were not there.
//! Times decide, not the order of the list; of equal times the larger session is the newer. A snapshot from the future is
//! the newest, and moves no window.
//!
//! **Where it is tested.** `tests.rs` (tables), `model.rs` (against a simple model, for random histories).
//!
//! Decisions:
//! - Groups are finer than restic's host and paths: the device's id counts as well as its name. A name is what a pusher
//!   says; with it alone a stolen writer could push another device's good snapshots out of their group.
//! - The order in which sources were given does not matter.
//! - Periods are those of the user's calendar: days begin at local midnight, weeks are ISO weeks, and an hour that the
//!   clock shows twice in autumn is two hours.
//! - `within` counts back from the newest snapshot of the group, as restic does, so that a device that was off for a year
//!   keeps what it has; but never from a time to come.
//! - A marked snapshot (`suspicious`) is judged among all, the others among themselves. So a marked one goes in its time,
//!   and until then stays beside the good one it would have pushed out. Where a group has good ones, one of them stays.
//! - The oldest snapshot has no privilege where a rule is not filled yet (restic keeps it): the newest of each period is
//!   what stays, and nothing else.

mod calendar;
#[cfg(test)]
mod model;
mod policy;
#[cfg(test)]
mod tests;

pub use policy::{Count, Policy, Reason, RetentionError};

use backupengine_model::{DeviceId, SnapshotInfo, Timestamp};
use calendar::{Bucket, Period, zoned};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, HashSet};

/// A snapshot that is to be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What the list says of it.
    pub snapshot: SnapshotInfo,
    /// Whether it is held against removal.
    pub held: bool,
}

/// A snapshot, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the list says of it.
    pub snapshot: SnapshotInfo,
    /// Why it stays; where there is no reason, it goes.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// Whether it stays.
    pub fn stays(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Snapshots of one device and one set of sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The device.
    pub device: DeviceId,
    /// The name it went by.
    pub device_name: String,
    /// What was pushed, sorted.
    pub sources: Vec<Vec<u8>>,
    /// Oldest first.
    pub verdicts: Vec<Verdict>,
}

/// What keeps snapshots of one device apart from others.
type GroupKey = (String, DeviceId, Vec<Vec<u8>>);

/// Judges `snapshots` (any order) by `policy`: groups by device name, id and sources. `zone` is where days begin and end
/// for the user.
///
/// # Errors
/// [`RetentionError::NoRule`] for a policy that says nothing; [`RetentionError::KeepsNothing`] where nothing of a group
/// would stay.
pub fn apply(
    snapshots: &[Candidate],
    policy: &Policy,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<Vec<Group>, RetentionError> {
    if policy.is_empty() {
        return Err(RetentionError::NoRule);
    }
    let mut groups: BTreeMap<GroupKey, Vec<&Candidate>> = BTreeMap::new();
    for candidate in snapshots {
        groups.entry(key(&candidate.snapshot)).or_default().push(candidate);
    }
    groups.into_iter().map(|(key, members)| judge(key, members, policy, now, zone)).collect()
}

fn key(snapshot: &SnapshotInfo) -> GroupKey {
    let mut sources = snapshot.sources.clone();
    sources.sort_unstable();
    sources.dedup();
    (snapshot.device_name.clone(), snapshot.device, sources)
}

fn judge(
    (device_name, device, sources): GroupKey,
    mut members: Vec<&Candidate>,
    policy: &Policy,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<Group, RetentionError> {
    members.sort_by_key(|member| std::cmp::Reverse((member.snapshot.created, member.snapshot.session)));
    let good = |member: &&&Candidate| !member.snapshot.is_suspicious();
    let mut among_good = Rules::new(policy, members.iter().find(good), now, zone);
    let mut among_all = Rules::new(policy, members.first(), now, zone);
    let any_good = members.iter().any(|member| good(&member));
    let mut verdicts = Vec::with_capacity(members.len());
    for member in members {
        let snapshot = &member.snapshot;
        let at = zoned(snapshot.created, zone);
        let mut reasons = Vec::new();
        if member.held {
            reasons.push(Reason::Held);
        }
        let tagged = policy.tags.iter().filter(|tag| snapshot.tags.contains(tag));
        reasons.extend(tagged.map(|tag| Reason::Tag(tag.clone())));
        let of_all = among_all.keep(&at, snapshot);
        let marked = snapshot.is_suspicious();
        reasons.extend(if marked { of_all } else { among_good.keep(&at, snapshot) });
        verdicts.push(Verdict { snapshot: snapshot.clone(), reasons });
    }
    verdicts.reverse();
    let mut could_stay = verdicts.iter().filter(|verdict| !any_good || !verdict.snapshot.is_suspicious());
    if !could_stay.any(Verdict::stays) {
        return Err(RetentionError::KeepsNothing { device_name, sources, snapshots: verdicts.len() });
    }
    Ok(Group { device, device_name, sources, verdicts })
}

/// All rules on their way from the newest snapshot to the oldest.
struct Rules {
    /// When it begins; `None` where it has no beginning, or there is no such rule.
    window: Option<Option<Timestamp>>,
    counting: Vec<Rule>,
}

impl Rules {
    fn new(policy: &Policy, newest: Option<&&Candidate>, now: Timestamp, zone: &TimeZone) -> Self {
        let newest = newest.map_or(now, |newest| newest.snapshot.created);
        let window = policy.within.map(|span| calendar::back(newest.min(now), span, zone));
        let counting = policy.rules().map(|(reason, period, count)| Rule::new(reason, period, count));
        Self { window, counting: counting.collect() }
    }

    fn keep(&mut self, at: &jiff::ZonedDateTime, snapshot: &SnapshotInfo) -> Vec<Reason> {
        let within = self.window.is_some_and(|window| window.is_none_or(|begin| snapshot.created >= begin));
        let within = within.then_some(Reason::Within);
        within
            .into_iter()
            .chain(self.counting.iter_mut().filter_map(|rule| rule.keeps(at, snapshot)))
            .collect()
    }
}

/// One counting rule on its way from the newest snapshot to the oldest.
struct Rule {
    reason: Reason,
    /// `None`: each snapshot is a period of its own.
    period: Option<Period>,
    count: Count,
    /// Periods met so far.
    met: HashSet<Bucket>,
}

impl Rule {
    fn new(reason: Reason, period: Option<Period>, count: Count) -> Self {
        Self { reason, period, count, met: HashSet::new() }
    }

    /// The first snapshot that is met in a period is the newest in it.
    fn keeps(&mut self, at: &jiff::ZonedDateTime, snapshot: &SnapshotInfo) -> Option<Reason> {
        let bucket = self.period.map_or(Bucket::Single(snapshot.session), |period| Bucket::of(period, at));
        let first = self.met.insert(bucket);
        (first && self.count.allows(self.met.len())).then(|| self.reason.clone())
    }
}
