//! Six words that two screens show and a person compares.
//!
//! **What it may not do.** Go on where nobody compared.
//! **What always holds.** What was given is compared word for word; a question is answered by `yes` alone.
//! **Where it is tested.** Below; `tests/cli`.

use crate::error::{Failure, Kind};
use crate::output::tell;
use crate::secret;

/// As a person reads them.
pub(crate) fn shown(words: [&str; 6]) -> String {
    words.join(" ")
}

/// Whether the words are the ones on the other screen: by what was given, or by asking.
///
/// # Errors
/// `Denied` where they are not; bad usage where nobody can say, with the flag that could.
pub(crate) fn compare(
    words: [&str; 6],
    given: Option<&str>,
    question: &str,
    flag: &str,
    otherwise: &str,
) -> Result<(), Failure> {
    let differs = || {
        Failure::new(Kind::Denied, "the six words differ".to_owned())
            .hint(otherwise)
            .hint("nothing was changed; where they differ on the screens themselves, somebody is in between")
    };
    if let Some(given) = given {
        return if given.split_whitespace().eq(words) { Ok(()) } else { Err(differs()) };
    }
    if !secret::can_ask() {
        return Err(Failure::usage("nobody is there to compare the six words")
            .hint(format!("give those of the other screen: {flag} \"six words\"")));
    }
    tell(format!("\n    {}\n", shown(words)));
    if secret::ask_yes(question)? { Ok(()) } else { Err(differs()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_were_given_are_compared_one_by_one() {
        let words = ["a", "b", "c", "d", "e", "f"];
        let same = |given| compare(words, Some(given), "?", "--x", "look again").is_ok();
        assert!(same("a b c d e f") && same(" a  b c d e f\n"));
        for bad in ["", "a b c d e", "a b c d e f g", "a b c d e F", "f e d c b a"] {
            assert!(!same(bad), "{bad:?}");
        }
        let failure = compare(words, Some("a"), "?", "--x", "look again").unwrap_err();
        assert_eq!(failure.kind, Kind::Denied);
        assert!(!failure.message().contains("a b c"), "the right words are not told to who was wrong");
    }
}
