//! The one error of this crate.

use thiserror::Error;

/// Bytes that are not what they should be.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// A rule of FORMAT.md is broken; the text names the rule.
    #[error("{what}: {rule}")]
    Broken {
        /// Which structure.
        what: &'static str,
        /// Which rule.
        rule: &'static str,
    },
    /// A version or critical section this program does not know.
    #[error("{what} uses {feature}, which this version of backupengine does not know; a newer one will")]
    TooNew {
        /// Which structure.
        what: &'static str,
        /// What is unknown.
        feature: String,
    },
}
