//! Everything in which two readers differ, from one directory of each downwards.
//!
//! May not stop at the first difference: a list says more. Tested in `oracle::tests`.

use super::reader::is_directory;
use backupengine_model::{
    ContentReader, DirSlot, Kind, Node, NodeId, ReadError, SpanKind, TreePath, TreeReader,
};
use std::collections::HashMap;

/// What need not agree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leniency {
    /// Sizes and times of directories: filesystems differ in the first, and writing below a directory moves
    /// the second.
    pub directories: bool,
    /// Where holes are and how much is allocated: some filesystems keep none.
    pub holes: bool,
    /// `st_blocks`, which a real disk also spends on its own metadata.
    pub blocks: bool,
}

/// No list grows beyond this; the rest would say the same.
const MOST: usize = 50;

/// Differences between what lies below `expected_dir` and below `actual_dir`, the directories included.
pub fn differences<E, A>(
    expected: &E,
    expected_dir: NodeId,
    actual: &A,
    actual_dir: NodeId,
    leniency: Leniency,
) -> Vec<String>
where
    E: TreeReader + ContentReader + ?Sized,
    A: TreeReader + ContentReader + ?Sized,
{
    let mut run = Run { expected, actual, leniency, inodes: Default::default(), found: Vec::new() };
    match (expected.node(expected_dir), actual.node(actual_dir)) {
        (Ok(e), Ok(a)) => run.node(&TreePath::root(), &e, &a),
        (e, a) => run.found.push(format!("/: expected {e:?}, got {a:?}")),
    }
    run.found
}

struct Run<'a, E: ?Sized, A: ?Sized> {
    expected: &'a E,
    actual: &'a A,
    leniency: Leniency,
    /// Inodes met so far, from expected to actual and back: the same grouping on both sides.
    inodes: (HashMap<NodeId, NodeId>, HashMap<NodeId, NodeId>),
    found: Vec<String>,
}

fn list_all<R: TreeReader + ?Sized>(reader: &R, dir: NodeId) -> Result<Vec<DirSlot>, ReadError> {
    let mut slots = Vec::new();
    loop {
        let page = reader.list(dir, slots.len() as u64, 1000)?;
        let stuck = page.slots.is_empty();
        slots.extend(page.slots);
        if page.end || stuck {
            return Ok(slots);
        }
    }
}

