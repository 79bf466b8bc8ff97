//! The threads that read files, cut, hash, look up and compress.
//!
//! **What it is.** A pool that takes jobs in any order; each answers its own ticket. Files up to 4 MiB are
//! read whole here, larger ones are streamed by the walk and arrive as chunks.
//! **What it may not do.** Place anything: what it finds in the index is a hint that the assembler completes. Wait for the
//! index to be opened: until then, what it reads counts as new to it.
//! **What always holds.** A file that changed while it was read is read again once; if it changed again it is
//! marked. What is returned as size is what was read.
//! **Where it is tested.** Below and in the tests of whole pushes.
use crate::config::{BUNDLED_MAX, DEDUP_MIN, WHOLE_MAX};
use crate::dedup::{DedupKey, Seen};
use crate::flow::{Body, ChunkOut, FileRead, Job, PieceOut, ReadFile, ReadTask, Run};
use crate::sealer::{Sealer, Texture};
use crate::shared::Shared;
use crate::signals::Look;
use backupengine_format::limits::INLINE_MAX;
use backupengine_model::{Attributes, NodeFlags, Timestamp};
use backupengine_source::{Identity, Notice, NoticeKind, SourceFile, same_state};
use crossbeam_channel::{Receiver, select};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Two changes within one tick of a filesystem's clock look the same; ticks are at most this long on the
/// filesystems of today's systems (a jiffy, at 100 per second, and some room).
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// Works until both queues are closed. Chunks and bundles go first: others wait for them.
pub(crate) fn work(shared: &Shared<'_>, urgent: &Receiver<Job>, reads: &Receiver<Job>) {
    let mut sealer = Sealer::new();
    while let Some(job) = next_job(urgent, reads) {
        if shared.ended() {
            continue;
        }
        perform(shared, &mut sealer, job);
    }
}

/// The next job, of either queue while both are open; `None` when both are closed.
fn next_job(urgent: &Receiver<Job>, reads: &Receiver<Job>) -> Option<Job> {
    if let Ok(job) = urgent.try_recv() {
        return Some(job);
    }
    select! {
        recv(urgent) -> job => job.or_else(|_| reads.recv()).ok(),
        recv(reads) -> job => job.or_else(|_| urgent.recv()).ok(),
    }
}

fn perform(shared: &Shared<'_>, sealer: &mut Sealer, job: Job) {
    // Who no longer waits for an answer has given up: nothing is lost with it.
    match job {
        Job::Read { tasks, answer } => {
            let results = tasks.iter().map(|task| read(shared, sealer, task)).collect();
            drop(answer.send(results));
        }
        Job::Chunk { bytes, texture, answer } => {
            drop(answer.send(chunk(shared, sealer, &bytes, &texture)));
        }
        Job::Bundle { plain, answer } => drop(answer.send(sealer.bundle(&plain))),
    }
}

/// Hashes a chunk and compresses it unless it is stored already.
pub(crate) fn chunk(shared: &Shared<'_>, sealer: &mut Sealer, bytes: &[u8], texture: &Texture) -> ChunkOut {
    let id = shared.ids.content_id(bytes);
    let len = bytes.len() as u64;
    let seen = shared.dedup.map_or(Seen::Nowhere, |dedup| dedup.look(&DedupKey { id, piece: false }));
    let (seen, frames) = match seen {
        Seen::At(place) if place.is_chunk_of(len) => (Seen::At(place), Vec::new()),
        Seen::At(_) => (Seen::Nowhere, sealer.chunk(bytes, texture)),
        seen => (seen, sealer.chunk(bytes, texture)),
    };
    ChunkOut { id, len, seen, frames }
}

/// Hashes a piece, and looks up what is long enough.
pub(crate) fn piece(shared: &Shared<'_>, bytes: Vec<u8>, always: bool) -> PieceOut {
    let id = shared.ids.content_id(&bytes);
    let named = always || bytes.len() >= DEDUP_MIN;
    let dedup = shared.dedup.filter(|_| named);
    let seen = dedup.map_or(Seen::Nowhere, |dedup| dedup.look(&DedupKey { id, piece: true }));
    PieceOut { id, named, seen, bytes }
}

/// The notice for a file that could not be read.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Notice {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => NoticeKind::Vanished,
        _ => NoticeKind::Unreadable,
    };
    Notice { path: path.to_owned(), kind, message: error.to_string() }
}

/// The notice for a file that would not hold still.
pub(crate) fn torn(path: &Path) -> Notice {
    let message = "it changed while it was read, twice; what was read may mix two states".to_owned();
    Notice { path: path.to_owned(), kind: NoticeKind::Torn, message }
}

/// Looks at an open file once a change that is still to come cannot bear the change time it shows. Says whether
/// that could be had: a file that changes all the time never settles.
pub(crate) fn stat_settled(file: &SourceFile) -> io::Result<((Attributes, Identity), bool)> {
    let left = |identity: &Identity| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.ok().and_then(|now| unsettled(now, identity.ctime))
    };
    let seen = file.stat()?;
    let Some(wait) = left(&seen.1) else { return Ok((seen, true)) };
    std::thread::sleep(wait);
    let seen = file.stat()?;
    let settled = left(&seen.1).is_none();
    Ok((seen, settled))
}

