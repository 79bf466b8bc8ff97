//! Reads a large file from front to back, cuts it, and sends its chunks on.
//!
//! May not keep more of the file than a cutting window. What always holds: runs are sent in file order; a file
//! that changed is sent again from the start, once. Tested in the tests of whole pushes.
use crate::error::PushError;
use crate::flow::{Draft, Event, Job, StreamEnd, ticket};
use crate::reader::{stat_settled, torn, unreadable};
use crate::sealer::Texture;
use crate::signals::Look;
use crate::walk::{Outlets, Walk, send};
use backupengine_model::{Attributes, NodeFlags};
use backupengine_source::{Identity, SourceFile, same_state};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Bytes read at once.
const READ_LEN: usize = 4 << 20;

impl Walk<'_> {
    /// Sends a whole large file.
    ///
    /// # Errors
    /// `Interrupted`.
    pub(crate) fn stream(&mut self, draft: Draft) -> Result<(), PushError> {
        let Some(outlets) = &self.outlets else { return Ok(()) };
        let path = draft.real_path();
        let seen = draft.identity;
        send(self.shared, &outlets.events, Event::StreamBegin(Box::new(draft)));
        let mut look = Look::Unknown;
        let end =
            self.stream_twice(outlets, &path, &mut look).map(|(attributes, identity, flags)| StreamEnd {
                attributes,
                // See `reader::read`: extended attributes are as old as the walk's look.
                identity: Identity { ctime: seen.ctime, ..identity },
                flags,
                look,
            });
        self.shared.go_on()?;
        send(self.shared, &outlets.events, Event::StreamEnd(end.map_err(|e| unreadable(&path, &e))));
        Ok(())
    }

    fn stream_twice(
        &self,
        outlets: &Outlets,
        path: &Path,
        look: &mut Look,
    ) -> io::Result<(Attributes, Identity, NodeFlags)> {
        let (attributes, identity, held_still) = self.stream_once(outlets, path, look)?;
        if held_still || self.shared.ended() {
            return Ok((attributes, identity, NodeFlags::default()));
        }
        send(self.shared, &outlets.events, Event::StreamRestart);
        let (attributes, identity, held_still) = self.stream_once(outlets, path, look)?;
        if held_still || self.shared.ended() {
            return Ok((attributes, identity, NodeFlags::default()));
        }
        self.shared.progress.notice(torn(path));
        Ok((attributes, identity, NodeFlags::TORN))
    }

    fn stream_once(
        &self,
        outlets: &Outlets,
        path: &Path,
        look: &mut Look,
    ) -> io::Result<(Attributes, Identity, bool)> {
        *look = Look::Unknown;
        let file = SourceFile::open_file(path)?;
        let ((mut attributes, identity), settled) = stat_settled(&file)?;
        let before = attributes.clone();
        let sparse = attributes.allocated.is_some();
        let texture = Arc::new(Texture::new(sparse));
        let (mut at, mut data, mut holes) = (0, 0, false);
        while let Some((start, len, is_data)) = file.span(at, before.size, sparse)? {
            debug_assert_eq!(start, at);
            if !is_data {
                holes = true;
                at += len;
                send(self.shared, &outlets.events, Event::StreamHole(len));
                continue;
            }
            let read = self.stream_run(outlets, path, &file, (start, len), &texture, look)?;
            data += read;
            at += read;
            if read < len {
                break;
            }
        }
        let (now, identity_now) = file.stat()?;
        let same = same_state((&before, &identity), (&now, &identity_now));
        let held_still = settled && same && at == before.size;
        attributes.size = at;
        attributes.allocated = holes.then_some(data);
        Ok((attributes, identity, held_still))
    }

    /// Sends one run of data; says how many bytes there were.
    fn stream_run(
        &self,
        outlets: &Outlets,
        path: &Path,
        file: &SourceFile,
        (start, len): (u64, u64),
        texture: &Arc<Texture>,
        look: &mut Look,
    ) -> io::Result<u64> {
        let chunker = &self.shared.chunker;
        let window = chunker.params().max;
        let mut buffer: Vec<u8> = Vec::with_capacity(window + READ_LEN);
        let (mut read, mut cut, mut ended) = (0, 0, false);
        loop {
            while !ended && buffer.len() - cut < window {
                if self.shared.ended() {
                    return Ok(read);
                }
                buffer.drain(..std::mem::take(&mut cut));
                let filled = buffer.len();
                let want = READ_LEN.min((len - read).try_into().unwrap_or(READ_LEN));
                buffer.resize(filled + want, 0);
                let got = file.read_at(start + read, &mut buffer[filled..])?;
                buffer.truncate(filled + got);
                read += got as u64;
                self.shared.progress.count.bytes_read.add(got as u64);
                ended = got == 0 || read == len;
            }
            if *look == Look::Unknown {
                *look = Look::of(&buffer[cut..]);
            }
            let rest = &buffer[cut..];
            if rest.is_empty() {
                return Ok(read);
            }
            let chunk = &rest[..chunker.cut(rest).clamp(1, rest.len())];
            let Some(share) = self.budget.take(chunk.len() as u64, || self.shared.ended()) else {
                return Ok(read);
            };
            let (answer, ready) = ticket();
            let bytes = chunk.to_vec();
            cut += bytes.len();
            // A closed queue means that the readers are gone, which the assembler will report.
            drop(outlets.urgent.send(Job::Chunk { bytes, texture: Arc::clone(texture), answer }));
            send(self.shared, &outlets.events, Event::StreamChunk(ready, share));
            self.shared.progress.tick(path);
        }
    }
}
