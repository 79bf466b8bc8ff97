//! What goes to stdout, and how figures, times and names are shown.
//!
//! **What it may not do.** Decide what is a result; print to stdout anything else.
//! **What always holds.** Control characters of names never reach a terminal raw; JSON field names are those of
//! JSON.md.
//! **Where it is tested.** Below; `tests/cli` holds the field names.

use crate::error::Failure;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;

/// Writes to stdout; the only place that does.
///
/// # Errors
/// When stdout is closed or its file is full.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(failed)
}

/// A line of text on stdout.
///
/// # Errors
/// See [`print()`].
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    print(format!("{}\n", text.as_ref()).as_bytes())
}

/// A JSON value on stdout, in one line.
///
/// # Errors
/// See [`print()`].
pub(crate) fn json(value: &Value) -> Result<(), Failure> {
    line(value.to_string())
}

/// A failure to write to stdout.
pub(crate) fn failed(error: io::Error) -> Failure {
    Failure::io("write", Path::new("stdout"), error)
}

/// A line on stderr: messages that are no result. A stderr that went away is no reason to stop.
pub(crate) fn tell(text: impl AsRef<str>) {
    crate::progress::above_bar(|| drop(writeln!(io::stderr().lock(), "{}", text.as_ref())));
}

/// A size for people: binary units, three digits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        // What would round to 1024 belongs to the next unit.
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {unit}")
}

/// Bytes from a size such as `64MiB`, `1.5G` or `4096`. Units are binary, whichever way they are written.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * (1u64 << shift) as f64;
    (bytes.is_finite() && bytes < 9e18).then_some(bytes as u64)
}

/// A count with its noun.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// A number with a thin gap every three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A name or path as a terminal may see it: control characters and what is no UTF-8 are escaped.
pub(crate) fn shown(name: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(name) {
        Ok(text) if !text.chars().any(char::is_control) => Cow::Borrowed(text),
        _ => {
            let mut text = String::new();
            for chunk in name.utf8_chunks() {
                for c in chunk.valid().chars() {
                    if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
                }
                for byte in chunk.invalid() {
                    text.push_str(&format!("\\x{byte:02x}"));
                }
            }
            Cow::Owned(text)
        }
    }
}

/// A path of this system as a terminal may see it.
pub(crate) fn shown_path(path: &Path) -> String {
    shown(path.as_os_str().as_encoded_bytes()).into_owned()
}

/// Puts a path into a JSON object: text, and its bytes in hexadecimal digits where it is no UTF-8.
pub(crate) fn put_path(object: &mut Map<String, Value>, field: &str, path: &[u8]) {
    object.insert(field.into(), String::from_utf8_lossy(path).into());
    if std::str::from_utf8(path).is_err() {
        let hex: String = path.iter().map(|byte| format!("{byte:02x}")).collect();
        object.insert(format!("{field}_hex"), hex.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (10 * 1024, "10.0 KiB"),
            (1024 * 1024 - 1, "1.00 MiB"),
            (150 * 1024 * 1024, "150 MiB"),
            (3 << 40, "3.00 TiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("256MiB"), Some(256 << 20));
        assert_eq!(parse_size("1.5 G"), Some(3 << 29));
        assert_eq!(parse_size("4096"), Some(4096));
        assert_eq!(parse_size("64k"), Some(65536));
        for bad in ["", "MiB", "5 parsecs", "-1", "1e3"] {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(count(1, "file", "files"), "1 file");
    }

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(shown(b"plain \xc3\xa9"), "plain \u{e9}");
        assert_eq!(shown(b"a\nb\x1b[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(shown(b"a\xffb"), "a\\xffb");
    }

    #[test]
    fn raw_bytes_survive_json() {
        let mut object = Map::new();
        put_path(&mut object, "path", b"/a\xff");
        put_path(&mut object, "other", b"/a");
        let text = Value::Object(object).to_string();
        assert_eq!(text, "{\"other\":\"/a\",\"path\":\"/a\u{fffd}\",\"path_hex\":\"2f61ff\"}");
    }
}
