//! Extensions that known ransomware gives to what it encrypted.
//!
//! Pure. Only words that nothing else uses: `.enc`, `.crypt`, `.locked` and the like are people's own as well. What always
//! holds: the list is sorted, in lower case. A new family need not be here to be noticed; see the other signals.

/// Without the dot.
const KNOWN: &[&str] = &[
    "abyss",
    "akira",
    "akira_v2",
    "avos2",
    "avoslinux",
    "babyk",
    "basta",
    "bianlian",
    "blackbyte",
    "cerber",
    "cerber2",
    "cerber3",
    "cl0p",
    "clop",
    "conti",
    "cryptolocker",
    "cryptowall",
    "deadbolt",
    "dharma",
    "eking",
    "faust",
    "gdcb",
    "hunters",
    "krab",
    "lockbit",
    "lockbit3",
    "locky",
    "makop",
    "mallox",
    "medusalocker",
    "phobos",
    "ransomhub",
    "rhysida",
    "ryk",
    "sodinokibi",
    "wannacry",
    "wcry",
    "wncry",
    "wncryt",
    "wnry",
    "zepto",
];

/// The extension of a name, if known ransomware gives it.
pub(super) fn of(name: &[u8]) -> Option<&'static str> {
    let (_, extension) = std::str::from_utf8(name).ok()?.rsplit_once('.')?;
    let extension = extension.to_ascii_lowercase();
    let at = KNOWN.binary_search(&extension.as_str()).ok()?;
    KNOWN.get(at).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_by_what_follows_their_last_dot() {
        assert!(KNOWN.is_sorted() && KNOWN.iter().all(|word| *word == word.to_ascii_lowercase()));
        assert_eq!(of(b"report.docx.LOCKY"), Some("locky"));
        assert_eq!(of(b"report.docx.[id-1].lockbit"), Some("lockbit"));
        for other in [&b"report.docx"[..], b"locky", b"locky.txt", b"x.enc", b"x.djvu", b"\xff.locky", b""] {
            assert_eq!(of(other), None, "{other:?}");
        }
    }
}
