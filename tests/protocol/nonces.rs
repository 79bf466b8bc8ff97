//! No (key, nonce) pair is used twice: not over all pushes that were broken off and repeated.
//!
//! A frame's key follows from its pack (session, number, salt) and its nonce from its place there. So every byte
//! that ever went into a spool is assigned to its pack: by the trailer where the spool was finished, else by
//! trying which key opens its first frame. Then no place of a pack may have been sealed with two different results.

use crate::collect::{Ground, prune_on};
use crate::collect_stops::with_much_to_do;
use crate::fixture::Base;
use crate::stepped::Stepped;
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_maintain::PruneConfig;
use backupengine_model::{FrameKind, PackRef, SessionNo};
use backupengine_seal::{Keyring, MasterSecret};
use backupengine_store::{ErrorKind, Maintainable, Writable};
use backupengine_testkit::build::{TestVault, Unwatched};
use backupengine_testkit::faulty::{Fault, When};
use backupengine_testkit::recording::SpoolSeen;
use backupengine_testkit::{Faulty, Recording, Seeded, now};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const KINDS: [FrameKind; 9] = [
    FrameKind::Data,
    FrameKind::Leaf,
    FrameKind::Index,
    FrameKind::Extents,
    FrameKind::ReferenceSet,
    FrameKind::Root,
    FrameKind::Footer,
    FrameKind::Dedup,
    FrameKind::Forwarding,
];

/// Which pack a spool was sealed for.
fn pack_of(
    spool: &SpoolSeen,
    keyring: &Keyring,
    salts: &BTreeSet<[u8; 8]>,
    sessions: &[SessionNo],
) -> Option<PackRef> {
    let trailer = spool.bytes.last_chunk::<TRAILER_LEN>();
    if let Some(trailer) = trailer.and_then(|bytes| Trailer::decode(bytes).ok()) {
        return Some(trailer.pack);
    }
    let first = &spool.bytes[..*spool.writes.first()?];
    let epochs = keyring.epoch_numbers();
    let places =
        sessions.iter().rev().flat_map(|session| epochs.iter().rev().map(move |epoch| (session, *epoch)));
    for (session, epoch) in places {
        for number in (0..16).chain([PackRef::ROOT]) {
            for salt in salts {
                let pack = PackRef { session: *session, number, salt: *salt, epoch };
                let key = keyring.pack_key(&pack).unwrap();
                let opens = |kind: &FrameKind| key.open(*kind, 0, &mut first.to_vec()).is_ok();
                if KINDS.iter().any(opens) {
                    return Some(pack);
                }
            }
        }
    }
    panic!("a spool was begun that no pack key opens: {} bytes", spool.bytes.len());
}

/// Places of packs that were sealed with two different results.
fn sealed_twice<'a>(spools: impl Iterator<Item = (PackRef, &'a SpoolSeen)>) -> Vec<(PackRef, usize)> {
    let mut sealed: BTreeMap<(PackRef, usize), &[u8]> = BTreeMap::new();
    let mut twice = Vec::new();
    for (pack, spool) in spools {
        let mut at = 0;
        for len in &spool.writes {
            let frame = &spool.bytes[at..at + len];
            if sealed.insert((pack, at), frame).is_some_and(|other| other != frame) {
                twice.push((pack, at));
            }
            at += len;
        }
    }
    twice
}

fn is_finished(spool: &SpoolSeen) -> bool {
    spool.bytes.last_chunk::<TRAILER_LEN>().is_some_and(|bytes| Trailer::decode(bytes).is_ok())
}

/// One vault, pushes broken at call after call without any repair in between, then one that comes through.
fn over_all_broken_pushes(base: &Base, fault: Fault) {
    over_all(base, fault, false);
}

/// The same; `rotating`, with the vault's keys rotated between any two of them.
fn over_all(base: &Base, fault: Fault, rotating: bool) {
    let mut trial = base.trial();
    let recording = Recording::keeping_spools(Arc::clone(&trial.vault.store));
    let mut pushers = Vec::new();
    let mut call = 0;
    loop {
        call += 1;
        if rotating {
            let master = MasterSecret::from_bytes([u8::try_from(call).unwrap(); 32]);
            trial.vault.keyring = trial.vault.keyring.rotated(master).unwrap();
        }
        let pusher = trial.vault.pusher("laptop");
        let mut config = pusher.config(base.source.path());
        config.state = trial.state.path().to_owned();
        // The recording is inside: it sees what goes into a spool even where that fails.
        let broken = Faulty::new(Arc::new(recording.clone()))
            .with(When::Call(call), fault)
            .with(When::From(call + 1), Fault::Refuse(ErrorKind::Unavailable));
        let store: Arc<dyn Writable> = Arc::new(broken.clone());
        let outcome = pusher.push_to(&store, config, &Unwatched);
        pushers.push(pusher);
        if broken.calls() < call {
            outcome.unwrap();
            break;
        }
    }
    let drawn = pushers.iter().flat_map(|pusher| pusher.random.given());
    let salts: BTreeSet<[u8; 8]> = drawn.filter_map(|bytes| bytes.try_into().ok()).collect();
    let sessions: Vec<SessionNo> =
        now(trial.vault.store.sessions()).unwrap().iter().map(|s| s.session).collect();
    let spools = recording.spools();
    let finished = spools.iter().filter(|spool| is_finished(spool)).count();
    let broken = spools.iter().filter(|spool| !is_finished(spool) && !spool.bytes.is_empty()).count();
    assert!(finished > 2 && broken > 2, "{finished} spools were finished and {broken} broken off");
    let assigned = spools
        .iter()
        .filter_map(|spool| Some((pack_of(spool, &trial.vault.keyring, &salts, &sessions)?, spool)));
    let assigned: Vec<_> = assigned.collect();
    let epochs: BTreeSet<u16> = assigned.iter().map(|(pack, _)| pack.epoch).collect();
    assert!(!rotating || epochs.len() > 3, "packs of {epochs:?} were sealed");
    assert_eq!(sealed_twice(assigned.into_iter()), []);
    base.check(&trial);
}

