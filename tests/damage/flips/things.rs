//! What can be asked of a vault, with the right answer: files with all that is shown of them, and listings.
//!
//! May not be lenient: an answer is the very one, or an error of damage where damage was done to what it needs. What
//! always holds: each question begins at the root, by name, as a program would ask it. Tested below: an answer that is
//! wrong in one byte or one name is called wrong.

use super::ground::Ground;
use super::tally::{Fail, Row};
use backupengine_model::{
    ContentReader, DirSlot, Kind, Node, NodeId, ReadError, ReadFailure, SessionNo, TreeReader,
};
use backupengine_testkit::shown::Shown;
use backupengine_vault::Vault;

/// Bytes read at once of a file that is known to have a damaged part.
const PIECE: usize = 60_000;

/// A question and its answer.
pub(crate) struct Thing {
    pub(crate) session: SessionNo,
    /// Names from the root down; empty for "/".
    pub(crate) path: Vec<Vec<u8>>,
    pub(crate) answer: Answer,
    /// Numbers of the [`Ask`](super::ground::Ask)s it makes.
    pub(crate) asks: Vec<u32>,
}

/// What is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Node(Node, Shown),
    List(Vec<DirSlot>),
}

impl Thing {
    /// The names of further names of hard links are asked for and not needed: without them each is a file of its own.
    fn may_do_without(&self) -> bool {
        let is_further = |node: &Node| node.inode != node.id;
        match &self.answer {
            Answer::Node(node, _) => is_further(node),
            Answer::List(slots) => slots.iter().any(|slot| is_further(&slot.node)),
        }
    }

    fn find(&self, vault: &Vault) -> Result<Option<Node>, ReadError> {
        let mut node = vault.node(NodeId::root(self.session))?;
        for name in &self.path {
            match vault.lookup(node.id, name)? {
                Some(below) => node = below,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    /// Asks; `None` where a vault says that there is no such name.
    pub(crate) fn ask(&self, vault: &Vault, lists: bool) -> Result<Option<Answer>, ReadError> {
        let Some(node) = self.find(vault)? else { return Ok(None) };
        Ok(Some(if lists { Answer::List(list(vault, node.id)?) } else { show(vault, node)? }))
    }

    /// Asks and judges; `hit` says whether something it needs was damaged.
    pub(crate) fn judge(&self, vault: &Vault, hit: bool, row: &mut Row) -> Result<(), Fail> {
        let name = || {
            let path = self.path.iter().map(|name| String::from_utf8_lossy(name).into_owned());
            let what = if matches!(self.answer, Answer::List(_)) { "the listing of" } else { "the file" };
            format!("{what} /{} in {}", path.collect::<Vec<_>>().join("/"), self.session)
        };
        match self.ask(vault, matches!(self.answer, Answer::List(_))) {
            Ok(Some(found)) if same(&found, &self.answer, hit) => {
                row.right += 1;
                if hit && !self.may_do_without() {
                    return Err(Fail::Lost(format!("{} was served without what it needs", name())));
                }
                Ok(())
            }
            Ok(found) => {
                row.wrong += 1;
                let (found, right) = (brief(found.as_ref()), brief(Some(&self.answer)));
                Err(Fail::Wrong(format!("{} is shown wrong: {found} instead of {right}", name())))
            }
            Err(error) if hit && error.failure == ReadFailure::Damaged => {
                row.refused += 1;
                self.judge_pieces(vault).map_err(|what| {
                    row.wrong += 1;
                    Fail::Wrong(format!("{}: {what}", name()))
                })
            }
            Err(error) => {
                row.lost += 1;
                Err(Fail::Lost(format!("{} (hit: {hit}) gave {:?}: {error}", name(), error.failure)))
            }
        }
    }

    /// Every piece of a long file that can be read is right.
    fn judge_pieces(&self, vault: &Vault) -> Result<(), String> {
        let Answer::Node(_, shown) = &self.answer else { return Ok(()) };
        if shown.attributes.kind != Kind::File || shown.bytes.len() <= PIECE {
            return Ok(());
        }
        let Ok(Some(node)) = self.find(vault) else { return Ok(()) };
        let mut piece = vec![0xee; PIECE];
        for (number, right) in shown.bytes.chunks(PIECE).enumerate() {
            let at = number * PIECE;
            match vault.read_at(node.id, at as u64, &mut piece[..right.len()]) {
                Ok(len) if len == right.len() && piece[..len] == *right => {}
                Err(error) if error.failure == ReadFailure::Damaged => {}
                other => return Err(format!("a piece at byte {at} gave {other:?}")),
            }
        }
        Ok(())
    }
}

pub(crate) fn list(vault: &Vault, folder: NodeId) -> Result<Vec<DirSlot>, ReadError> {
    let mut slots = Vec::new();
    loop {
        let page = TreeReader::list(vault, folder, slots.len() as u64, 300)?;
        let end = page.end || page.slots.is_empty();
        slots.extend(page.slots);
        if end {
            return Ok(slots);
        }
    }
}

pub(crate) fn show(vault: &Vault, node: Node) -> Result<Answer, ReadError> {
    let bytes = match node.attributes.kind {
        Kind::File => {
            // Not zeros: what is not filled must not look like a hole.
            let mut bytes = vec![0xee; node.attributes.size as usize];
            let read = vault.read_at(node.id, 0, &mut bytes)?;
            bytes.truncate(read);
            bytes
        }
        Kind::Symlink => vault.read_link(node.id)?.to_vec(),
        _ => Vec::new(),
    };
    let shown = Shown { attributes: node.attributes.clone(), bytes, xattrs: vault.xattrs(node.id)? };
    Ok(Answer::Node(node, shown))
}

/// Whether two answers are the same. Where something was damaged a further name of a hard link may be a file of its own.
fn same(found: &Answer, right: &Answer, hit: bool) -> bool {
    let node = |found: &Node, right: &Node| {
        found == right || hit && *found == Node { inode: right.id, ..right.clone() }
    };
    match (found, right) {
        (Answer::Node(a, shown), Answer::Node(b, expected)) => shown == expected && node(a, b),
        (Answer::List(a), Answer::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name == b.name && node(&a.node, &b.node))
        }
        _ => false,
    }
}

fn brief(answer: Option<&Answer>) -> String {
    match answer {
        None => "nothing".to_owned(),
        Some(Answer::Node(node, shown)) => {
            format!("{node:?} with {} bytes {}", shown.bytes.len(), blake3::hash(&shown.bytes).to_hex())
        }
        Some(Answer::List(slots)) => format!("{} names", slots.len()),
    }
}

#[test]
fn a_wrong_byte_and_a_wrong_name_are_noticed() {
    let mut ground = Ground::new();
    let vault = ground.near();
    let mut noticed = (0, 0);
    for thing in &mut ground.things {
        thing.judge(&vault, false, &mut Row::default()).unwrap();
        match &mut thing.answer {
            Answer::Node(_, shown) if !shown.bytes.is_empty() => {
                *shown.bytes.last_mut().unwrap() ^= 1;
                noticed.0 += 1;
            }
            Answer::List(slots) if !slots.is_empty() => {
                slots[0].name.push(b'!');
                noticed.1 += 1;
            }
            _ => continue,
        }
        for hit in [false, true] {
            assert!(matches!(thing.judge(&vault, hit, &mut Row::default()), Err(Fail::Wrong(_))));
        }
    }
    assert!(noticed.0 > 500 && noticed.1 > 10, "{noticed:?}");
}