impl<E, A> Run<'_, E, A>
where
    E: TreeReader + ContentReader + ?Sized,
    A: TreeReader + ContentReader + ?Sized,
{
    fn say<T: std::fmt::Debug>(&mut self, path: &TreePath, what: &str, expected: T, actual: T) {
        if self.found.len() < MOST {
            self.found.push(format!("{path}: {what}: expected {expected:?}, got {actual:?}"));
        }
    }

    fn node(&mut self, path: &TreePath, e: &Node, a: &Node) {
        if self.found.len() >= MOST {
            return;
        }
        let (mut ea, mut aa) = (e.attributes.clone(), a.attributes.clone());
        if self.leniency.directories && is_directory(e) {
            (ea.size, ea.mtime) = (aa.size, aa.mtime);
        }
        if self.leniency.holes {
            (ea.allocated, aa.allocated) = (None, None);
        }
        if ea != aa {
            self.say(path, "attributes", ea, aa);
        }
        let there = *self.inodes.0.entry(e.inode).or_insert(a.inode);
        let back = *self.inodes.1.entry(a.inode).or_insert(e.inode);
        if (there, back) != (a.inode, e.inode) {
            self.say(path, "inode", (e.inode, there), (back, a.inode));
        }
        if e.has_xattrs != a.has_xattrs {
            self.say(path, "has_xattrs", e.has_xattrs, a.has_xattrs);
        }
        match (self.expected.xattrs(e.id), self.actual.xattrs(a.id)) {
            (Ok(ex), Ok(ax)) if ex == ax => {}
            (ex, ax) => self.say(path, "xattrs", ex, ax),
        }
        if e.attributes.kind != a.attributes.kind {
            return;
        }
        match e.attributes.kind {
            Kind::Directory => self.directory(path, e.id, a.id),
            Kind::Symlink => match (self.expected.read_link(e.id), self.actual.read_link(a.id)) {
                (Ok(et), Ok(at)) if et == at => {}
                (et, at) => self.say(path, "target", et, at),
            },
            Kind::File => self.file(path, e, a),
            _ => {}
        }
    }

    fn directory(&mut self, path: &TreePath, e: NodeId, a: NodeId) {
        let (es, as_) = match (list_all(self.expected, e), list_all(self.actual, a)) {
            (Ok(es), Ok(as_)) => (es, as_),
            (es, as_) => {
                let (es, as_) = (es.map(|s| s.len()), as_.map(|s| s.len()));
                return self.say(path, "listing", es, as_);
            }
        };
        let names = |slots: &[DirSlot]| -> Vec<String> {
            slots.iter().map(|slot| String::from_utf8_lossy(&slot.name).into_owned()).collect()
        };
        if es.len() != as_.len() || es.iter().zip(&as_).any(|(x, y)| x.name != y.name) {
            return self.say(path, "names", names(&es), names(&as_));
        }
        for (x, y) in es.iter().zip(&as_) {
            self.node(&path.child(&x.name), &x.node, &y.node);
            match self.actual.lookup(a, &x.name) {
                Ok(Some(found)) if found == y.node => {}
                other => self.say(&path.child(&x.name), "lookup", Ok(Some(y.node.clone())), other),
            }
            match self.actual.parent(y.node.id) {
                Ok(parent) if parent == a => {}
                other => self.say(&path.child(&x.name), "parent", Ok(a), other),
            }
        }
    }

    fn file(&mut self, path: &TreePath, e: &Node, a: &Node) {
        let size = e.attributes.size;
        let mut at = 0;
        let mut buffers = (vec![0; 1 << 20], vec![0; 1 << 20]);
        while at < size {
            let (es, as_) = (joined(self.expected, e.id, at), joined(self.actual, a.id, at));
            let (Ok(Some((ekind, eend))), Ok(Some((akind, aend)))) = (&es, &as_) else {
                return self.say(path, "spans", es, as_);
            };
            if (ekind, eend) != (akind, aend) && !self.leniency.holes {
                return self.say(path, &format!("span at {at}"), (ekind, eend), (akind, aend));
            }
            let end = *eend.min(aend);
            if (*ekind, *akind) == (SpanKind::Hole, SpanKind::Hole) {
                at = end;
                continue;
            }
            let want = (end - at).min(1 << 20) as usize;
            let en = self.expected.read_at(e.id, at, &mut buffers.0[..want]);
            let an = self.actual.read_at(a.id, at, &mut buffers.1[..want]);
            match (&en, &an) {
                (Ok(x), Ok(y)) if *x == want && *y == want => {}
                _ => return self.say(path, &format!("read of {want} at {at}"), en, an),
            }
            if let Some(i) = (0..want).find(|&i| buffers.0[i] != buffers.1[i]) {
                return self.say(path, &format!("byte {}", at + i as u64), buffers.0[i], buffers.1[i]);
            }
            at += want as u64;
        }
        match self.actual.read_at(a.id, size, &mut buffers.1[..1]) {
            Ok(0) => {}
            other => self.say(path, "read at the end", Ok(0), other),
        }
    }
}

/// The span at `at`, joined with equal neighbours to its whole length.
fn joined<R: ContentReader + ?Sized>(
    reader: &R,
    id: NodeId,
    at: u64,
) -> Result<Option<(SpanKind, u64)>, ReadError> {
    let Some(first) = reader.span(id, at)? else { return Ok(None) };
    let mut end = first.offset + first.len;
    while let Some(next) = reader.span(id, end)? {
        if next.kind != first.kind {
            break;
        }
        end = next.offset + next.len;
    }
    Ok(Some((first.kind, end)))
}
