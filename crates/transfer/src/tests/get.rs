//! Reading blobs.
use super::scripted::{Scripted, cut, untrue};
use super::*;
use crate::presigned::warm::CONNECTIONS;
use crate::runtime::handle;
use backupengine_model::SessionNo;
use backupengine_store::{BlobKey, BlobReader, ErrorKind, Range, StoreError};
use std::time::Instant;

const PACK: BlobKey = BlobKey::Pack(SessionNo(1), 0);
const BLOB: &[u8] = b"0123456789";

/// Opens a store whose first grant for the pack is `/bucket/first` and every later one `/bucket/again`, and reads.
fn read(server: &Scripted, tries: u32, range: Range) -> Result<Vec<u8>, (ErrorKind, String)> {
    let (_folder, store) = store(&server.base, tries);
    let got = handle().unwrap().block_on(store.get(PACK, range));
    got.map(|got| got.bytes.to_vec()).map_err(|error: StoreError| (error.kind, told(&error)))
}

fn serving(objects: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |seen| match seen.op() {
        "mount" => mounted(&[pack_grant(&grant(seen, "first"))]),
        "urls" => urls(seen),
        _ => objects(seen),
    })
}

fn kind(got: Result<Vec<u8>, (ErrorKind, String)>) -> Option<ErrorKind> {
    got.err().map(|(kind, _)| kind)
}

#[test]
fn a_grant_that_comes_with_the_opening_needs_no_call() {
    let server = serving(|_| answer(200, &[], BLOB));
    assert_eq!(read(&server, 3, Range::Whole).unwrap(), BLOB);
    assert_eq!((server.seen().len(), server.count("mount"), server.count("first")), (2, 1, 1));
}

#[test]
fn a_part_is_asked_for_as_a_part() {
    let server = serving(|seen| match seen.header("range") {
        "bytes=2-4" => answer(206, &[("content-range", "bytes 2-4/10")], b"234"),
        "bytes=-2" => answer(206, &[("content-range", "bytes 8-9/10")], b"89"),
        _ => answer(400, &[], b""),
    });
    assert_eq!(read(&server, 1, Range::At { offset: 2, len: 3 }).unwrap(), b"234");
    assert_eq!(read(&server, 1, Range::Suffix(2)).unwrap(), b"89");
    let seen = server.seen().len();
    assert_eq!(kind(read(&server, 1, Range::Suffix(0))), Some(ErrorKind::BadRange));
    assert_eq!(server.seen().len(), seen + 1, "nothing but the opening was to be sent");
}

#[test]
fn a_grant_that_storage_refuses_is_renewed_once() {
    for status in [400, 401, 403] {
        let server = serving(move |seen| match seen.op() {
            "again" => answer(200, &[], BLOB),
            _ => answer(status, &[], b"expired"),
        });
        assert_eq!(read(&server, 3, Range::Whole).unwrap(), BLOB);
        assert_eq!((server.count("urls"), server.count("first"), server.count("again")), (1, 1, 1));
    }
}

#[test]
fn storage_that_refuses_again_is_believed() {
    let server = serving(|_| answer(403, &[], SECRET.as_bytes()));
    let (kind, _) = read(&server, 6, Range::Whole).unwrap_err();
    assert_eq!(kind, ErrorKind::Denied);
    assert_eq!((server.count("urls"), server.count("first"), server.count("again")), (1, 1, 1));
}

