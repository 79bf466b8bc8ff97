//! Names that are no text, look like something else, or are as long as a name can be.

use crate::assert_pushed_whole;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

#[test]
fn names_of_any_bytes_are_kept() {
    let source = tempfile::tempdir().unwrap();
    let longest = [b'n'; 255];
    let all_bytes: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    let names: &[&[u8]] = &[
        b"line\nbreak",
        b"\xff\xfe raw \x80",
        b"\r\x1b[31m\x07",
        b" leading and trailing ",
        b"-rf",
        b"...",
        b"back\\slash",
        b"*?[a]{b}~$HOME`id`",
        "u\u{308}".as_bytes(),
        "\u{fc}".as_bytes(),
        "\u{202e}reversed".as_bytes(),
        b"NUL",
        b"a:b",
        &longest,
        &all_bytes,
    ];
    for name in names {
        let path = source.path().join(OsStr::from_bytes(name));
        fs::create_dir(&path).unwrap();
        fs::write(path.join(OsStr::from_bytes(name)), name).unwrap();
        symlink(OsStr::from_bytes(name), path.join("link")).unwrap();
    }
    let stats = assert_pushed_whole(source.path());
    assert_eq!(stats.files_new, 2 * names.len() as u64);
}

/// Every name of one byte, and pairs that sort differently as text.
#[test]
fn names_sort_by_bytes() {
    let source = tempfile::tempdir().unwrap();
    for byte in (1..=255u8).filter(|byte| !b"/.".contains(byte)) {
        fs::write(source.path().join(OsStr::from_bytes(&[byte])), [byte]).unwrap();
        let folder = source.path().join(OsStr::from_bytes(&[byte, b'd']));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(OsStr::from_bytes(&[byte, 1])), [byte]).unwrap();
    }
    assert_pushed_whole(source.path());
}
