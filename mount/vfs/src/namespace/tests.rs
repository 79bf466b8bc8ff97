//! The top of the mount, table by table.

use super::*;
use backupengine_model::{DeviceId, SnapshotId};

fn snapshot(session: u32, secs: i64, device: &str, tags: &[&str]) -> SnapshotInfo {
    SnapshotInfo {
        session: SessionNo(session),
        id: SnapshotId([session as u8; 8]),
        created: Timestamp { secs, nanos: 5 },
        device: DeviceId([0; 16]),
        device_name: device.into(),
        tags: tags.iter().map(|&tag| tag.into()).collect(),
        sources: Vec::new(),
    }
}

/// Every path with what it is, sorted.
fn shown(namespace: &Namespace) -> Vec<String> {
    fn walk(namespace: &Namespace, number: u32, path: &str, out: &mut Vec<String>) {
        let Some(Own::Folder(folder)) = namespace.get(number) else { panic!("{path} is no folder") };
        for entry in &folder.entries {
            let path = format!("{path}{}", String::from_utf8_lossy(&entry.name));
            match entry.target {
                Target::Snapshot(session) => out.push(format!("{path} = {}", session.0)),
                Target::Own(number) => match namespace.get(number) {
                    Some(Own::Link(link)) => {
                        out.push(format!("{path} -> {}", String::from_utf8_lossy(&link.target)));
                    }
                    Some(Own::Folder(_)) => {
                        out.push(format!("{path}/"));
                        walk(namespace, number, &format!("{path}/"), out);
                    }
                    None => panic!("{path} leads nowhere"),
                },
            }
        }
    }
    let mut out = Vec::new();
    walk(namespace, ROOT, "", &mut out);
    out.sort();
    out
}

fn build(list: &[SnapshotInfo]) -> Namespace {
    Namespace::build(list, &Namespace::default())
}

#[test]
fn an_empty_vault_shows_empty_folders() {
    assert_eq!(shown(&build(&[])), ["by-device/", "by-tag/"]);
}

#[test]
fn snapshots_are_shown_by_time_device_and_tag() {
    let list = [
        snapshot(1, 0, "laptop", &[]),
        snapshot(2, 86_400, "büro pc", &["before/upgrade", "keep"]),
        snapshot(3, 3600, "laptop", &["keep"]),
    ];
    assert_eq!(
        shown(&build(&list)),
        [
            "1970-01-01T00-00-00Z_laptop = 1",
            "1970-01-01T01-00-00Z_laptop = 3",
            "1970-01-02T00-00-00Z_büro%20pc = 2",
            "by-device/",
            "by-device/büro%20pc/",
            "by-device/büro%20pc/1970-01-02T00-00-00Z -> ../../1970-01-02T00-00-00Z_büro%20pc",
            "by-device/büro%20pc/latest -> ../../1970-01-02T00-00-00Z_büro%20pc",
            "by-device/laptop/",
            "by-device/laptop/1970-01-01T00-00-00Z -> ../../1970-01-01T00-00-00Z_laptop",
            "by-device/laptop/1970-01-01T01-00-00Z -> ../../1970-01-01T01-00-00Z_laptop",
            "by-device/laptop/latest -> ../../1970-01-01T01-00-00Z_laptop",
            "by-tag/",
            "by-tag/before%2Fupgrade/",
            "by-tag/before%2Fupgrade/1970-01-02T00-00-00Z_büro%20pc -> ../../1970-01-02T00-00-00Z_büro%20pc",
            "by-tag/before%2Fupgrade/latest -> ../../1970-01-02T00-00-00Z_büro%20pc",
            "by-tag/keep/",
            "by-tag/keep/1970-01-01T01-00-00Z_laptop -> ../../1970-01-01T01-00-00Z_laptop",
            "by-tag/keep/1970-01-02T00-00-00Z_büro%20pc -> ../../1970-01-02T00-00-00Z_büro%20pc",
            "by-tag/keep/latest -> ../../1970-01-02T00-00-00Z_büro%20pc",
            "latest -> 1970-01-02T00-00-00Z_büro%20pc",
        ]
    );
    assert_eq!(build(&list).newest(), Some(SessionNo(2)));
}

#[test]
fn two_in_the_same_second_are_told_apart_by_id() {
    let list = [snapshot(1, 0, "a", &[]), snapshot(2, 0, "a", &[]), snapshot(3, 0, "b", &[])];
    let all = shown(&build(&list));
    for line in [
        "1970-01-01T00-00-00Z_a_01010101 = 1",
        "1970-01-01T00-00-00Z_a_02020202 = 2",
        "1970-01-01T00-00-00Z_b = 3",
        "by-device/a/1970-01-01T00-00-00Z_01010101 -> ../../1970-01-01T00-00-00Z_a_01010101",
        "by-device/a/latest -> ../../1970-01-01T00-00-00Z_a_02020202",
        "by-device/b/1970-01-01T00-00-00Z -> ../../1970-01-01T00-00-00Z_b",
    ] {
        assert!(all.iter().any(|l| l == line), "{line} is not in {all:#?}");
    }
}

