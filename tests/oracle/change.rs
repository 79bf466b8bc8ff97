//! Random changes of a tree, drawn so that most of them are possible.

use backupengine_model::{Kind, Timestamp, TreePath};
use backupengine_testkit::oracle::{Content, Refused, Tree, sample};
use proptest::prelude::{Strategy, any};
use proptest::{collection, prop_oneof};

/// One change; numbers choose among what there is, modulo.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Mkdir {
        dir: usize,
        name: u8,
    },
    File {
        dir: usize,
        name: u8,
        size: usize,
        seed: u64,
    },
    /// The bytes of a file that is there, under a new name: dedup must find them.
    Copy {
        file: usize,
        dir: usize,
        name: u8,
    },
    Sparse {
        dir: usize,
        name: u8,
        len: u64,
        runs: Vec<(u64, u16)>,
    },
    Write {
        file: usize,
        at: u64,
        len: usize,
        seed: u64,
    },
    Truncate {
        file: usize,
        len: u64,
    },
    Remove {
        which: usize,
    },
    Rename {
        which: usize,
        dir: usize,
        name: u8,
    },
    Link {
        which: usize,
        dir: usize,
        name: u8,
    },
    Symlink {
        dir: usize,
        name: u8,
        target: Vec<u8>,
    },
    Fifo {
        dir: usize,
        name: u8,
    },
    Many {
        dir: usize,
        name: u8,
        count: u16,
    },
    Mode {
        which: usize,
        mode: u32,
    },
    Mtime {
        which: usize,
        secs: i64,
        nanos: u32,
    },
    Xattr {
        which: usize,
        name: u8,
        len: usize,
    },
}

/// Sizes around every border: inline, bundled, one chunk, several, several frames.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0_usize..=200,
        4 => 200_usize..5_000,
        2 => 60_000_usize..70_000,
        2 => 250_000_usize..270_000,
        1 => 1_000_000_usize..3_000_000,
    ]
}

fn place() -> impl Strategy<Value = (usize, u8)> {
    (any::<usize>(), 0_u8..24)
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<usize>;
    let runs = || collection::vec((0_u64..1 << 20, 1_u16..9000), 0..4);
    prop_oneof![
        3 => place().prop_map(|(dir, name)| Change::Mkdir { dir, name }),
        8 => (place(), size(), any::<u64>())
            .prop_map(|((dir, name), size, seed)| Change::File { dir, name, size, seed }),
        2 => (at(), place()).prop_map(|(file, (dir, name))| Change::Copy { file, dir, name }),
        2 => (place(), 1_u64..2 << 20, runs())
            .prop_map(|((dir, name), len, runs)| Change::Sparse { dir, name, len, runs }),
        5 => (at(), 0_u64..1 << 21, 1_usize..5_000, any::<u64>())
            .prop_map(|(file, at, len, seed)| Change::Write { file, at, len, seed }),
        2 => (at(), 0_u64..1 << 20).prop_map(|(file, len)| Change::Truncate { file, len }),
        3 => at().prop_map(|which| Change::Remove { which }),
        3 => (at(), place()).prop_map(|(which, (dir, name))| Change::Rename { which, dir, name }),
        2 => (at(), place()).prop_map(|(which, (dir, name))| Change::Link { which, dir, name }),
        2 => (place(), collection::vec(1_u8.., 1..300))
            .prop_map(|((dir, name), target)| Change::Symlink { dir, name, target }),
        1 => place().prop_map(|(dir, name)| Change::Fifo { dir, name }),
        1 => (place(), 1_u16..700).prop_map(|((dir, name), count)| Change::Many { dir, name, count }),
        2 => (at(), 0_u32..0o1000).prop_map(|(which, mode)| Change::Mode { which, mode }),
        // From 1906 on: ext4 keeps no earlier times.
        2 => (at(), -2_000_000_000_i64..6_000_000_000, 0_u32..1_000_000_000)
            .prop_map(|(which, secs, nanos)| Change::Mtime { which, secs, nanos }),
        // ext4 keeps one block of them per file.
        2 => (at(), 0_u8..6, 0_usize..600).prop_map(|(which, name, len)| Change::Xattr { which, name, len }),
    ]
}

/// Rounds of changes, a push after each; a round may be empty.
pub(crate) fn history() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let round = prop_oneof![1 => collection::vec(change(), 0..3), 4 => collection::vec(change(), 5..40)];
    collection::vec(round, 2..5)
}

/// Names with odd bytes among them, whose order differs from that of their text.
fn name(n: u8) -> Vec<u8> {
    match n {
        0 => b"a-".to_vec(),
        1 => b"a".to_vec(),
        2 => b"a.b".to_vec(),
        3 => b"new\nline".to_vec(),
        4 => b"\xff\xfe raw".to_vec(),
        5 => b"\x01first".to_vec(),
        6 => vec![b'n'; 255],
        7 => "\u{fc}".into(),
        n => format!("name {n}").into_bytes(),
    }
}

