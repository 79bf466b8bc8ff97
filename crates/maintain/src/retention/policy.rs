//! What a person says about keeping, and the reasons that follow from it.
//!
//! May not know snapshots. What always holds: a rule that keeps nothing (N = 0) is no rule. Tested in `tests.rs`.

use super::calendar::Period;
use jiff::Span;
use std::fmt;
use thiserror::Error;

/// How many periods a rule reaches back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So many that hold any snapshot; 0 is no rule.
    Last(u32),
    /// All.
    Unlimited,
}

impl Default for Count {
    fn default() -> Self {
        Self::Last(0)
    }
}

impl Count {
    /// Whether the n-th period, counted from 1, is still reached.
    pub(super) fn allows(self, nth: usize) -> bool {
        match self {
            Self::Last(most) => u32::try_from(nth).is_ok_and(|nth| nth <= most),
            Self::Unlimited => true,
        }
    }
}

/// What is to stay. A snapshot stays that any rule keeps.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The last snapshots.
    pub last: Count,
    /// One for each of the last hours that have any.
    pub hourly: Count,
    /// Likewise days.
    pub daily: Count,
    /// Likewise ISO weeks.
    pub weekly: Count,
    /// Likewise months.
    pub monthly: Count,
    /// Likewise years.
    pub yearly: Count,
    /// All that are no older than this before the newest of their group; its sign does not matter.
    pub within: Option<Span>,
    /// All with one of these tags.
    pub tags: Vec<String>,
}

impl Policy {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.rules().next().is_none() && self.within.is_none() && self.tags.is_empty()
    }

    /// The counting rules that are there.
    pub(super) fn rules(&self) -> impl Iterator<Item = (Reason, Option<Period>, Count)> {
        [
            (Reason::Last, None, self.last),
            (Reason::Hourly, Some(Period::Hour), self.hourly),
            (Reason::Daily, Some(Period::Day), self.daily),
            (Reason::Weekly, Some(Period::Week), self.weekly),
            (Reason::Monthly, Some(Period::Month), self.monthly),
            (Reason::Yearly, Some(Period::Year), self.yearly),
        ]
        .into_iter()
        .filter(|(_, _, count)| *count != Count::Last(0))
    }
}

/// Why a snapshot stays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is held against removal.
    Held,
    /// It has this tag.
    Tag(String),
    /// It is young enough.
    Within,
    /// It is one of the last.
    Last,
    /// It is the newest of its hour.
    Hourly,
    /// Of its day.
    Daily,
    /// Of its week.
    Weekly,
    /// Of its month.
    Monthly,
    /// Of its year.
    Yearly,
}

/// One word, or `tag T`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "held",
            Self::Tag(tag) => return write!(f, "tag {tag}"),
            Self::Within => "within",
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        })
    }
}

/// Why a policy is refused.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetentionError {
    /// It has no rule.
    #[error("the policy has no rule: it would keep nothing")]
    NoRule,
    /// It would empty a group.
    #[error(
        "the policy would keep none of the {snapshots} snapshots that {device_name:?} made of {}",
        shown(sources)
    )]
    KeepsNothing {
        /// The group's device, as it was called.
        device_name: String,
        /// The group's sources.
        sources: Vec<Vec<u8>>,
        /// How many snapshots it has.
        snapshots: usize,
    },
}

fn shown(sources: &[Vec<u8>]) -> String {
    sources.iter().map(|source| String::from_utf8_lossy(source)).collect::<Vec<_>>().join(" ")
}
