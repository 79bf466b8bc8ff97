//! `cat`: prints a file of a snapshot.
use crate::args::Cat;
use crate::error::{Failure, Kind, Outcome};
use crate::find::find;
use crate::lease::Lease;
use crate::output;
use crate::select::What;
use crate::wire::Wire;
use backupengine_model::{ContentReader, Kind as NodeKind};
use serde_json::json;
use std::io::Write;

/// Bytes read at once; a multiple of three, so that the pieces of `--json` join without padding.
const PIECE: usize = 3 << 18;

/// Prints the file's bytes; with `--json` a line for each piece, in base64.
///
/// # Errors
/// No such file; damage, after what could be read was printed.
pub(crate) fn run(wire: &Wire, args: &Cat) -> Result<Outcome, Failure> {
    let what = What::parse(&args.what)?;
    if !what.has_path {
        return Err(
            Failure::usage("cat needs the path of a file").hint("write it like latest:/home/me/notes.txt")
        );
    }
    let opened = wire.open_and_tell()?;
    let list = opened.vault.list()?;
    let snapshot = what.choose(&list, args.device.as_deref())?;
    let node = find(&opened.vault, snapshot, &what)?;
    if node.attributes.kind != NodeKind::File {
        let path = what.path_bytes();
        return Err(Failure::new(Kind::Failed, format!("{} is no file", output::shown(&path)))
            .hint("list a folder with `backupengine ls`"));
    }
    // Who prints into a pipe may take hours.
    let _lease = Lease::of(&opened)?;
    opened.vault.will_read(&[node.id]);
    let mut out = std::io::stdout().lock();
    let mut piece = vec![0; PIECE];
    let mut offset = 0;
    while offset < node.attributes.size {
        if wire.stopped() {
            return Err(Failure::interrupted());
        }
        let got = opened.vault.read_at(node.id, offset, &mut piece)?;
        if got == 0 {
            break;
        }
        let bytes = &piece[..got];
        if wire.global.json {
            let line = json!({ "type": "data", "offset": offset, "base64": base64(bytes) });
            writeln!(out, "{line}").map_err(output::failed)?;
        } else {
            out.write_all(bytes).map_err(output::failed)?;
        }
        offset += got as u64;
    }
    if wire.global.json {
        let line = json!({ "type": "summary", "snapshot": snapshot.id.to_string(), "bytes": offset });
        writeln!(out, "{line}").map_err(output::failed)?;
    }
    out.flush().map_err(output::failed)?;
    Ok(Outcome::Done)
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let at = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= three.len() { DIGITS[at] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_standard() {
        for (plain, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }
}
