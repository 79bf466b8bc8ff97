//! Vaults that are authentic and wrong: sealed and signed with the right keys by a writer that errs. Only
//! `check` can find these, and each is found as what it is.

use crate::fixture::{check_with, checked};
use crate::forger::{Stage, forge, forge_into};
use backupengine_format::footer::{Footer, FooterContent};
use backupengine_format::page::{Content, ExtentRows, LeafEntry, LeafPage, Xattr, XattrValue};
use backupengine_maintain::{CheckReport, Object, Problem};
use backupengine_model::{ContentId, FrameRef, SessionNo, Totals};
use backupengine_seal::{DeviceKey, Role};
use backupengine_testkit::build::TestVault;
use std::sync::Arc;

fn verdicts(report: &CheckReport) -> Vec<(&'static str, Problem)> {
    report.findings.iter().map(|finding| (finding.object.kind(), finding.problem)).collect()
}

/// What a check with all bytes says of a forgery; one without says the same unless told otherwise.
fn judged(err: impl Fn(Stage<'_>)) -> CheckReport {
    let vault = forge(err);
    let report = checked(&vault.reader());
    let structure = check_with(&vault.reader(), None);
    assert_eq!(verdicts(&report), verdicts(&structure), "{:#?}", report.findings);
    report
}

fn paths(report: &CheckReport) -> Vec<String> {
    let affected = report.findings.iter().flat_map(|finding| &finding.affected);
    affected.map(|affected| String::from_utf8_lossy(&affected.path).into_owned()).collect()
}

const SNAPSHOT: [(&str, Problem); 1] = [("snapshot", Problem::Inconsistent)];

#[test]
fn the_forger_can_write_a_sound_vault() {
    let report = judged(|_| {});
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!((report.stats.snapshots, report.stats.packs), (1, 2));
    // Four leaves, two index pages (the top one stands in the root), one page of extents.
    assert_eq!((report.stats.nodes, report.stats.pages), (7, 4 + 2 + 1));
}

#[test]
fn counts_that_do_not_fit_the_tree() {
    let entries = judged(|stage| {
        if let Stage::Index(page, _) = stage {
            page.children[0].entries += 1;
        }
    });
    assert_eq!(verdicts(&entries), SNAPSHOT);
    assert_eq!(entries.findings[0].affected_nodes, 2 + 3, "{:#?}", entries.findings);
    for change in [
        |totals: &mut Totals| totals.bytes += 1,
        |totals: &mut Totals| (totals.files, totals.directories) = (5, 2),
    ] {
        let report = judged(|stage| {
            if let Stage::Root(root) = stage {
                change(&mut root.totals);
            }
        });
        assert_eq!(verdicts(&report), SNAPSHOT);
        assert_eq!(report.findings[0].affected_nodes, 0);
    }
}

#[test]
fn pages_in_the_wrong_place() {
    let swapped = judged(|stage| {
        if let Stage::Index(page, _) = stage {
            let frames: Vec<_> = page.children.iter().map(|child| child.frame).collect();
            for (child, frame) in page.children.iter_mut().zip(frames.into_iter().rev()) {
                child.frame = frame;
            }
        }
    });
    assert_eq!(verdicts(&swapped), SNAPSHOT);
    let level = judged(|stage| {
        if let Stage::Top(page) = stage {
            page.level = 3;
        }
    });
    assert_eq!(verdicts(&level), SNAPSHOT);
    let no_page = judged(|stage| {
        if let Stage::Index(page, frames) = stage {
            page.children[0].frame = frames[0];
        }
    });
    assert_eq!(verdicts(&no_page), SNAPSHOT);
}

#[test]
fn reference_sets_that_name_too_little_or_too_much() {
    let nothing = judged(|stage| {
        if let Stage::References(set) = stage {
            set.packs.clear();
        }
    });
    assert_eq!(verdicts(&nothing), SNAPSHOT);
    assert!(nothing.findings[0].detail.contains("p/00000001/00000000"));
    let absent = judged(|stage| {
        if let Stage::References(set) = stage {
            set.insert(SessionNo(1), 9);
        }
    });
    assert_eq!(absent.findings[0].object, Object::Pack(SessionNo(1), 9));
    assert_eq!(verdicts(&absent), [("pack", Problem::Missing)]);
}

#[test]
fn references_that_lead_astray() {
    let change = |name: &'static str, change: fn(&mut FrameRef)| {
        judged(move |stage| {
            if let Stage::Entries(nodes) = stage {
                let node = nodes.iter_mut().find(|node| node.name == name.as_bytes()).unwrap();
                match &mut node.content {
                    Content::Bundle { frame, .. } => change(frame),
                    Content::Extents(rows) => change(rows[0].frame.as_mut().unwrap()),
                    Content::Pages(rows) => change(&mut rows[0].frame),
                    other => panic!("{other:?}"),
                }
            }
        })
    };
    for name in ["bundled", "extents", "pages"] {
        let path = [format!("/d/{name}")];
        let inside = change(name, |frame| frame.offset += 1);
        assert_eq!((verdicts(&inside), paths(&inside)), (SNAPSHOT.to_vec(), path.to_vec()));
        let longer = change(name, |frame| frame.stored_len += 1);
        assert!(paths(&longer).contains(&path[0]), "{:#?}", longer.findings);
        let salted = change(name, |frame| frame.pack.salt[7] ^= 1);
        assert!(paths(&salted).contains(&path[0]), "{:#?}", salted.findings);
        let absent = change(name, |frame| frame.pack.number = 5);
        assert!(verdicts(&absent).contains(&("pack", Problem::Missing)), "{:#?}", absent.findings);
        assert!(paths(&absent).contains(&path[0]));
    }
}