/// Paths that fit, in order; `None` where there are none.
fn pick(tree: &Tree, which: usize, fits: impl Fn(Kind) -> bool) -> Option<TreePath> {
    let paths: Vec<_> = tree
        .names()
        .map(|(path, _)| path)
        .filter(|path| tree.get(path).is_some_and(|node| fits(node.attributes.kind)))
        .collect();
    paths.get(which % paths.len().max(1)).map(|path| (*path).clone())
}

fn free(tree: &Tree, dir: usize, n: u8) -> Option<TreePath> {
    let dir = pick(tree, dir, |kind| kind == Kind::Directory)?;
    Some(dir.child(&name(n)))
}

impl Change {
    /// Makes the change where it is possible.
    pub(crate) fn apply(&self, tree: &mut Tree) {
        // A name that is taken, a file moved below itself: a history just goes on.
        drop(self.attempt(tree));
    }

    fn attempt(&self, tree: &mut Tree) -> Result<(), Refused> {
        let file = |kind: Kind| kind == Kind::File;
        let nowhere = || Refused("there is nothing of the kind".into());
        let any = |_: Kind| true;
        match self {
            Self::Mkdir { dir, name } => tree.mkdir(&free(tree, *dir, *name).ok_or_else(nowhere)?),
            Self::File { dir, name, size, seed } => {
                let at = free(tree, *dir, *name).ok_or_else(nowhere)?;
                tree.create_file(&at, Content::dense(bytes(*seed, *size)))
            }
            Self::Copy { file: which, dir, name } => {
                let from = pick(tree, *which, file).ok_or_else(nowhere)?;
                let at = free(tree, *dir, *name).ok_or_else(nowhere)?;
                let node = tree.get(&from).ok_or_else(nowhere)?;
                let backupengine_testkit::oracle::Body::File(content) = node.body.clone() else {
                    return Err(nowhere());
                };
                tree.create_file(&at, content)
            }
            Self::Sparse { dir, name, len, runs } => {
                let at = free(tree, *dir, *name).ok_or_else(nowhere)?;
                let runs: Vec<_> = runs
                    .iter()
                    .map(|(at, run)| (at % len, sample::bytes(*at, usize::from(*run))))
                    .map(|(at, run)| (at, run[..run.len().min((len - at) as usize)].to_vec()))
                    .collect();
                let runs: Vec<_> = runs.iter().map(|(at, run)| (*at, run.as_slice())).collect();
                tree.create_file(&at, Content::sparse(*len, &runs))
            }
            Self::Write { file: which, at, len, seed } => {
                let path = pick(tree, *which, file).ok_or_else(nowhere)?;
                tree.edit(&path, |content| {
                    let at = at % (content.len() + 1);
                    content.write_at(at, &sample::bytes(*seed, *len));
                })
            }
            Self::Truncate { file: which, len } => {
                let path = pick(tree, *which, file).ok_or_else(nowhere)?;
                tree.edit(&path, |content| content.truncate(*len))
            }
            Self::Remove { which } => tree.remove(&pick(tree, *which, any).ok_or_else(nowhere)?),
            Self::Rename { which, dir, name } => {
                let from = pick(tree, *which, any).ok_or_else(nowhere)?;
                tree.rename(&from, &free(tree, *dir, *name).ok_or_else(nowhere)?)
            }
            Self::Link { which, dir, name } => {
                let from = pick(tree, *which, |kind| kind != Kind::Directory).ok_or_else(nowhere)?;
                tree.link(&from, &free(tree, *dir, *name).ok_or_else(nowhere)?)
            }
            Self::Symlink { dir, name, target } => {
                tree.symlink(&free(tree, *dir, *name).ok_or_else(nowhere)?, target)
            }
            Self::Fifo { dir, name } => {
                tree.mknod(&free(tree, *dir, *name).ok_or_else(nowhere)?, Kind::Fifo, 0)
            }
            Self::Many { dir, name, count } => {
                let at = free(tree, *dir, *name).ok_or_else(nowhere)?;
                tree.mkdir(&at)?;
                (0..*count).try_for_each(|n| {
                    let body = bytes(u64::from(n), usize::from(n) % 700);
                    tree.create_file(&at.child(format!("{n:05}").as_bytes()), Content::dense(body))
                })
            }
            Self::Mode { which, mode } => {
                let kind = |kind: Kind| kind != Kind::Symlink;
                tree.chmod(&pick(tree, *which, kind).ok_or_else(nowhere)?, *mode)
            }
            Self::Mtime { which, secs, nanos } => {
                let path = pick(tree, *which, any).ok_or_else(nowhere)?;
                tree.set_mtime(&path, Timestamp { secs: *secs, nanos: *nanos })
            }
            Self::Xattr { which, name, len } => {
                // The kernel lets only files and directories have attributes of the user namespace.
                let kind = |kind: Kind| matches!(kind, Kind::File | Kind::Directory);
                let path = pick(tree, *which, kind).ok_or_else(nowhere)?;
                tree.set_xattr(&path, format!("user.{name}").as_bytes(), &sample::bytes(*len as u64, *len))
            }
        }
    }
}

/// Half of all files look random, the others compress well.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    if seed.is_multiple_of(2) {
        return sample::bytes(seed, len);
    }
    let words = sample::bytes(seed, 64);
    (0..len).map(|at| words[(at / 7 + at % 5) % 64]).collect()
}