#[test]
fn numbers_and_cookies_do_not_depend_on_history() {
    let old = [snapshot(1, 0, "laptop", &["keep"]), snapshot(2, 1, "desk", &[])];
    let mut new = old.to_vec();
    new.push(snapshot(3, 2, "attic", &["keep", "a"]));
    let fresh = build(&new);
    let grown = Namespace::build(&new, &build(&old));
    assert_eq!(fresh.numbers, grown.numbers);
    for (number, own) in &fresh.own {
        let (Own::Folder(folder), Some(Own::Folder(other))) = (own, grown.get(*number)) else { continue };
        let cookies = |f: &Folder| f.entries.iter().map(|e| (e.cookie, e.name.clone())).collect::<Vec<_>>();
        assert_eq!(cookies(folder), cookies(other));
        assert!(folder.entries.windows(2).all(|pair| pair[0].cookie < pair[1].cookie));
        assert!(folder.entries.iter().all(|entry| entry.cookie > 2));
    }
}

#[test]
fn a_new_snapshot_invalidates_just_what_it_changes() {
    let before = build(&[snapshot(1, 0, "laptop", &[]), snapshot(2, 0, "desk", &[])]);
    let list =
        [snapshot(1, 0, "laptop", &[]), snapshot(2, 0, "desk", &[]), snapshot(3, 9, "laptop", &["keep"])];
    let after = Namespace::build(&list, &before);
    let number = |path: &str| Ino(u64::from(after.numbers[path.as_bytes()]));
    let changes = after.changes_since(&before);
    let (by_device, by_tag) = (number("by-device"), number("by-tag"));
    let laptop = number("by-device/laptop");
    let mut expected = vec![
        (Ino::ROOT, b"1970-01-01T00-00-09Z_laptop".to_vec()),
        (Ino::ROOT, b"latest".to_vec()),
        (by_tag, b"keep".to_vec()),
        (laptop, b"1970-01-01T00-00-09Z".to_vec()),
        (laptop, b"latest".to_vec()),
    ];
    expected.sort();
    let mut entries = changes.entries.clone();
    entries.sort();
    assert_eq!(entries, expected);
    let mut inodes = changes.inodes.clone();
    inodes.sort();
    // by-device itself shows a newer time.
    let mut folders = vec![Ino::ROOT, by_device, by_tag, laptop];
    folders.sort();
    assert_eq!(inodes, folders);
    assert!(after.changes_since(&after).is_empty());
    let back = Namespace::build(&list[..2], &after).changes_since(&after);
    assert!(back.entries.contains(&(by_tag, b"keep".to_vec())));
}

#[test]
fn replacing_a_link_changes_its_number() {
    let before = build(&[snapshot(1, 0, "laptop", &[])]);
    let after = Namespace::build(&[snapshot(1, 0, "laptop", &[]), snapshot(2, 1, "laptop", &[])], &before);
    let latest = |n: &Namespace| match n.get(ROOT) {
        Some(Own::Folder(folder)) => folder.get(b"latest").map(|e| e.target),
        _ => None,
    };
    assert!(latest(&before).is_some() && latest(&before) != latest(&after));
}

fn cookies(namespace: &Namespace, path: &str) -> Vec<(String, u64)> {
    let number = if path.is_empty() { ROOT } else { namespace.numbers[path.as_bytes()] };
    let Some(Own::Folder(folder)) = namespace.get(number) else { panic!("{path} is no folder") };
    folder.entries.iter().map(|e| (String::from_utf8_lossy(&e.name).into_owned(), e.cookie)).collect()
}

#[test]
fn cookies_are_those_of_earlier_mounts() {
    // Frozen: programs keep them while a mount is replaced.
    let all = build(&[snapshot(1, 0, "d41625", &[]), snapshot(70_000, 1, "laptop", &[])]);
    let root = [
        ("by-device", 3),
        ("by-tag", 4),
        ("latest", 5),
        ("1970-01-01T00-00-00Z_d41625", 17),
        ("1970-01-01T00-00-01Z_laptop", 70_016),
    ];
    assert_eq!(cookies(&all, ""), root.map(|(name, cookie)| (name.to_owned(), cookie)));
    assert!(cookies(&all, "by-device").contains(&("d41625".to_owned(), 1_277_427_264)));
}

#[test]
fn cookies_of_groups_fit_into_32_bits_and_none_are_alike() {
    // Two names whose hashes are alike in the bits that cookies are made of: the later one goes behind.
    let names = ["d110126", "d41625", "laptop", "desk", "attic"];
    let list: Vec<_> = (1..).zip(names).map(|(at, name)| snapshot(at, 0, name, &[])).collect();
    let found = cookies(&build(&list), "by-device");
    assert!(found.windows(2).all(|pair| pair[0].1 < pair[1].1), "{found:?}");
    assert!(found.iter().all(|(_, cookie)| (16..1 << 32).contains(cookie)), "{found:?}");
    for at in [("d110126", 1_277_427_264), ("d41625", 1_277_427_265)] {
        assert!(found.contains(&(at.0.to_owned(), at.1)), "{found:?}");
    }
}

#[test]
fn any_number_of_cookies_that_are_alike_end_up_apart() {
    let one = snapshot(1, 0, "laptop", &[]);
    let children = [("a", 20), ("b", 20), ("c", 20), ("d", 21), ("e", 40)];
    let plan = children.map(|(name, cookie)| (cookie, name.to_owned(), Plan::Snapshot(&one)));
    let mut all = Namespace::default();
    all.place(Plan::Folder(plan.into()), &[], ROOT);
    let cookies = cookies(&all, "");
    assert_eq!(cookies.iter().map(|(_, cookie)| *cookie).collect::<Vec<_>>(), [20, 21, 22, 23, 40]);
}