#[test]
fn lengths_that_do_not_add_up() {
    let change = |name: &'static str, change: fn(&mut LeafEntry)| {
        judged(move |stage| {
            if let Stage::Entries(nodes) = stage {
                change(nodes.iter_mut().find(|node| node.name == name.as_bytes()).unwrap());
            }
        })
    };
    let beyond = change("bundled too", |node| {
        let Content::Bundle { inner, .. } = &mut node.content else { panic!() };
        *inner = 11;
    });
    assert_eq!((verdicts(&beyond), paths(&beyond)), (SNAPSHOT.to_vec(), vec!["/d/bundled too".to_owned()]));
    let value = change("xattrs", |node| {
        let value = XattrValue::Stored { frame: stored(node), inner: 1, len: 300 };
        node.xattrs = Arc::new([Xattr { name: b"user.large".to_vec(), value }]);
    });
    assert_eq!((verdicts(&value), paths(&value)), (SNAPSHOT.to_vec(), vec!["/d/xattrs".to_owned()]));
    let run = change("extents", |node| {
        let Content::Extents(rows) = &mut node.content else { panic!() };
        (rows[0].len, rows[1].len) = (99, 101);
    });
    assert_eq!((verdicts(&run), paths(&run)), (SNAPSHOT.to_vec(), vec!["/d/extents".to_owned()]));
    let page = judged(|stage| {
        if let Stage::Extents(page) = stage {
            let ExtentRows::Extents(rows) = &mut page.rows else { panic!() };
            rows.pop();
        }
    });
    assert_eq!((verdicts(&page), paths(&page)), (SNAPSHOT.to_vec(), vec!["/d/pages".to_owned()]));
}

fn stored(node: &LeafEntry) -> FrameRef {
    match node.xattrs[0].value {
        XattrValue::Stored { frame, .. } => frame,
        XattrValue::Inline(_) => panic!("the forger stores it"),
    }
}

