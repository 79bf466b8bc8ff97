//! The bytes of the ledger: magic, version, vault id and state in CBOR, and a checksum.
//!
//! `"BKELEDG1" ‖ CBOR [version, vault, last session, list version, epoch, sessions, snapshots, trash, held, leases,
//! envelopes?] ‖ crc32c u32 LE`
//!
//! Version 3, since the key envelopes were changed for the first time, ends in the numbers of those that count: a program
//! that did not know of them would believe in some that were taken away. Until then version 2 is written, without them.
//! Version 1, which knew no collection, is still read.
//!
//! May not do I/O. What always holds: only the bytes that `encode` gives decode, and what was allocated never
//! exceeds what the file could hold. Tested below: every flipped byte and every cut is refused.

use backupengine_model::ledger::{
    ENVELOPES_MAX, LABEL_MAX, Lease, LedgerState, Moved, SessionKind, SessionRecord, SessionState, Since,
    SnapshotRecord, Trashed,
};
use backupengine_model::{DeviceId, SessionNo, SnapshotId, Timestamp, VaultId};
use minicbor::decode::{Decoder, Error as DecodeError};
use minicbor::encode::{Encoder, Error as EncodeError};
use std::convert::Infallible;
use std::ops::Range;
use thiserror::Error;

const MAGIC: &[u8; 8] = b"BKELEDG1";
/// Sessions without kinds and packs; no epoch, trash, holds, leases.
const WITHOUT_COLLECTION: u64 = 1;
/// All that are stored count.
const WITHOUT_ENVELOPES: u64 = 2;
/// The newest: the key envelopes that count are named.
const WITH_ENVELOPES: u64 = 3;
const SUM_LEN: usize = 4;

