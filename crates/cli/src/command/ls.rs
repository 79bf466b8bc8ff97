//! `ls`: lists a folder of a snapshot.
use crate::args::Ls;
use crate::error::{Failure, Outcome};
use crate::find::find;
use crate::output::{self, put_path, shown};
use crate::select::What;
use crate::time;
use crate::wire::Wire;
use backupengine_model::{Kind, Node, SnapshotInfo, TreeReader};
use backupengine_vault::Vault;
use serde_json::{Map, Value};
use std::io::{BufWriter, Write};

/// Names asked for at once.
const PAGE: usize = 1024;

/// Prints names, or with `--long` what `ls -l` shows.
///
/// # Errors
/// No such snapshot or path; damage on the way.
pub(crate) fn run(wire: &Wire, args: &Ls) -> Result<Outcome, Failure> {
    let what = What::parse(&args.what)?;
    let opened = wire.open_and_tell()?;
    let list = opened.vault.list()?;
    let snapshot = what.choose(&list, args.device.as_deref())?;
    let node = find(&opened.vault, snapshot, &what)?;
    let mut listing = Listing {
        vault: &opened.vault,
        out: BufWriter::with_capacity(64 << 10, std::io::stdout().lock()),
        long: args.long,
        recursive: args.recursive,
        json: wire.global.json,
        first: true,
    };
    listing.begin(snapshot, &what)?;
    if node.attributes.kind == Kind::Directory {
        listing.folder(wire, &node, &[])?;
    } else {
        let name = what.path.last().cloned().unwrap_or_default();
        listing.entry(&node, &name)?;
    }
    listing.end()?;
    Ok(Outcome::Done)
}

struct Listing<'a, W: Write> {
    vault: &'a Vault,
    out: W,
    long: bool,
    recursive: bool,
    json: bool,
    first: bool,
}

impl<W: Write> Listing<'_, W> {
    /// One JSON document, written as it is found: a folder may hold more than fits into memory.
    fn begin(&mut self, snapshot: &SnapshotInfo, what: &What) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let mut object = Map::new();
        object.insert("snapshot".into(), snapshot.id.to_string().into());
        put_path(&mut object, "path", &what.path_bytes());
        let head = Value::from(object).to_string();
        let head = head.trim_end_matches('}');
        write!(self.out, "{head},\"entries\":[").map_err(output::failed)
    }

    fn end(&mut self) -> Result<(), Failure> {
        if self.json {
            self.out.write_all(b"]}\n").map_err(output::failed)?;
        }
        self.out.flush().map_err(output::failed)
    }

    fn folder(&mut self, wire: &Wire, folder: &Node, prefix: &[u8]) -> Result<(), Failure> {
        // Depth is bounded by the longest path, not by this program's stack.
        let mut todo = vec![(folder.clone(), prefix.to_vec(), 0)];
        while let Some((folder, prefix, from)) = todo.pop() {
            if wire.stopped() {
                return Err(Failure::interrupted());
            }
            let page = TreeReader::list(self.vault, folder.id, from, PAGE)?;
            if !page.end {
                todo.push((folder, prefix.clone(), from + page.slots.len() as u64));
            }
            let mut below = Vec::new();
            for slot in page.slots {
                let mut name = prefix.clone();
                name.extend_from_slice(&slot.name);
                self.entry(&slot.node, &name)?;
                if self.recursive && slot.node.attributes.kind == Kind::Directory {
                    name.push(b'/');
                    below.push((slot.node, name, 0));
                }
            }
            todo.extend(below.into_iter().rev());
        }
        Ok(())
    }

    fn entry(&mut self, node: &Node, name: &[u8]) -> Result<(), Failure> {
        let target = if node.attributes.kind == Kind::Symlink && (self.long || self.json) {
            Some(self.vault.read_link(node.id)?)
        } else {
            None
        };
        let text = if self.json {
            let comma = if std::mem::take(&mut self.first) { "" } else { "," };
            format!("{comma}{}", Value::from(object(node, name, target.as_deref())))
        } else if self.long {
            format!("{}\n", long(node, name, target.as_deref()))
        } else {
            format!("{}{}\n", shown(name), if node.attributes.kind == Kind::Directory { "/" } else { "" })
        };
        self.out.write_all(text.as_bytes()).map_err(output::failed)
    }
}

fn object(node: &Node, name: &[u8], target: Option<&[u8]>) -> Map<String, Value> {
    let a = &node.attributes;
    let mut object = Map::new();
    put_path(&mut object, "name", name);
    object.insert("kind".into(), kind_name(a.kind).into());
    object.insert("mode".into(), format!("{:04o}", a.mode).into());
    object.insert("uid".into(), a.uid.into());
    object.insert("gid".into(), a.gid.into());
    object.insert("size".into(), a.size.into());
    object.insert("mtime".into(), time::rfc3339(a.mtime).into());
    object.insert("links".into(), a.nlink.into());
    object.insert("inode".into(), node.inode.ino().into());
    if let Some(target) = target {
        put_path(&mut object, "target", target);
    }
    object
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Directory => "directory",
        Kind::File => "file",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice => "char_device",
        Kind::BlockDevice => "block_device",
    }
}

fn long(node: &Node, name: &[u8], target: Option<&[u8]>) -> String {
    let a = &node.attributes;
    let mut line = format!(
        "{} {:>3} {:>5} {:>5} {:>12} {} {}",
        mode_text(a.kind, a.mode),
        a.nlink,
        a.uid,
        a.gid,
        a.size,
        time::local(a.mtime),
        shown(name)
    );
    if let Some(target) = target {
        line.push_str(" -> ");
        line.push_str(&shown(target));
    }
    line
}

/// `drwxr-sr-x`, as `ls -l` writes it.
fn mode_text(kind: Kind, mode: u32) -> String {
    let mut text = String::with_capacity(10);
    text.push(match kind {
        Kind::Directory => 'd',
        Kind::File => '-',
        Kind::Symlink => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::CharDevice => 'c',
        Kind::BlockDevice => 'b',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_ls_writes_them() {
        assert_eq!(mode_text(Kind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(mode_text(Kind::File, 0o4755), "-rwsr-xr-x");
        assert_eq!(mode_text(Kind::File, 0o2640), "-rw-r-S---");
        assert_eq!(mode_text(Kind::Symlink, 0o777), "lrwxrwxrwx");
        assert_eq!(mode_text(Kind::BlockDevice, 0), "b---------");
    }
}