#[test]
fn footers_that_lie() {
    let with_footer = |change: fn(&mut Footer)| {
        forge(move |stage| {
            if let Stage::Footer(footer) = stage {
                change(footer);
            }
        })
    };
    let other_id = |footer: &mut Footer| {
        let FooterContent::Piece { id, .. } = &mut footer.frames[0].contents[1] else { panic!() };
        *id = ContentId([0; 16]);
    };
    let other_chunk = |footer: &mut Footer| {
        let FooterContent::Chunk { id, .. } = &mut footer.frames[1].contents[0] else { panic!() };
        *id = ContentId([0; 16]);
    };
    for change in [other_id, other_chunk] {
        let vault = with_footer(change);
        let report = checked(&vault.reader());
        assert_eq!(verdicts(&report), [("footer", Problem::Inconsistent)]);
        // Files do not need it.
        assert!(paths(&report).is_empty());
        assert!(check_with(&vault.reader(), None).findings.is_empty());
    }
    let beyond = with_footer(|footer| footer.frames[0].stored_len = 200_000_000);
    let report = checked(&beyond.reader());
    assert_eq!(verdicts(&report), [("footer", Problem::Inconsistent)], "{:#?}", report.findings);
    let longer = with_footer(|footer| footer.frames[2].plain_len += 1);
    let report = checked(&longer.reader());
    assert_eq!(verdicts(&report), [("frame", Problem::Damaged)], "{:#?}", report.findings);
    assert_eq!(paths(&report), ["/d/extents", "/d/pages"]);
}

#[test]
fn copies_that_say_something_else() {
    let listing = judged(|stage| {
        if let Stage::Root(root) = stage {
            let mut page = LeafPage::decode(&root.root_listing[1]).unwrap();
            page.entries[0].name = b"inlinE".to_vec();
            root.root_listing[1] = page.encode();
        }
    });
    assert_eq!(verdicts(&listing), SNAPSHOT);
    let label = judged(|stage| {
        if let Stage::Label(info) = stage {
            info.device_name.push_str(" made up");
        }
    });
    assert_eq!(verdicts(&label), SNAPSHOT);
    // Tags may be given later.
    let tagged = judged(|stage| {
        if let Stage::Label(info) = stage {
            info.tags.push("later".into());
        }
    });
    assert_eq!(verdicts(&tagged), []);
}

#[test]
fn roots_that_may_not_be_believed() {
    let vault = TestVault::in_memory();
    vault.put_envelopes();
    forge_into(&vault, &DeviceKey::from_seed([5; 32]), Role::Reader, &|_| {});
    let report = checked(&vault.reader());
    assert_eq!(verdicts(&report), [("root", Problem::Untrusted)]);

    let vault = forge(|_| {});
    let device = DeviceKey::from_seed([5; 32]);
    let true_hash = vault.reader().root(SessionNo(1)).unwrap().hash;
    forge_into(&vault, &device, Role::Writer, &|stage| {
        if let Stage::Root(root) = stage {
            root.parent = Some((SessionNo(1), true_hash));
        }
    });
    assert!(checked(&vault.reader()).findings.is_empty());
    forge_into(&vault, &device, Role::Writer, &|stage| {
        if let Stage::Root(root) = stage {
            root.parent = Some((SessionNo(1), backupengine_model::RootHash([0; 32])));
        }
    });
    let report = checked(&vault.reader());
    assert_eq!(verdicts(&report), [("root", Problem::Inconsistent)]);
    assert_eq!(report.findings[0].object, Object::Root(SessionNo(1)));
}

#[test]
fn a_part_of_the_bytes_is_read_when_a_part_is_asked_for() {
    let vault = forge(|_| {});
    let device = DeviceKey::from_seed([5; 32]);
    for _ in 0..39 {
        forge_into(&vault, &device, Role::Writer, &|_| {});
    }
    let read = |percent, seed| {
        let data = backupengine_maintain::ReadData { percent, seed };
        check_with(&vault.reader(), Some(data)).stats.bytes_read
    };
    let all = read(100, 1);
    let some = read(25, 1);
    assert!(all / 10 < some && some < all / 2, "{some} of {all}");
    assert_eq!(read(25, 1), some, "the same seed chooses the same packs");
    assert!((2..9).any(|seed| read(25, seed) != some), "every seed chooses the same packs");
    let none = check_with(&vault.reader(), None).stats;
    assert_eq!((none.bytes_read, none.frames_read), (0, 0));
}