/// Why bytes are no ledger.
#[derive(Debug, Error)]
pub(crate) enum RecordError {
    #[error("the file is cut short or does not begin as a ledger does")]
    NotALedger,
    #[error("its checksum does not hold")]
    Checksum,
    #[error("it is of version {0}, newer than this program")]
    TooNew(u64),
    #[error("it is not encoded as a ledger must be")]
    Encoding(#[source] DecodeError),
    #[error("its records contradict each other")]
    Inconsistent,
    #[error("it belongs to another vault")]
    OtherVault,
}

impl From<DecodeError> for RecordError {
    fn from(error: DecodeError) -> Self {
        Self::Encoding(error)
    }
}

/// The whole file.
pub(crate) fn encode(vault: VaultId, state: &LedgerState) -> Vec<u8> {
    let mut out = Encoder::new(MAGIC.to_vec());
    write(&mut out, vault, state).expect("a Vec takes every write, and no record encodes itself");
    let mut bytes = out.into_writer();
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn write(
    out: &mut Encoder<Vec<u8>>,
    vault: VaultId,
    state: &LedgerState,
) -> Result<(), EncodeError<Infallible>> {
    let (fields, version) = match state.envelopes {
        Some(_) => (11, WITH_ENVELOPES),
        None => (10, WITHOUT_ENVELOPES),
    };
    out.array(fields)?.u64(version)?.bytes(&vault.0)?.u32(state.last_session)?.u64(state.version)?;
    out.u64(state.gc_epoch)?.array(state.sessions.len() as u64)?;
    for s in &state.sessions {
        write_session(out, s)?;
    }
    out.array(state.snapshots.len() as u64)?;
    for snapshot in &state.snapshots {
        write_snapshot(out, snapshot)?;
    }
    out.array(state.trash.len() as u64)?;
    for trashed in &state.trash {
        out.array(2)?;
        write_snapshot(out, &trashed.snapshot)?;
        write_time(out, trashed.purge_after)?;
    }
    out.array(state.held.len() as u64)?;
    for held in &state.held {
        out.u32(held.0)?;
    }
    out.array(state.leases.len() as u64)?;
    for lease in &state.leases {
        out.array(3)?.bytes(&lease.id)?;
        write_time(out, lease.expires)?;
        out.array(lease.snapshots.len() as u64)?;
        for session in &lease.snapshots {
            out.u32(session.0)?;
        }
    }
    if let Some(envelopes) = &state.envelopes {
        out.array(envelopes.len() as u64)?;
        for number in envelopes {
            out.bytes(number)?;
        }
    }
    Ok(())
}

type Written = Result<(), EncodeError<Infallible>>;

fn write_time(out: &mut Encoder<Vec<u8>>, at: Timestamp) -> Written {
    out.array(2)?.i64(at.secs)?.u32(at.nanos)?;
    Ok(())
}

fn write_since(out: &mut Encoder<Vec<u8>>, since: Since) -> Written {
    out.u64(since.epoch)?;
    write_time(out, since.at)
}

fn write_session(out: &mut Encoder<Vec<u8>>, s: &SessionRecord) -> Written {
    out.array(12)?.u32(s.session.0)?.bytes(&s.device.0)?.i64(s.opened.secs)?.u32(s.opened.nanos)?;
    out.u8(s.state as u8)?.u32(s.packs)?.u64(s.bytes)?.u8(s.kind as u8)?.u64(s.acked)?;
    out.array(s.retired.len() as u64)?;
    for (run, since) in s.retired.iter() {
        out.array(4)?.u32(run.start)?.u32(run.end)?;
        write_since(out, *since)?;
    }
    out.array(s.deleted.len() as u64)?;
    for run in s.deleted.iter() {
        out.array(2)?.u32(run.start)?.u32(run.end)?;
    }
    out.array(s.moved.len() as u64)?;
    for (number, moved) in &s.moved {
        out.array(6)?.u32(*number)?.u32(moved.to.0)?.u32(moved.number)?;
        write_since(out, moved.since)?;
        out.bool(moved.gone)?;
    }
    Ok(())
}

fn write_snapshot(out: &mut Encoder<Vec<u8>>, s: &SnapshotRecord) -> Written {
    out.array(8)?.u32(s.session.0)?.bytes(&s.id.0)?.bytes(&s.device.0)?.i64(s.created.secs)?;
    out.u32(s.created.nanos)?.u64(s.root_size)?.u32(s.head_len)?.bytes(&s.label)?;
    Ok(())
}

/// Back from the whole file of `vault`.
///
/// # Errors
/// [`RecordError`] for anything but the bytes `encode` gives.
pub(crate) fn decode(vault: VaultId, bytes: &[u8]) -> Result<LedgerState, RecordError> {
    let (body, sum) = bytes.split_last_chunk::<SUM_LEN>().ok_or(RecordError::NotALedger)?;
    let cbor = body.strip_prefix(MAGIC).ok_or(RecordError::NotALedger)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
        return Err(RecordError::Checksum);
    }
    let mut input = Decoder::new(cbor);
    let fields = input.array()?;
    let version = input.u64()?;
    if version > WITH_ENVELOPES {
        return Err(RecordError::TooNew(version));
    }
    let expected = match version {
        WITHOUT_COLLECTION => 6,
        WITHOUT_ENVELOPES => 10,
        WITH_ENVELOPES => 11,
        _ => return Err(RecordError::Inconsistent),
    };
    let with_collection = version != WITHOUT_COLLECTION;
    if fields != Some(expected) {
        return Err(RecordError::Inconsistent);
    }
    if fixed(&mut input)? != vault.0 {
        return Err(RecordError::OtherVault);
    }
    let mut state =
        LedgerState { last_session: input.u32()?, version: input.u64()?, ..LedgerState::default() };
    if with_collection {
        state.gc_epoch = input.u64()?;
    }
    state.sessions = list(&mut input, |input| session(input, with_collection))?;
    state.snapshots = list(&mut input, snapshot)?;
    if with_collection {
        state.trash = list(&mut input, trashed)?;
        state.held = list(&mut input, |input| Ok(SessionNo(input.u32()?)))?.into_iter().collect();
        state.leases = list(&mut input, lease)?;
        if version == WITH_ENVELOPES {
            state.envelopes = Some(list(&mut input, fixed)?);
        }
        // One spelling for one state: whatever else decodes to it (longer integers, bytes behind) is refused.
        if encode(vault, &state) != bytes {
            return Err(RecordError::Inconsistent);
        }
    }
    if input.position() != input.input().len() || !is_consistent(&state) {
        return Err(RecordError::Inconsistent);
    }
    Ok(state)
}

/// An array of records, each at least a byte: no length makes more be reserved than the file could hold.
fn list<T>(
    input: &mut Decoder<'_>,
    record: impl Fn(&mut Decoder<'_>) -> Result<T, RecordError>,
) -> Result<Vec<T>, RecordError> {
    let count = input.array()?.ok_or(RecordError::Inconsistent)?;
    if count > input.input().len().saturating_sub(input.position()) as u64 {
        return Err(RecordError::Inconsistent);
    }
    (0..count).map(|_| record(input)).collect()
}

fn fixed<const N: usize>(input: &mut Decoder<'_>) -> Result<[u8; N], RecordError> {
    input.bytes()?.try_into().map_err(|_| RecordError::Inconsistent)
}

fn fields(input: &mut Decoder<'_>, expected: u64) -> Result<(), RecordError> {
    if input.array()? == Some(expected) { Ok(()) } else { Err(RecordError::Inconsistent) }
}

fn time(input: &mut Decoder<'_>) -> Result<Timestamp, RecordError> {
    fields(input, 2)?;
    Ok(Timestamp { secs: input.i64()?, nanos: input.u32()? })
}

fn since(input: &mut Decoder<'_>) -> Result<Since, RecordError> {
    Ok(Since { epoch: input.u64()?, at: time(input)? })
}

fn run(input: &mut Decoder<'_>) -> Result<Range<u32>, RecordError> {
    let run = input.u32()?..input.u32()?;
    if run.is_empty() { Err(RecordError::Inconsistent) } else { Ok(run) }
}

fn session(input: &mut Decoder<'_>, with_collection: bool) -> Result<SessionRecord, RecordError> {
    fields(input, if with_collection { 12 } else { 7 })?;
    let (number, device) = (SessionNo(input.u32()?), DeviceId(fixed(input)?));
    let opened = Timestamp { secs: input.i64()?, nanos: input.u32()? };
    let mut record = SessionRecord::new(number, device, opened);
    record.state = match input.u8()? {
        0 => SessionState::Open,
        1 => SessionState::Committed,
        2 if with_collection => SessionState::Expired,
        _ => return Err(RecordError::Inconsistent),
    };
    (record.packs, record.bytes) = (input.u32()?, input.u64()?);
    if !with_collection {
        return Ok(record);
    }
    record.kind = match input.u8()? {
        0 => SessionKind::Push,
        1 => SessionKind::Compact,
        2 => SessionKind::Heal,
        _ => return Err(RecordError::Inconsistent),
    };
    record.acked = input.u64()?;
    let retired = |input: &mut Decoder<'_>| {
        fields(input, 4)?;
        Ok((run(input)?, since(input)?))
    };
    record.retired = list(input, retired)?.into_iter().collect();
    let deleted = |input: &mut Decoder<'_>| {
        fields(input, 2)?;
        run(input)
    };
    record.deleted = list(input, deleted)?.into_iter().collect();
    let moved = |input: &mut Decoder<'_>| {
        fields(input, 6)?;
        let (from, to, number) = (input.u32()?, SessionNo(input.u32()?), input.u32()?);
        Ok((from, Moved { to, number, since: since(input)?, gone: input.bool()? }))
    };
    record.moved = list(input, moved)?.into_iter().collect();
    Ok(record)
}

