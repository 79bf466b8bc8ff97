//! The bytes of the ledger: magic, version, vault id and state in CBOR, and a checksum.
//!
//! `"BKELEDG1" ‖ CBOR [version, vault, last session, list version, sessions, snapshots] ‖ crc32c u32 LE`
//!
//! May not do I/O. What always holds: only the bytes that `encode` gives decode, and what was allocated never
//! exceeds what the file could hold. Tested below: every flipped byte and every cut is refused.

use backupengine_model::ledger::{LABEL_MAX, LedgerState, SessionRecord, SessionState, SnapshotRecord};
use backupengine_model::{DeviceId, SessionNo, SnapshotId, Timestamp, VaultId};
use minicbor::decode::{Decoder, Error as DecodeError};
use minicbor::encode::{Encoder, Error as EncodeError};
use std::convert::Infallible;
use thiserror::Error;

const MAGIC: &[u8; 8] = b"BKELEDG1";
const VERSION: u64 = 1;
const SUM_LEN: usize = 4;
/// No record takes less; bounds what an array length can make the decoder reserve.
const RECORD_MIN: usize = 24;

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
    out.array(6)?.u64(VERSION)?.bytes(&vault.0)?.u32(state.last_session)?.u64(state.version)?;
    out.array(state.sessions.len() as u64)?;
    for s in &state.sessions {
        out.array(7)?.u32(s.session.0)?.bytes(&s.device.0)?.i64(s.opened.secs)?.u32(s.opened.nanos)?;
        out.u8(s.state as u8)?.u32(s.packs)?.u64(s.bytes)?;
    }
    out.array(state.snapshots.len() as u64)?;
    for s in &state.snapshots {
        out.array(8)?.u32(s.session.0)?.bytes(&s.id.0)?.bytes(&s.device.0)?.i64(s.created.secs)?;
        out.u32(s.created.nanos)?.u64(s.root_size)?.u32(s.head_len)?.bytes(&s.label)?;
    }
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
    if version > VERSION {
        return Err(RecordError::TooNew(version));
    }
    if fields != Some(6) || version != VERSION {
        return Err(RecordError::Inconsistent);
    }
    if fixed(&mut input)? != vault.0 {
        return Err(RecordError::OtherVault);
    }
    let mut state =
        LedgerState { last_session: input.u32()?, version: input.u64()?, ..LedgerState::default() };
    for _ in 0..count(&mut input, &mut state.sessions)? {
        state.sessions.push(session(&mut input)?);
    }
    for _ in 0..count(&mut input, &mut state.snapshots)? {
        state.snapshots.push(snapshot(&mut input)?);
    }
    // One spelling for one state: whatever else decodes to it (longer integers, bytes behind) is refused.
    if !is_consistent(&state) || encode(vault, &state) != bytes {
        return Err(RecordError::Inconsistent);
    }
    Ok(state)
}

fn count<T>(input: &mut Decoder<'_>, into: &mut Vec<T>) -> Result<u64, RecordError> {
    let count = input.array()?.ok_or(RecordError::Inconsistent)?;
    let left = input.input().len().saturating_sub(input.position());
    if count > (left / RECORD_MIN) as u64 {
        return Err(RecordError::Inconsistent);
    }
    into.reserve_exact(count as usize);
    Ok(count)
}

fn fixed<const N: usize>(input: &mut Decoder<'_>) -> Result<[u8; N], RecordError> {
    input.bytes()?.try_into().map_err(|_| RecordError::Inconsistent)
}

fn fields(input: &mut Decoder<'_>, expected: u64) -> Result<(), RecordError> {
    if input.array()? == Some(expected) { Ok(()) } else { Err(RecordError::Inconsistent) }
}

fn session(input: &mut Decoder<'_>) -> Result<SessionRecord, RecordError> {
    fields(input, 7)?;
    Ok(SessionRecord {
        session: SessionNo(input.u32()?),
        device: DeviceId(fixed(input)?),
        opened: Timestamp { secs: input.i64()?, nanos: input.u32()? },
        state: match input.u8()? {
            0 => SessionState::Open,
            1 => SessionState::Committed,
            _ => return Err(RecordError::Inconsistent),
        },
        packs: input.u32()?,
        bytes: input.u64()?,
    })
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

/// What the rules of the ledger can lead to: numbers ascend and were given, a snapshot has its session.
fn is_consistent(state: &LedgerState) -> bool {
    let ascending = state.sessions.is_sorted_by(|a, b| a.session < b.session)
        && state.snapshots.is_sorted_by(|a, b| a.session < b.session);
    let given = state.sessions.iter().all(|s| s.session.0 >= 1 && s.session.0 <= state.last_session);
    ascending
        && given
        && state.snapshots.iter().all(|snapshot| {
            let at = state.sessions.binary_search_by_key(&snapshot.session, |s| s.session);
            let session = at.ok().map(|at| &state.sessions[at]);
            snapshot.label.len() <= LABEL_MAX
                && session.is_some_and(|s| s.state == SessionState::Committed && s.device == snapshot.device)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use backupengine_model::ledger::Commit;

    const VAULT: VaultId = VaultId([5; 16]);

    fn state() -> LedgerState {
        let mut state = LedgerState::default();
        for number in 1..=4u8 {
            let device = DeviceId([number % 2; 16]);
            let opened = Timestamp { secs: -5 + i64::from(number), nanos: 999_999_999 };
            let session = state.open(device, opened).unwrap();
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
            state
                .commit(device, &Commit { snapshot, packs: 3, bytes: 1 << 40, meta_packs: Vec::new() })
                .unwrap();
        }
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
        for state in [LedgerState::default(), state()] {
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
        newer[MAGIC.len() + 1] = 2;
        assert!(matches!(decode(VAULT, &sealed(newer)), Err(RecordError::TooNew(2))));
        let foreign = encode(VaultId([6; 16]), &state());
        assert!(matches!(decode(VAULT, &foreign), Err(RecordError::OtherVault)));
    }

    #[test]
    fn a_long_array_reserves_nothing() {
        let mut bytes = MAGIC.to_vec();
        let mut out = Encoder::new(&mut bytes);
        out.array(6).unwrap().u64(VERSION).unwrap().bytes(&VAULT.0).unwrap().u32(9).unwrap().u64(0).unwrap();
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
        assert!(broken(|s| s.last_session = 2));
        assert!(broken(|s| s.sessions.swap(0, 1)));
        assert!(broken(|s| s.snapshots.swap(0, 1)));
        assert!(broken(|s| s.snapshots[0].session = SessionNo(3)));
        assert!(broken(|s| s.snapshots[0].device = DeviceId([7; 16])));
        assert!(broken(|s| s.snapshots[0].label = vec![0; LABEL_MAX + 1]));
    }
}
