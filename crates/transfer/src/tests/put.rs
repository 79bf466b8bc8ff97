//! Putting blobs.
use super::scripted::{Scripted, cut};
use super::*;
use crate::PresignedStore;
use crate::runtime::handle;
use backupengine_model::SessionNo;
use backupengine_store::{BlobKey, BlobWriter, ErrorKind};
use std::io::Write;

const BLOB: &[u8] = b"sealed bytes";

fn put(store: &PresignedStore, number: u32) -> Option<ErrorKind> {
    let mut spool = store.spool().unwrap();
    spool.write_all(BLOB).unwrap();
    let put = handle().unwrap().block_on(store.put(BlobKey::Pack(SessionNo(1), number), spool));
    put.err().map(|error| {
        told(&error);
        error.kind
    })
}

/// Grants for the `nth` call for them, each under its number.
fn grants(seen: &Seen) -> Reply {
    let asked: Value = serde_json::from_slice(&seen.body).unwrap();
    let granted = asked["blobs"].as_array().unwrap().iter().map(|blob| {
        let url = grant(seen, &format!("{}-{}", seen.nth, blob["number"]));
        json!({"url": url, "headers": {"if-none-match": "*", "x-sum": blob["sha256"]}, "grant_seconds": 900})
    });
    yes(&json!({"grants": granted.collect::<Vec<_>>(), "now": 1}))
}

fn taking(objects: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |seen| match seen.op() {
        "mount" => mounted(&[]),
        "session-urls" => grants(seen),
        _ => objects(seen),
    })
}

