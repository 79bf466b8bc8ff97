//! Collects findings: one per object, with what each concerns.
//!
//! **What always holds.** The first problem found at an object stays; what it concerns is added to it as the
//! trees are walked. The number kept per finding is bounded.

use super::CheckError;
use super::finding::{AFFECTED_MAX, Affected, Finding, Object, Problem};
use backupengine_store::{ErrorKind, StoreError};
use backupengine_vault::VaultError;
use std::collections::HashMap;
use std::error::Error;

/// Place of a finding in the report.
pub(crate) type FindingNo = usize;

/// What was found so far.
#[derive(Default)]
pub(crate) struct Findings {
    all: Vec<Finding>,
    by_object: HashMap<Object, FindingNo>,
}

impl Findings {
    /// Notes a problem; a second one at the same object is the first one.
    pub(crate) fn add(&mut self, object: Object, problem: Problem, detail: impl Into<String>) -> FindingNo {
        if let Some(known) = self.by_object.get(&object) {
            return *known;
        }
        let number = self.all.len();
        let finding =
            Finding { object, problem, detail: detail.into(), affected: Vec::new(), affected_nodes: 0 };
        self.all.push(finding);
        self.by_object.insert(object, number);
        number
    }

    /// Notes what a finding concerns.
    pub(crate) fn affects(&mut self, number: FindingNo, affected: Affected) {
        let finding = &mut self.all[number];
        finding.affected_nodes += affected.nodes;
        if finding.affected.len() < AFFECTED_MAX {
            finding.affected.push(affected);
        }
    }

    pub(crate) fn get(&self, object: &Object) -> Option<FindingNo> {
        self.by_object.get(object).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Lets go of those that are none. Places change: nothing may be added to a finding afterwards.
    pub(crate) fn retain(&mut self, is_one: impl FnMut(&Finding) -> bool) {
        self.all.retain(is_one);
        self.by_object.clear();
    }

    pub(crate) fn into_all(self) -> Vec<Finding> {
        self.all
    }
}

/// What kind of trouble an error of the vault is; `None` where it says nothing about what is stored, because
/// the store could not be reached.
pub(crate) fn problem_of(error: &VaultError) -> Option<Problem> {
    let by_store = |error: &StoreError| match error.kind {
        ErrorKind::NotFound => Some(Problem::Missing),
        ErrorKind::BadRange => Some(Problem::Damaged),
        kind if !kind.is_permanent() => None,
        _ => Some(Problem::Unreadable),
    };
    match error {
        VaultError::Store(error) => by_store(error),
        VaultError::Damaged { source: Some(cause), .. } => match cause.downcast_ref::<StoreError>() {
            Some(error) => by_store(error),
            None => Some(Problem::Damaged),
        },
        // Who checks has older keys than the vault: what it says would be of them, and not of what is stored.
        VaultError::UnknownEpoch { .. } => None,
        VaultError::Untrusted { .. } => Some(Problem::Untrusted),
        VaultError::Contradiction { .. } | VaultError::Forked { .. } | VaultError::RolledBack { .. } => {
            Some(Problem::Inconsistent)
        }
        _ => Some(Problem::Damaged),
    }
}

/// What is wrong with something, before it is a finding.
pub(crate) type Trouble = (Problem, String);

/// An error as what is wrong with the object it happened at, unless it only says that the store is away.
pub(crate) fn trouble(error: VaultError) -> Result<Trouble, CheckError> {
    match problem_of(&error) {
        Some(problem) => Ok((problem, describe_at(&error))),
        None => Err(error.into()),
    }
}

/// An error of the vault without the place it names: a finding names its object itself.
pub(crate) fn describe_at(error: &VaultError) -> String {
    match error {
        VaultError::Damaged { what, source, .. } => {
            chain((*what).to_owned(), source.as_ref().map(|cause| &**cause as &(dyn Error + 'static)))
        }
        other => describe(other),
    }
}

/// An error and its causes, outermost first, in one line.
pub(crate) fn describe(error: &(dyn Error + 'static)) -> String {
    chain(error.to_string(), error.source())
}

fn chain(mut text: String, mut cause: Option<&(dyn Error + 'static)>) -> String {
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::{SessionNo, SnapshotId};

    #[test]
    fn an_object_is_found_once_and_its_harm_is_bounded() {
        let mut findings = Findings::default();
        let object = Object::Pack(SessionNo(1), 2);
        let first = findings.add(object, Problem::Missing, "gone");
        assert_eq!(findings.add(object, Problem::Damaged, "else"), first);
        for _ in 0..AFFECTED_MAX + 5 {
            let (session, snapshot) = (SessionNo(1), SnapshotId([1; 8]));
            let path = b"/a".to_vec();
            findings.affects(first, Affected { session, snapshot, path, to: None, nodes: 1, below: false });
        }
        assert_eq!(findings.get(&object), Some(first));
        let all = findings.into_all();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].problem, &*all[0].detail), (Problem::Missing, "gone"));
        assert_eq!((all[0].affected.len(), all[0].affected_nodes), (AFFECTED_MAX, AFFECTED_MAX as u64 + 5));
    }

    #[test]
    fn an_unreachable_store_is_no_damage() {
        let error = |kind| VaultError::Store(StoreError::new(kind, "x"));
        assert_eq!(problem_of(&error(ErrorKind::TimedOut)), None);
        assert_eq!(problem_of(&error(ErrorKind::NotFound)), Some(Problem::Missing));
        assert_eq!(problem_of(&error(ErrorKind::Denied)), Some(Problem::Unreadable));
        assert!(describe(&error(ErrorKind::Io)).ends_with(": x"));
    }
}
