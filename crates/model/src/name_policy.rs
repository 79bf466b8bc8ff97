//! What a system can show of a raw name, and the way back.
//!
//! Shared by the mount's shells and `restore`. Pure. Only the policy of systems whose names are raw bytes
//! exists so far; the Windows one comes with its shell. Tested below.

use std::borrow::Cow;

/// Maps names between the snapshot and the system that shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamePolicy {
    /// Unix: any bytes but NUL and slash, at most 255 of them.
    RawBytes,
}

impl NamePolicy {
    /// Longest name that can be shown, in bytes.
    pub const fn name_max(self) -> usize {
        match self {
            Self::RawBytes => 255,
        }
    }

    /// The name as the system shows it, or `None` where it cannot be shown.
    pub fn show(self, name: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::RawBytes => (name.len() <= self.name_max()).then_some(Cow::Borrowed(name)),
        }
    }

    /// The raw name behind a shown one.
    pub fn hide(self, shown: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::RawBytes => Cow::Borrowed(shown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_bytes_pass_unchanged() {
        let policy = NamePolicy::RawBytes;
        assert_eq!(policy.show(b"a\n\xff").as_deref(), Some(&b"a\n\xff"[..]));
        assert_eq!(policy.hide(b"a\n\xff"), Cow::Borrowed(&b"a\n\xff"[..]));
        assert_eq!(policy.show(&[b'x'; 256]), None);
    }
}