fn trashed(input: &mut Decoder<'_>) -> Result<Trashed, RecordError> {
    fields(input, 2)?;
    Ok(Trashed { snapshot: snapshot(input)?, purge_after: time(input)? })
}

fn lease(input: &mut Decoder<'_>) -> Result<Lease, RecordError> {
    fields(input, 3)?;
    let (id, expires) = (fixed(input)?, time(input)?);
    Ok(Lease { id, expires, snapshots: list(input, |input| Ok(SessionNo(input.u32()?)))? })
}

fn snapshot(input: &mut Decoder<'_>) -> Result<SnapshotRecord, RecordError> {
    fields(input, 8)?;
    Ok(SnapshotRecord {
        session: SessionNo(input.u32()?),
        id: SnapshotId(fixed(input)?),
        device: DeviceId(fixed(input)?),
        created: Timestamp { secs: input.i64()?, nanos: input.u32()? },
        root_size: input.u64()?,
        head_len: input.u32()?,
        label: input.bytes()?.to_vec(),
    })
}

/// What the rules of the ledger can lead to: numbers ascend and were given, a snapshot has its session and is in one
/// list, what is retired, deleted or moved is of a session that was committed, and no vault is without a key envelope.
fn is_consistent(state: &LedgerState) -> bool {
    let trash = || state.trash.iter().map(|t| &t.snapshot);
    let ascending = state.sessions.is_sorted_by(|a, b| a.session < b.session)
        && state.snapshots.is_sorted_by(|a, b| a.session < b.session)
        && trash().is_sorted_by(|a, b| a.session < b.session)
        && state.leases.iter().all(|lease| lease.snapshots.is_sorted_by(|a, b| a < b));
    let named = state
        .envelopes
        .as_ref()
        .is_none_or(|named| (1..=ENVELOPES_MAX).contains(&named.len()) && named.is_sorted_by(|a, b| a < b));
    let listed = |number: &SessionNo| state.snapshots.binary_search_by_key(number, |s| s.session).is_ok();
    let good = |s: &SessionRecord| {
        let given = s.session.0 >= 1 && s.session.0 <= state.last_session;
        let untouched = s.retired.is_empty() && s.deleted.is_empty() && s.moved.is_empty();
        given && s.acked <= state.gc_epoch && (untouched || s.state == SessionState::Committed)
    };
    ascending
        && named
        && state.sessions.iter().all(good)
        && trash().all(|snapshot| !listed(&snapshot.session))
        && state.snapshots.iter().chain(trash()).all(|snapshot| {
            let session = state.session(snapshot.session);
            snapshot.label.len() <= LABEL_MAX
                && session.is_some_and(|s| s.state == SessionState::Committed && s.device == snapshot.device)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::ledger::{Commit, GRACE_SECS, Haste, Move, PackRun};

    const VAULT: VaultId = VaultId([5; 16]);

    fn at(secs: i64) -> Timestamp {
        Timestamp { secs, nanos: 999_999_999 }
    }

    /// Everything a ledger can hold.
    fn state() -> LedgerState {
        let mut state = LedgerState::default();
        let packs = |session, from, count| PackRun { session, from, count };
        for number in 1..=5u8 {
            let device = DeviceId([number % 2; 16]);
            let session = state.open(device, SessionKind::Push, at(i64::from(number) - 5)).unwrap();
            if number == 3 {
                continue;
            }
            let snapshot = SnapshotRecord {
                session,
                id: SnapshotId([number; 8]),
                device,
                created: Timestamp { secs: i64::MIN, nanos: 0 },
                root_size: u64::MAX,
                head_len: 300,
                label: vec![number; usize::from(number) * 40],
            };
            let commit = Commit {
                snapshot,
                packs: 9,
                bytes: 1 << 40,
                meta_packs: Vec::new(),
                gc_epoch: None,
                hold: None,
            };
            state.commit(device, &commit).unwrap();
        }
        let moving = state.open(DeviceId([0; 16]), SessionKind::Compact, at(5)).unwrap();
        state.end_relocation(DeviceId([0; 16]), moving, 2, 7).unwrap();
        state.expire(at(10 * GRACE_SECS), &|_| None);
        state
            .retire(state.counters(), &[packs(SessionNo(1), 2, 5), packs(SessionNo(2), 8, 1)], at(5))
            .unwrap();
        state.retire(state.counters(), &[packs(SessionNo(1), 0, 1)], at(6)).unwrap();
        let (from, to) = ((SessionNo(4), 3), (moving, 1));
        state.relocate(state.counters(), &[Move { from, to }], at(7)).unwrap();
        state
            .purge(&[packs(SessionNo(1), 3, 2), packs(SessionNo(4), 0, 9)], at(8), Haste::Now, &|_, _| 1)
            .unwrap();
        state.trash(&[SessionNo(4)], at(9)).unwrap();
        state.hold(&[SessionNo(5)], true).unwrap();
        state.lease([7; 16], &[SessionNo(1), SessionNo(4)], at(10));
        state.open(DeviceId([1; 16]), SessionKind::Heal, at(11)).unwrap();
        state.envelopes = Some(vec![[1; 8], [2; 8]]);
        state
    }

    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.truncate(bytes.len() - SUM_LEN);
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        for state in [LedgerState::default(), state(), LedgerState { envelopes: None, ..state() }] {
            assert_eq!(decode(VAULT, &encode(VAULT, &state)).unwrap(), state);
        }
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_refused() {
        let whole = encode(VAULT, &state());
        for at in 0..whole.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= flip;
                assert!(decode(VAULT, &damaged).is_err(), "byte {at} ^ {flip:#x}");
            }
            assert!(decode(VAULT, &whole[..at]).is_err(), "cut to {at}");
        }
        let longer = [whole.as_slice(), b"\0"].concat();
        assert!(decode(VAULT, &longer).is_err());
        assert!(decode(VAULT, &sealed([whole.as_slice(), b"\0"].concat())).is_err());
    }

    #[test]
    fn a_flip_under_a_right_checksum_never_gives_the_same_state() {
        let (state, whole) = (state(), encode(VAULT, &state()));
        for at in MAGIC.len()..whole.len() - SUM_LEN {
            for flip in 1..=255u8 {
                let mut other = whole.clone();
                other[at] ^= flip;
                if let Ok(decoded) = decode(VAULT, &sealed(other)) {
                    assert_ne!(decoded, state, "byte {at} ^ {flip:#x}");
                }
            }
        }
    }

    #[test]
    fn newer_and_foreign_ledgers_are_told_apart() {
        let mut newer = encode(VAULT, &LedgerState::default());
        newer[MAGIC.len() + 1] = 4;
        assert!(matches!(decode(VAULT, &sealed(newer)), Err(RecordError::TooNew(4))));
        let foreign = encode(VaultId([6; 16]), &state());
        assert!(matches!(decode(VAULT, &foreign), Err(RecordError::OtherVault)));
    }

    /// The bytes of version 2 as it was before envelopes were named: an empty vault's, spelt out.
    #[test]
    fn ledgers_from_before_named_envelopes_are_read_and_stay_as_they_are() {
        let mut out = Encoder::new(MAGIC.to_vec());
        out.array(10).unwrap().u64(2).unwrap().bytes(&VAULT.0).unwrap().u32(7).unwrap().u64(5).unwrap();
        out.u64(3).unwrap();
        for _ in 0..5 {
            out.array(0).unwrap();
        }
        let whole = sealed([out.writer().as_slice(), &[0; SUM_LEN]].concat());
        let expected = LedgerState { last_session: 7, version: 5, gc_epoch: 3, ..LedgerState::default() };
        assert_eq!(decode(VAULT, &whole).unwrap(), expected);
        assert_eq!(
            encode(VAULT, &expected),
            whole,
            "and written so again while nobody changed the envelopes"
        );
        // With everything else a ledger can hold: the version and the number of fields are all that differs in front.
        let full = LedgerState { envelopes: None, ..state() };
        let bytes = encode(VAULT, &full);
        assert_eq!((bytes[MAGIC.len()], bytes[MAGIC.len() + 1]), (0x8a, 2));
        assert_eq!(decode(VAULT, &bytes).unwrap(), full);
        let named = encode(VAULT, &state());
        assert_eq!((named[MAGIC.len()], named[MAGIC.len() + 1]), (0x8b, 3));
        assert!(named[MAGIC.len() + 2..].starts_with(&bytes[MAGIC.len() + 2..bytes.len() - SUM_LEN]));
        // Neither passes for the other.
        for (bytes, version) in [(&bytes, 3), (&named, 2)] {
            let mut other = bytes.clone();
            other[MAGIC.len() + 1] = version;
            assert!(decode(VAULT, &sealed(other)).is_err());
        }
    }

    #[test]
    fn ledgers_from_before_collection_are_read() {
        // Two sessions and no snapshot: in front of the checksum.
        let written = |ends: [u8; 2]| {
            let mut out = Encoder::new(MAGIC.to_vec());
            out.array(6).unwrap().u64(1).unwrap().bytes(&VAULT.0).unwrap().u32(2).unwrap().u64(1).unwrap();
            out.array(2).unwrap();
            for (number, end) in (1..).zip(ends) {
                out.array(7).unwrap().u32(number).unwrap().bytes(&[6; 16]).unwrap().i64(5).unwrap();
                out.u32(0).unwrap().u8(end).unwrap().u32(3).unwrap().u64(99).unwrap();
            }
            out.array(0).unwrap();
            sealed([out.writer().as_slice(), &[0; SUM_LEN]].concat())
        };
        let mut expected = LedgerState { last_session: 2, version: 1, ..LedgerState::default() };
        let opened = Timestamp { secs: 5, nanos: 0 };
        for (number, state) in [(1, SessionState::Committed), (2, SessionState::Open)] {
            let record = SessionRecord::new(SessionNo(number), DeviceId([6; 16]), opened);
            expected.sessions.push(SessionRecord { state, packs: 3, bytes: 99, ..record });
        }
        let whole = written([1, 0]);
        assert_eq!(decode(VAULT, &whole).unwrap(), expected);
        // No session expired then.
        assert!(decode(VAULT, &written([2, 0])).is_err() && decode(VAULT, &written([1, 2])).is_err());
        for len in 0..whole.len() - SUM_LEN {
            let cut = sealed([&whole[..len], &[0; SUM_LEN]].concat());
            assert!(decode(VAULT, &cut).is_err(), "cut to {len}");
        }
        let longer = sealed([&whole[..whole.len() - SUM_LEN], &[0; 1 + SUM_LEN]].concat());
        assert!(decode(VAULT, &longer).is_err());
    }

    #[test]
    fn a_long_array_reserves_nothing() {
        let mut bytes = MAGIC.to_vec();
        let mut out = Encoder::new(&mut bytes);
        out.array(10).unwrap().u64(WITHOUT_ENVELOPES).unwrap().bytes(&VAULT.0).unwrap().u32(9).unwrap();
        out.u64(0).unwrap().u64(0).unwrap();
        out.array(u64::MAX / 2).unwrap();
        bytes.extend_from_slice(&[0; SUM_LEN]);
        assert!(matches!(decode(VAULT, &sealed(bytes)), Err(RecordError::Inconsistent)));
    }

    #[test]
    fn contradictions_are_refused() {
        let broken = |change: fn(&mut LedgerState)| {
            let mut state = state();
            change(&mut state);
            decode(VAULT, &encode(VAULT, &state)).is_err()
        };
        assert!(broken(|s| s.envelopes = Some(Vec::new())));
        assert!(broken(|s| s.envelopes = Some(vec![[2; 8], [1; 8]])));
        assert!(broken(|s| s.envelopes = Some(vec![[1; 8], [1; 8]])));
        assert!(broken(|s| s.envelopes = Some(vec![[1; 8]; ENVELOPES_MAX + 1])));
        assert!(broken(|s| s.last_session = 2));
        assert!(broken(|s| s.sessions.swap(0, 1)));
        assert!(broken(|s| s.snapshots.swap(0, 1)));
        assert!(broken(|s| s.snapshots[0].session = SessionNo(3)));
        assert!(broken(|s| s.snapshots[0].device = DeviceId([7; 16])));
        assert!(broken(|s| s.snapshots[0].label = vec![0; LABEL_MAX + 1]));
        // None stands twice in a list.
        assert!(broken(|s| s.sessions.insert(1, s.sessions[0].clone())));
        assert!(broken(|s| s.snapshots.insert(1, s.snapshots[0].clone())));
        assert!(broken(|s| s.trash.insert(1, s.trash[0].clone())));
        let two_in_the_trash = |order: [usize; 2]| {
            let mut state = state();
            state.trash([SessionNo(2)].as_slice(), at(9)).unwrap();
            let trash = order.map(|place| state.trash[place].clone()).to_vec();
            decode(VAULT, &encode(VAULT, &LedgerState { trash, ..state })).is_ok()
        };
        assert!(two_in_the_trash([0, 1]) && !two_in_the_trash([1, 0]));
        assert!(broken(|s| s.trash[0].snapshot.session = SessionNo(1)));
        assert!(broken(|s| s.trash[0].snapshot.session = SessionNo(3)));
        assert!(broken(|s| s.sessions[0].acked = s.gc_epoch + 1));
        assert!(broken(|s| s.sessions[2].retired = s.sessions[0].retired.clone()));
        assert!(broken(|s| s.leases[0].snapshots.reverse()));
        assert!(broken(|s| s.leases[0].snapshots = vec![SessionNo(1); 2]));
    }
}
