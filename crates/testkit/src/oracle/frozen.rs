//! A tree at the moment of a push, with ranks: what the read ports are answered from.
//!
//! Derived straight from the definitions in `model` (order of keys, places, inode of the first name), never
//! by asking the code under test. Tested in `oracle::tests`.

use super::tree::{FileNo, Tree, TreeNode};
use backupengine_model::{Class, Kind, Node, NodeId, NodeKey, SnapshotInfo, Totals, TreePath};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

pub(super) struct FrozenNode {
    pub(super) path: TreePath,
    pub(super) parent: u32,
    pub(super) node: Node,
    pub(super) file: Arc<TreeNode>,
    /// Places of a directory's children: directories, others.
    pub(super) children: Option<[Range<u32>; 2]>,
}

impl FrozenNode {
    pub(super) fn name(&self) -> &[u8] {
        self.path.as_joined().rsplit(|&b| b == 0).next().unwrap_or_default()
    }
}

/// One snapshot. Index in `nodes` is the place: 0 is "/".
pub(super) struct Frozen {
    pub(super) info: SnapshotInfo,
    pub(super) nodes: Vec<FrozenNode>,
    pub(super) totals: Totals,
    places: HashMap<TreePath, u32>,
}

impl Frozen {
    pub(super) fn new(tree: &Tree, info: SnapshotInfo) -> Self {
        let session = info.session;
        let mut keyed: Vec<(NodeKey, &TreePath, FileNo)> = Vec::with_capacity(tree.len());
        for (path, file) in tree.names() {
            if let (Some((parent, name)), Some(node)) = (path.split_last(), tree.file(file)) {
                let class = match node.attributes.kind {
                    Kind::Directory => Class::Directory,
                    _ => Class::Other,
                };
                keyed.push((NodeKey::new(class, &parent, name), path, file));
            }
        }
        keyed.sort();
        let root = TreePath::root();
        let ordered = std::iter::once((&root, FileNo(0))).chain(keyed.iter().map(|(_, p, f)| (*p, *f)));

        let mut places = HashMap::new();
        let mut first_name: HashMap<FileNo, NodeId> = HashMap::new();
        let mut nodes: Vec<FrozenNode> = Vec::with_capacity(tree.len() + 1);
        let mut totals = Totals::default();
        for (place, (path, file_no)) in ordered.enumerate() {
            let place = place as u32;
            let Some(file) = tree.file(file_no) else { continue };
            let id = NodeId { session, place };
            let inode = *first_name.entry(file_no).or_insert(id);
            if place != 0 {
                match file.attributes.kind {
                    Kind::Directory => totals.directories += 1,
                    kind => {
                        totals.files += 1;
                        totals.bytes += if kind == Kind::File { file.attributes.size } else { 0 };
                    }
                }
            }
            places.insert(path.clone(), place);
            nodes.push(FrozenNode {
                path: path.clone(),
                parent: 0,
                node: Node {
                    id,
                    attributes: file.attributes.clone(),
                    inode,
                    has_xattrs: !file.xattrs.is_empty(),
                },
                file: file.clone(),
                children: (file.attributes.kind == Kind::Directory).then_some([0..0, 0..0]),
            });
        }
        for place in 1..nodes.len() {
            let parent = nodes[place].path.split_last().map_or(0, |(parent, _)| places[&parent]);
            nodes[place].parent = parent;
            let class = usize::from(nodes[place].children.is_none());
            if let Some(children) = &mut nodes[parent as usize].children {
                let run = &mut children[class];
                if run.start == run.end {
                    *run = place as u32..place as u32 + 1;
                } else {
                    assert_eq!(run.end, place as u32, "the children of a directory are neighbours");
                    run.end += 1;
                }
            }
        }
        Self { info, nodes, totals, places }
    }

    pub(super) fn get(&self, place: u32) -> Option<&FrozenNode> {
        self.nodes.get(place as usize)
    }

    pub(super) fn at_path(&self, path: &TreePath) -> Option<&FrozenNode> {
        self.get(*self.places.get(path)?)
    }

    /// The child called `name`.
    pub(super) fn child(&self, children: &[Range<u32>; 2], name: &[u8]) -> Option<&FrozenNode> {
        children.iter().find_map(|run| {
            let slice = &self.nodes[run.start as usize..run.end as usize];
            slice.binary_search_by(|child| child.name().cmp(name)).ok().map(|at| &slice[at])
        })
    }
}
