//! Object storage over HTTP: other bytes, fewer of them, none, another part than was asked for.
use crate::http_room::{Room, first_bytes};
use crate::world::refusal;
use backupengine_model::ReadFailure;
use backupengine_store::{BlobKey, ErrorKind};
use backupengine_tests::relay::Reply;
use backupengine_vault::VaultError;

#[test]
fn no_blob_passes_for_another() {
    let room = Room::with(3);
    let truth = room.truth(room.newest());
    let packs: Vec<_> = room.names().into_iter().filter(|key| matches!(key, BlobKey::Pack(..))).collect();
    let mut needed = 0;
    for &asked in &packs {
        for &answered in packs.iter().filter(|other| **other != asked) {
            room.has(asked, room.blob(answered));
            // The newest snapshot need not need that pack.
            if let Err(error) = room.reads(room.newest(), &truth) {
                assert_eq!(error.failure, ReadFailure::Damaged, "{asked} answered by {answered}: {error}");
                assert!(error.message.contains(&asked.to_string()), "{error}");
                needed += 1;
            }
        }
    }
    assert!(needed >= packs.len(), "most packs are needed: {needed} of {}", packs.len());
    room.storage.is_honest();
    room.reads(room.newest(), &truth).unwrap();
}

#[test]
fn an_old_root_does_not_pass_for_the_new_one() {
    let room = Room::with(3);
    for (asked, answered) in [(2, 0), (2, 1), (0, 2)] {
        let (asked, answered) = (room.sessions[asked], room.sessions[answered]);
        room.has(BlobKey::Root(asked), room.blob(BlobKey::Root(answered)));
        let refused = refusal(&room.client(), asked);
        let VaultError::Damaged { blob, what, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!((*blob, *what), (BlobKey::Root(asked), "another pack lies under this name"));
    }
}

#[test]
fn what_is_cut_or_withheld_is_told() {
    let room = Room::with(2);
    let (newest, truth) = (room.newest(), room.truth(room.newest()));
    for key in room.names() {
        if key == BlobKey::Root(room.sessions[0]) {
            continue;
        }
        let whole = room.blob(key);
        let told = |what: &str| {
            let error = room.reads(newest, &truth).expect_err(what);
            assert!(error.message.contains(&key.to_string()), "{what}: {error}");
            (error.failure, error.message.to_string())
        };
        // The connection ends in the middle of what was announced.
        room.says(key, |_, pass| {
            let reply = pass();
            Reply { cut: Some(reply.body.len() / 2), ..reply }
        });
        let (failure, said) = told("cut off");
        assert_eq!(failure, ReadFailure::TimedOut, "{said}");
        assert!(said.contains("object storage could not be reached"), "{said}");
        // A blob that is shorter than it was.
        for len in [1, whole.len() / 2, whole.len() - 1] {
            room.has(key, whole[..len].to_vec());
            assert_eq!(told("shorter").0, ReadFailure::Damaged, "{key} of {len} bytes");
        }
        room.says(key, |_, _| Reply::status(404));
        let (failure, said) = told("withheld");
        assert_eq!(failure, ReadFailure::Damaged);
        assert!(said.contains("it is not in object storage"), "{said}");
        room.says(key, |_, _| Reply::status(403));
        let (failure, said) = told("denied");
        assert_eq!(failure, ReadFailure::Denied);
        assert!(said.contains("object storage refused it: status 403, with a new grant as well"), "{said}");
        room.storage.is_honest();
        room.reads(newest, &truth).unwrap();
    }
}

#[test]
fn another_part_than_was_asked_for_is_never_shown() {
    let room = Room::with(1);
    let (newest, truth) = (room.newest(), room.truth(room.newest()));
    for key in room.names() {
        let whole = room.blob(key);
        // Said to be another part: by one byte, and by none of them.
        room.says(key, move |asked, _| {
            let range = asked.header("range");
            let mut reply = Reply::part(&whole, range);
            if range.is_some() {
                reply.body.rotate_left(1);
                let place = format!("bytes 1-{}/{}", reply.body.len(), whole.len() + 1);
                reply.headers = vec![("content-range".to_owned(), place)];
            }
            reply
        });
        let error = room.reads(newest, &truth).unwrap_err();
        assert_eq!(error.failure, ReadFailure::TimedOut, "{error}");
        assert!(error.message.contains("another part than was asked for"), "{error}");
        // Passed off as the part that was asked for.
        room.says(key, |_, pass| {
            let mut reply = pass();
            reply.body.rotate_left(1);
            reply
        });
        let error = room.reads(newest, &truth).unwrap_err();
        assert_eq!(error.failure, ReadFailure::Damaged, "{error}");
        assert!(error.message.contains(&key.to_string()), "{error}");
        // The whole blob in place of a part holds the part.
        let whole = room.blob(key);
        room.says(key, move |_, _| Reply::part(&whole, None));
        room.reads(newest, &truth).unwrap();
    }
}

#[test]
fn storage_that_sends_elsewhere_is_not_followed() {
    let room = Room::with(1);
    let (newest, truth) = (room.newest(), room.truth(room.newest()));
    let elsewhere = backupengine_tests::relay::Relay::start();
    let to = format!("{}/x", elsewhere.base());
    for status in [301, 302, 307, 308] {
        let to = to.clone();
        room.storage.lies(move |_, _| {
            let headers = vec![("location".to_owned(), to.clone())];
            Reply { headers, ..Reply::status(status) }
        });
        let error = room.reads(newest, &truth).unwrap_err();
        assert!(
            error
                .message
                .contains(&format!("object storage did not do it: it answered with status {status}")),
            "{error}"
        );
        let refused = first_bytes(&room.store(), BlobKey::Root(newest)).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Io);
    }
    assert!(elsewhere.seen().is_empty(), "nobody goes there");
}