/// What comes of one put, and how many calls for grants and PUTs it took.
fn outcome(
    tries: u32,
    objects: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> (Option<ErrorKind>, usize, u64) {
    let server = taking(objects);
    let (_folder, store) = store(&server.base, tries);
    let put = put(&store, 0);
    (put, server.count("session-urls"), store.requests().1)
}

#[test]
fn exactly_the_announced_bytes_are_sent() {
    let server = taking(|_| answer(200, &[], b""));
    let (_folder, store) = store(&server.base, 1);
    assert_eq!(put(&store, 7), None);
    let seen = server.seen();
    let announced: Value = serde_json::from_slice(&seen[1].body).unwrap();
    let blob = &announced["blobs"][0];
    assert_eq!((&blob["number"], &blob["length"], &blob["kind"]), (&json!(7), &json!(12), &json!("pack")));
    assert_eq!((seen[2].method.as_str(), seen[2].body.as_slice()), ("PUT", BLOB));
    assert_eq!((seen[2].header("content-length"), seen[2].header("if-none-match")), ("12", "*"));
    assert_eq!(json!(seen[2].header("x-sum")), blob["sha256"]);
    assert_eq!(seen[2].header("authorization"), "", "the token is not storage's business");
}

#[test]
fn a_name_that_is_taken_is_said_to_be() {
    assert_eq!(outcome(6, |_| answer(412, &[], b"")), (Some(ErrorKind::AlreadyExists), 1, 1));
}

#[test]
fn a_name_that_is_put_this_moment_is_looked_at_again() {
    let found = outcome(6, |seen| answer(if seen.nth == 0 { 409 } else { 412 }, &[], b""));
    assert_eq!(found, (None, 1, 2));
    assert_eq!(outcome(2, |_| answer(409, &[], b"")), (Some(ErrorKind::Unavailable), 1, 2));
}

#[test]
fn a_put_whose_answer_was_lost_is_done() {
    let found = outcome(6, |seen| if seen.nth == 0 { cut() } else { answer(412, &[], b"") });
    assert_eq!(found, (None, 1, 2));
    let found = outcome(6, |seen| answer(if seen.nth == 0 { 503 } else { 200 }, &[], b""));
    assert_eq!(found, (None, 1, 2));
}

#[test]
fn a_repeated_put_sends_the_same_bytes() {
    let server = taking(|seen| answer(if seen.nth == 0 { 500 } else { 200 }, &[], b""));
    let (_folder, store) = store(&server.base, 2);
    assert_eq!(put(&store, 0), None);
    let puts: Vec<_> = server.seen().into_iter().filter(|seen| seen.method == "PUT").collect();
    assert_eq!(puts.iter().map(|put| put.body.as_slice()).collect::<Vec<_>>(), [BLOB, BLOB]);
}

#[test]
fn a_grant_that_storage_refuses_is_renewed_once() {
    for status in [400, 401, 403] {
        let once = outcome(6, move |seen| answer(if seen.op() == "0-0" { status } else { 200 }, &[], b""));
        assert_eq!(once, (None, 2, 2));
        let always = outcome(6, move |_| answer(status, &[], SECRET.as_bytes()));
        assert_eq!(always, (Some(ErrorKind::Denied), 2, 2));
    }
}

#[test]
fn storage_that_stays_away_is_tried_so_often_and_no_more() {
    assert_eq!(outcome(2, |_| cut()), (Some(ErrorKind::Unavailable), 1, 2));
    assert_eq!(outcome(3, |_| answer(503, &[], b"")), (Some(ErrorKind::Unavailable), 1, 3));
    assert_eq!(outcome(6, |_| answer(413, &[], b"")), (Some(ErrorKind::Io), 1, 1));
}

#[test]
fn storage_that_takes_all_and_says_nothing_is_given_up() {
    let server = taking(|_| Reply::Silence);
    let (_folder, store) = store_with(&server.base, 2, Duration::from_millis(100));
    assert_eq!(put(&store, 0), Some(ErrorKind::TimedOut));
    assert_eq!((server.count("session-urls"), store.requests()), (1, (0, 2)));
}

#[test]
fn a_control_plane_that_says_no_ends_it() {
    let cases = [
        (Code::QuotaExceeded, ErrorKind::Full),
        (Code::NumberTaken, ErrorKind::AlreadyExists),
        (Code::RoleDenied, ErrorKind::Denied),
    ];
    for (code, wanted) in cases {
        let server = Scripted::start(move |seen| match seen.op() {
            "mount" => mounted(&[]),
            _ => refused(code),
        });
        let (_folder, store) = store(&server.base, 6);
        assert_eq!(put(&store, 0), Some(wanted));
        assert_eq!((server.count("session-urls"), store.requests()), (1, (0, 0)));
    }
}

#[test]
fn a_grant_for_an_address_without_tls_is_not_used() {
    let server = Scripted::start(|seen| match seen.op() {
        "mount" => mounted(&[]),
        _ => yes(&json!({
            "grants": [{"url": "http://192.0.2.1/?hunter2", "headers": {}, "grant_seconds": 9}], "now": 1,
        })),
    });
    let (_folder, store) = store(&server.base, 6);
    assert_eq!(put(&store, 0), Some(ErrorKind::Denied));
}

#[test]
fn puts_of_one_moment_are_announced_together_and_refused_apart() {
    let server = Scripted::start(|seen| match seen.op() {
        "mount" => mounted(&[]),
        "session-urls" if String::from_utf8_lossy(&seen.body).contains("\"number\":3") => {
            refused(Code::NumberTaken)
        }
        "session-urls" => grants(seen),
        _ => answer(200, &[], b""),
    });
    let (_folder, store) = store(&server.base, 1);
    let done: Vec<_> = std::thread::scope(|scope| {
        let puts: Vec<_> = (0..6)
            .map(|number| {
                scope.spawn({
                    let store = store.clone();
                    move || put(&store, number)
                })
            })
            .collect();
        puts.into_iter().map(|put| put.join().unwrap()).collect()
    });
    for (number, done) in done.into_iter().enumerate() {
        assert_eq!(done, (number == 3).then_some(ErrorKind::AlreadyExists), "pack {number}");
    }
    assert_eq!(store.requests(), (0, 5));
}
