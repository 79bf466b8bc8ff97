//! The control plane hands out grants: for other blobs than it says, at other hosts, or none.
use crate::http_room::{Room, changed, first_bytes};
use backupengine_api::{GetGrant, Grant, PutGrants, Want, WantUrls, op};
use backupengine_model::{ReadFailure, TreeReader};
use backupengine_push::PushError;
use backupengine_store::{BlobKey, ErrorKind};
use backupengine_testkit::build::{Unwatched, VAULT};
use backupengine_tests::relay::{Relay, Reply};
use backupengine_vault::Floor;
use std::sync::Arc;

/// The same blob on another host.
fn elsewhere(grant: &GetGrant, host: &str) -> GetGrant {
    let url = grant.url.as_ref().map(|url| {
        let path = url.0.splitn(4, '/').nth(3).unwrap();
        Grant(format!("{host}/{path}"))
    });
    GetGrant { url, ..grant.clone() }
}

#[test]
fn grants_of_two_blobs_exchanged_show_nothing_false() {
    let room = Room::with(3);
    let truth = room.truth(room.newest());
    // All of a call, one place round: packs for packs, the root for a pack.
    room.grants(|grants| {
        let mut urls: Vec<_> = grants.iter().map(|grant| grant.url.clone()).collect();
        urls.rotate_right(1.min(grants.len()));
        grants.iter_mut().zip(urls).for_each(|(grant, url)| grant.url = url);
    });
    let error =
        room.reads(room.newest(), &truth).expect_err("all grants of the opening call are of other blobs");
    assert_eq!(error.failure, ReadFailure::Damaged, "{error}");
    // Two packs and no more.
    room.control.is_honest();
    let packs = granted(&room);
    let mut needed = 0;
    for (at, one) in packs.iter().enumerate() {
        for other in &packs[at + 1..] {
            let (one, other) = (one.clone(), other.clone());
            room.grants(move |grants| {
                for grant in grants {
                    if is_same(grant, &one) {
                        grant.url.clone_from(&other.url);
                    } else if is_same(grant, &other) {
                        grant.url.clone_from(&one.url);
                    }
                }
            });
            // The newest snapshot need not need either.
            if let Err(error) = room.reads(room.newest(), &truth) {
                assert_eq!(error.failure, ReadFailure::Damaged, "{error}");
                assert!(error.message.contains("p/"), "it names the pack: {error}");
                needed += 1;
            }
        }
    }
    assert!(needed >= packs.len() - 1, "most packs are needed: {needed} of {}", packs.len());
}

/// True grants for all packs.
fn granted(room: &Room) -> Vec<GetGrant> {
    let packs = room.names().into_iter().filter_map(|key| match key {
        BlobKey::Pack(session, from) => {
            Some(Want { kind: "pack".to_owned(), session: session.0, from, count: 1 })
        }
        _ => None,
    });
    let request = WantUrls { vault: VAULT, want: packs.collect(), lease: None };
    room.account.call::<op::Urls>(&request).unwrap().grants
}

fn is_same(one: &GetGrant, other: &GetGrant) -> bool {
    (&one.kind, one.session, one.number) == (&other.kind, other.session, other.number)
}

#[test]
fn a_grant_at_another_host_shows_nothing_false_and_tells_nothing() {
    let room = Room::with(2);
    let (newest, truth) = (room.newest(), room.truth(room.newest()));
    let evil = Relay::start();
    let host = evil.base().to_owned();
    room.grants(move |grants| grants.iter_mut().for_each(|grant| *grant = elsewhere(grant, &host)));
    evil.lies(|asked, _| Reply::part(&[0x5a; 200_000], asked.header("range")));
    let error = room.reads(newest, &truth).unwrap_err();
    assert_eq!(error.failure, ReadFailure::Damaged, "{error}");
    assert!(error.message.contains(&BlobKey::Root(newest).to_string()), "{error}");
    let asked = evil.seen();
    assert!(!asked.is_empty());
    for header in ["authorization", "cookie", "signature", "signature-input"] {
        assert!(
            asked.iter().all(|asked| asked.header(header).is_none()),
            "{header} is not storage's business"
        );
    }
}

#[test]
fn a_grant_without_tls_off_this_machine_is_not_used() {
    let room = Room::with(1);
    let key = BlobKey::Root(room.newest());
    for host in ["http://192.0.2.1", "ftp://127.0.0.1", "file://"] {
        room.grants(move |grants| grants.iter_mut().for_each(|grant| *grant = elsewhere(grant, host)));
        let refused = first_bytes(&room.store(), key).unwrap_err();
        assert_eq!((refused.kind, refused.key), (ErrorKind::Denied, Some(key)));
        assert!(refused.message.starts_with("the grant is not used: "), "{refused}");
        assert!(!refused.to_string().contains("X-Amz"), "{refused}");
    }
}

#[test]
fn blobs_called_gone_are_said_to_be_missing() {
    let room = Room::with(2);
    let (newest, truth) = (room.newest(), room.truth(room.newest()));
    let floor = room.client().check_floor(&Floor::default()).unwrap();
    room.grants(|grants| {
        for grant in grants.iter_mut().filter(|grant| grant.kind == "pack") {
            *grant = GetGrant { state: "gone".to_owned(), url: None, ..grant.clone() };
        }
    });
    let error = room.reads(newest, &truth).unwrap_err();
    assert_eq!(error.failure, ReadFailure::Damaged, "{error}");
    assert!(error.message.contains("the control plane knows no such blob"), "{error}");
    // Of the list nothing was taken back.
    assert_eq!(room.client().check_floor(&floor).unwrap(), floor);
    // Grants for fewer blobs than were asked for.
    room.grants(Vec::clear);
    let error = room.reads(newest, &truth).unwrap_err();
    assert_eq!(error.failure, ReadFailure::Damaged, "{error}");
}

/// What is put where the server sends it does not become a snapshot: the ledger counts what is in the bucket.
#[test]
fn what_was_put_elsewhere_is_no_snapshot() {
    let room = Room::with(1);
    let floor = room.client().check_floor(&Floor::default()).unwrap();
    let evil = Relay::start();
    let host = evil.base().to_owned();
    evil.lies(|_, _| Reply::status(200));
    room.control.lies(move |asked, pass| {
        let mut reply = pass();
        if asked.op() == "session-urls" {
            changed::<PutGrants>(&mut reply, |answer| {
                for grant in &mut answer.grants {
                    let path = grant.url.0.splitn(4, '/').nth(3).unwrap().to_owned();
                    grant.url = Grant(format!("{host}/{path}"));
                }
            });
        }
        reply
    });
    std::fs::write(room.source().join("new"), b"the text of a new file").unwrap();
    let store = Arc::new(room.asking_store()) as Arc<dyn backupengine_store::Writable>;
    let refused = room.device.push_to(&store, room.device.config(room.source()), &Unwatched).unwrap_err();
    assert!(matches!(refused, PushError::Store(_)), "{refused:?}");
    let put = evil.seen();
    assert!(!put.is_empty() && put.iter().all(|asked| asked.header("authorization").is_none()));
    room.control.is_honest();
    assert_eq!(room.client().check_floor(&floor).unwrap(), floor);
    assert_eq!(room.client().snapshots().unwrap().len(), 1);
}