#[test]
fn what_may_pass_is_tried_so_often_and_no_more() {
    let broken: [fn() -> Reply; 6] = [
        || answer(503, &[], b""),
        || answer(500, &[], b"busy"),
        || answer(429, &[], b""),
        cut,
        // Shorter than it says, and of no length at all.
        || untrue(200, &[], 10, b"01234"),
        || Reply::Bytes(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n0123456789".to_vec()),
    ];
    for (number, broken) in broken.into_iter().enumerate() {
        let server = serving(move |seen| if seen.nth == 0 { broken() } else { answer(200, &[], BLOB) });
        assert_eq!(read(&server, 2, Range::Whole).unwrap(), BLOB, "answer {number}");
        let server = serving(move |_| broken());
        assert_eq!(kind(read(&server, 2, Range::Whole)), Some(ErrorKind::Unavailable), "answer {number}");
        assert_eq!((server.count("first"), server.count("urls")), (2, 0), "answer {number}");
    }
}

#[test]
fn another_part_than_was_asked_for_is_no_answer() {
    let part = Range::At { offset: 2, len: 3 };
    let wrong: [fn() -> Reply; 5] = [
        || answer(206, &[("content-range", "bytes 3-5/10")], b"345"),
        || answer(206, &[("content-range", "bytes 2-4/10")], b"2345"),
        || answer(206, &[("content-range", "bytes 2-4/10")], b"23"),
        || answer(206, &[("content-range", "bytes 2-3/10")], b"23"),
        || answer(206, &[], b"234"),
    ];
    for (number, wrong) in wrong.into_iter().enumerate() {
        let server = serving(move |_| wrong());
        assert_eq!(kind(read(&server, 2, part)), Some(ErrorKind::Unavailable), "answer {number}");
        assert_eq!(server.count("first"), 2, "answer {number}");
    }
    // The whole blob is one: the part is cut out of it.
    let server = serving(|_| answer(200, &[], BLOB));
    assert_eq!(read(&server, 1, part).unwrap(), b"234");
}

#[test]
fn what_cannot_pass_is_asked_once() {
    let cases: [(u16, ErrorKind); 4] = [
        (404, ErrorKind::NotFound),
        (416, ErrorKind::BadRange),
        (418, ErrorKind::Io),
        // Storage that sends elsewhere is not followed.
        (307, ErrorKind::Io),
    ];
    for (status, wanted) in cases {
        let server = serving(move |seen| {
            answer(status, &[("location", &format!("{}/elsewhere", seen.base))], SECRET.as_bytes())
        });
        assert_eq!(kind(read(&server, 6, Range::Whole)), Some(wanted), "{status}");
        assert_eq!((server.count("first"), server.count("elsewhere")), (1, 0), "{status}");
    }
}

#[test]
fn a_blob_larger_than_any_is_not_read() {
    let server = serving(|_| untrue(200, &[], 1 << 40, BLOB));
    assert_eq!(kind(read(&server, 6, Range::Whole)), Some(ErrorKind::Io));
    assert_eq!(server.count("first"), 1);
}

#[test]
fn a_grant_for_an_address_without_tls_is_not_used() {
    let urls = ["http://192.0.2.1/x?hunter2", "ftp://127.0.0.1/?hunter2", "hunter2", "file:///hunter2"];
    for url in urls {
        let server = Scripted::start(move |seen| match seen.op() {
            "mount" => mounted(&[pack_grant(url)]),
            _ => cut(),
        });
        assert_eq!(kind(read(&server, 6, Range::Whole)), Some(ErrorKind::Denied), "not refused");
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn what_is_gone_is_not_found() {
    let server = Scripted::start(|seen| match seen.op() {
        "mount" => mounted(&[]),
        _ => yes(&json!({
            "grants": [{"kind": "pack", "session": 1, "number": 0, "state": "gone"}],
            "grant_seconds": 900, "now": 1,
        })),
    });
    assert_eq!(kind(read(&server, 6, Range::Whole)), Some(ErrorKind::NotFound));
    assert_eq!((server.count("urls"), server.seen().len()), (1, 2));
}

#[test]
fn many_readers_share_one_call_for_grants() {
    let server = Scripted::start(|seen| match seen.op() {
        "mount" => mounted(&[]),
        "urls" => urls(seen),
        _ => answer(200, &[], BLOB),
    });
    let (_folder, store) = store(&server.base, 1);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            let store = store.clone();
            scope.spawn(move || handle().unwrap().block_on(store.get(PACK, Range::Whole)).unwrap());
        }
    });
    assert_eq!((server.count("urls"), store.requests()), (1, (16, 0)));
}

#[test]
fn connections_are_made_before_a_reader_comes_and_not_over_and_over() {
    for status in [206, 403, 503] {
        let server = serving(move |seen| match seen.header("range") {
            "bytes=0-0" => answer(status, &[("content-range", "bytes 0-0/10")], b"0"),
            _ => answer(200, &[], BLOB),
        });
        let (_folder, store) = store(&server.base, 1);
        // Of what there is no grant for nothing can be asked.
        store.expect(&[BlobKey::Pack(SessionNo(7), 7), PACK]);
        let until = Instant::now() + Duration::from_secs(20);
        let asked = || server.count("first") + server.count("again");
        while asked() < CONNECTIONS {
            assert!(Instant::now() < until, "{} connections were made", asked());
            std::thread::sleep(Duration::from_millis(5));
        }
        store.expect(&[PACK]);
        let got = handle().unwrap().block_on(store.get(PACK, Range::Whole)).unwrap();
        assert_eq!(got.bytes, BLOB);
        // Once, whatever storage said of it; what is asked for nobody does not count, and says nothing of storage.
        assert_eq!((asked(), store.requests()), (CONNECTIONS + 1, (1, 0)));
        assert_eq!(store.away_since(), None);
    }
}