#[test]
fn no_pair_twice_over_pushes_stopped_at_every_call() {
    over_all_broken_pushes(&Base::in_memory(), Fault::Refuse(ErrorKind::Unavailable));
}

#[test]
fn no_pair_twice_over_pushes_that_lost_an_answer() {
    over_all_broken_pushes(&Base::in_memory(), Fault::LoseAnswer);
}

/// Collections that were broken off and repeated: each copies anew, into sessions and under salts of its own.
fn over_all_broken_collections(rotating: bool) {
    let mut ground = with_much_to_do(Ground::in_memory());
    let recording = Recording::keeping_spools(Arc::clone(&ground.vault.store));
    let inside: Arc<dyn Writable> = Arc::new(recording.clone());
    let recorded: Arc<dyn Maintainable> = Arc::new(Stepped::through(inside, &ground.store));
    let random = Seeded::new(21);
    for call in 1.. {
        // Not before each: which key opens what was broken off is tried out.
        if rotating && call % 5 == 0 {
            let master = MasterSecret::from_bytes([u8::try_from(call).unwrap(); 32]);
            ground.vault.keyring = ground.vault.keyring.rotated(master).unwrap();
        }
        let broken = Faulty::maintained(Arc::clone(&recorded))
            .with(When::From(call), Fault::Refuse(ErrorKind::Unavailable));
        let store: Arc<dyn Maintainable> = Arc::new(broken.clone());
        let outcome = prune_on(&ground.vault, &store, &PruneConfig::default(), &random);
        if broken.calls() < call {
            outcome.unwrap();
            break;
        }
    }
    ground.check();
    let salts: BTreeSet<[u8; 8]> =
        random.given().into_iter().filter_map(|bytes| bytes.try_into().ok()).collect();
    let sessions: Vec<SessionNo> = ground.sessions().iter().map(|s| s.session).collect();
    let spools = recording.spools();
    let finished = spools.iter().filter(|spool| is_finished(spool)).count();
    let broken = spools.iter().filter(|spool| !is_finished(spool) && !spool.bytes.is_empty()).count();
    assert!(finished > 2 && broken > 2, "{finished} spools were finished and {broken} broken off");
    let keyring = &ground.vault.keyring;
    let assigned: Vec<_> = spools
        .iter()
        .filter_map(|spool| Some((pack_of(spool, keyring, &salts, &sessions)?, spool)))
        .collect();
    let epochs: BTreeSet<u16> = assigned.iter().map(|(pack, _)| pack.epoch).collect();
    assert!(!rotating || epochs.len() > 2, "packs of {epochs:?} were sealed");
    assert_eq!(sealed_twice(assigned.into_iter()), []);
}

#[test]
fn no_pair_twice_over_collections_stopped_at_every_call() {
    over_all_broken_collections(false);
}

#[test]
fn no_pair_twice_over_collections_with_rotations_between_them() {
    over_all_broken_collections(true);
}

/// Each push goes on where the one before was broken off, under another key.
#[test]
fn no_pair_twice_over_pushes_with_a_rotation_between_any_two() {
    over_all(&Base::in_memory(), Fault::Refuse(ErrorKind::Unavailable), true);
    over_all(&Base::in_memory(), Fault::LoseAnswer, true);
}

/// The check itself notices a pack that is sealed twice.
#[test]
fn a_pack_sealed_twice_is_noticed() {
    let keyring = TestVault::in_memory().keyring;
    let session = SessionNo(4);
    let pack = PackRef { session, number: 3, salt: [5; 8], epoch: keyring.current_epoch() };
    let sealed = |text: &[u8]| {
        let mut bytes = text.to_vec();
        keyring.pack_key(&pack).unwrap().seal(FrameKind::Data, 0, &mut bytes, 0);
        SpoolSeen { writes: vec![bytes.len()], bytes }
    };
    let (one, two) = (sealed(b"one"), sealed(b"two"));
    for spool in [&one, &two] {
        assert_eq!(pack_of(spool, &keyring, &BTreeSet::from([[4; 8], [5; 8]]), &[session]), Some(pack));
    }
    assert_eq!(sealed_twice([(pack, &one), (pack, &one)].into_iter()), []);
    assert_eq!(sealed_twice([(pack, &one), (pack, &two)].into_iter()), [(pack, 0)]);
}