/// How long from `now` (since 1970) until changes get another change time than `ctime`. They do already when it
/// lies in the future: the clock was set back since.
fn unsettled(now: Duration, ctime: Timestamp) -> Option<Duration> {
    let ctime = Duration::new(u64::try_from(ctime.secs).ok()?, ctime.nanos);
    CLOCK_TICK.checked_sub(now.checked_sub(ctime)?).filter(|left| !left.is_zero())
}

fn read(shared: &Shared<'_>, sealer: &mut Sealer, task: &ReadTask) -> FileRead {
    let failed = |error: io::Error| unreadable(&task.path, &error);
    let (mut file, held_still) = read_once(shared, sealer, task).map_err(failed)?;
    if !held_still {
        let (again, held_still) = read_once(shared, sealer, task).map_err(failed)?;
        file = again;
        if !held_still {
            file.attributes.flags = NodeFlags::TORN;
            shared.progress.notice(torn(&task.path));
        }
    }
    // Extended attributes were read when the walk saw the file: only its change time then counts.
    file.identity = Identity { ctime: task.identity.ctime, ..file.identity };
    Ok(file)
}

/// Reads it, and says whether it stayed the same meanwhile.
fn read_once(shared: &Shared<'_>, sealer: &mut Sealer, task: &ReadTask) -> io::Result<(ReadFile, bool)> {
    let file = SourceFile::open_file(&task.path)?;
    let (before, settled) = stat_settled(&file)?;
    let (mut attributes, identity) = before.clone();
    // One that grew beyond what is read whole is cut there and counts as torn.
    let size = attributes.size.min(WHOLE_MAX);
    let sparse = attributes.allocated.is_some() && size > INLINE_MAX as u64;
    let mut spans = Vec::new();
    let mut at = 0;
    while let Some((start, len, data)) = file.span(at, size, sparse)? {
        at = start + len;
        spans.push((len, data));
    }
    let holes = spans.iter().any(|(_, data)| !data);
    let (body, read, look) = if holes {
        let (runs, read, look) = read_runs(shared, sealer, &file, &spans)?;
        (Body::Runs(runs), read, look)
    } else {
        let bytes = read_span(&file, 0, size)?;
        let (read, look) = (bytes.len() as u64, Look::of(&bytes));
        (body_of(shared, sealer, bytes), read, look)
    };
    let after = file.stat()?;
    let same = same_state((&before.0, &before.1), (&after.0, &after.1));
    let held_still = settled && same && read == attributes.size;
    attributes.size = read;
    attributes.allocated = allocated(&body);
    attributes.flags = NodeFlags::default();
    Ok((ReadFile { body, attributes, identity, look }, held_still))
}

fn allocated(body: &Body) -> Option<u64> {
    let Body::Runs(runs) = body else { return None };
    let holes = runs.iter().any(|run| matches!(run, Run::Hole(_)));
    let data = runs.iter().map(|run| if let Run::Chunk(chunk) = run { chunk.len } else { 0 }).sum();
    holes.then_some(data)
}

/// Up to `len` bytes: less where the file ends before.
fn read_span(file: &SourceFile, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(offset + filled as u64, &mut bytes[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn body_of(shared: &Shared<'_>, sealer: &mut Sealer, bytes: Vec<u8>) -> Body {
    shared.progress.count.bytes_read.add(bytes.len() as u64);
    match bytes.len() {
        0 => Body::Empty,
        len if len <= INLINE_MAX => Body::Inline(bytes),
        len if len as u64 <= BUNDLED_MAX => Body::Piece(piece(shared, bytes, false)),
        _ => Body::Runs(cut(shared, sealer, &bytes, &Texture::new(false))),
    }
}

fn cut(shared: &Shared<'_>, sealer: &mut Sealer, mut bytes: &[u8], texture: &Texture) -> Vec<Run> {
    let mut runs = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at(shared.chunker.cut(bytes).clamp(1, bytes.len()));
        runs.push(Run::Chunk(chunk(shared, sealer, head, texture)));
        bytes = rest;
    }
    runs
}

fn read_runs(
    shared: &Shared<'_>,
    sealer: &mut Sealer,
    file: &SourceFile,
    spans: &[(u64, bool)],
) -> io::Result<(Vec<Run>, u64, Look)> {
    let (mut runs, texture) = (Vec::new(), Texture::new(true));
    let (mut at, mut look) = (0, Look::Unknown);
    for &(len, data) in spans {
        if !data {
            runs.push(Run::Hole(len));
            at += len;
            continue;
        }
        let bytes = read_span(file, at, len)?;
        shared.progress.count.bytes_read.add(bytes.len() as u64);
        at += bytes.len() as u64;
        if look == Look::Unknown {
            look = Look::of(&bytes);
        }
        runs.extend(cut(shared, sealer, &bytes, &texture));
        if (bytes.len() as u64) < len {
            break;
        }
    }
    Ok((runs, at, look))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_just_now_is_waited_for() {
        let now = Duration::new(1000, 5_000_000);
        let at = |secs, nanos| unsettled(now, Timestamp { secs, nanos });
        assert_eq!(at(1000, 5_000_000), Some(CLOCK_TICK));
        assert_eq!(at(1000, 0), Some(Duration::from_millis(15)));
        assert_eq!(at(999, 985_000_000), None);
        assert_eq!(at(1000, 5_000_001), None);
        assert_eq!(at(-5, 0), None);
        assert_eq!(at(i64::MAX, 0), None);
    }
}
