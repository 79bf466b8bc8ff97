//! The middle stage: puts nodes and their content together, in order.
//!
//! **What it is.** One thread that takes the walk's events, waits for what the readers made of them, decides
//! for good what is new, fills bundles, has frames placed, and passes nodes on to the tree once all their
//! frames have a place.
//! **What it may not do.** Read files or compress data.
//! **What always holds.** Nodes of a class leave in the order they came. Content is placed once: what arrives
//! twice at the same time is noticed here.
//! **Where it is tested.** In the tests of whole pushes.
use crate::budget::POLL;
use crate::bundle::Bundle;
use crate::dedup::{Content as Stored, Dedup, DedupKey, Place, Seen, short_key};
use crate::error::PushError;
use crate::extents::Extents;
use crate::flow::{
    Body, ChunkOut, ContentDraft, Draft, Event, FileRead, Job, PieceOut, ReadFile, Run, StreamEnd, Ticket,
    ticket,
};
use crate::packer::{FrameSlot, Lane, Packer};
use crate::sealer::PlainFrame;
use crate::shared::Shared;
use crate::tree::TreeWriter;
use crate::waiting::{Piece, Waiting, WaitingXattr};
use backupengine_format::footer::FooterContent;
use backupengine_format::limits::XATTR_INLINE_MAX;
use backupengine_format::page::{Content, Extent, Xattr};
use backupengine_model::{Class, ContentId, FrameKind, FrameLen, FrameRef, PackRef, SessionNo};
use backupengine_source::{Notice, NoticeKind};
use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Bundles that are being compressed at most.
const COMPRESSING_MAX: usize = 8;
/// Nodes that wait for a bundle at most: then it is closed early.
const WAITING_MAX: usize = 8192;

/// See the module header.
pub(crate) struct Assembler<'a> {
    pub(crate) shared: &'a Shared<'a>,
    dedup: &'a Dedup<'a>,
    session: SessionNo,
    urgent: Sender<Job>,
    pub(crate) packer: Packer<'a>,
    pub(crate) tree: TreeWriter<'a>,
    bundle: Bundle,
    compressing: VecDeque<Compressing>,
    /// Pieces in bundles that have no place yet.
    unplaced: HashMap<ContentId, (FrameSlot, u32)>,
    queues: [VecDeque<Waiting>; 2],
    stream: Option<(Box<Draft>, Extents)>,
    /// Bytes of the file at hand that no earlier session stored.
    fresh: u64,
}

/// A bundle on its way through a compressor.
struct Compressing {
    ready: Ticket<PlainFrame>,
    slot: FrameSlot,
    contents: Vec<FooterContent>,
    short: Vec<(ContentId, u32)>,
}

impl<'a> Assembler<'a> {
    pub(crate) fn new(
        shared: &'a Shared<'a>,
        (dedup, session): (&'a Dedup<'a>, SessionNo),
        urgent: Sender<Job>,
        packer: Packer<'a>,
        tree: TreeWriter<'a>,
    ) -> Self {
        Self {
            shared,
            dedup,
            session,
            urgent,
            packer,
            tree,
            bundle: Bundle::default(),
            compressing: VecDeque::new(),
            unplaced: HashMap::new(),
            queues: Default::default(),
            stream: None,
            fresh: 0,
        }
    }

    /// Works until the walk says that it is complete, and leaves nothing waiting.
    ///
    /// # Errors
    /// The store's; `Interrupted`; and `Broken` when another stage died.
    pub(crate) fn run(&mut self, events: &Receiver<Event>) -> Result<(), PushError> {
        loop {
            match events.recv_timeout(POLL) {
                Ok(Event::End) => break,
                Ok(event) => self.take(event)?,
                Err(RecvTimeoutError::Timeout) => self.shared.go_on()?,
                Err(RecvTimeoutError::Disconnected) => return Err(self.lost("the walk")),
            }
        }
        self.flush()
    }

    /// Places all bundles and passes all nodes on.
    pub(crate) fn flush(&mut self) -> Result<(), PushError> {
        self.close_bundle()?;
        while !self.compressing.is_empty() {
            self.place_bundle()?;
        }
        self.pass_on()
    }

    fn lost(&self, stage: &'static str) -> PushError {
        match self.shared.go_on() {
            Err(interrupted) => interrupted,
            Ok(()) => PushError::Broken(stage),
        }
    }

    fn take(&mut self, event: Event) -> Result<(), PushError> {
        self.shared.go_on()?;
        match event {
            Event::ParentLeaf { class, first_key, frame, encoded } => {
                self.tree.note_old_leaf(class, first_key, frame, encoded);
            }
            Event::Group { drafts, reads, share } => {
                self.group(drafts, reads)?;
                drop(share);
            }
            Event::StreamBegin(draft) => {
                self.fresh = 0;
                self.stream = Some((draft, Extents::default()));
            }
            Event::StreamHole(len) => self.run_of_stream(Run::Hole(len))?,
            Event::StreamChunk(ready, share) => {
                let chunk = ready.recv().map_err(|_| self.lost("a reader"))?;
                self.run_of_stream(Run::Chunk(chunk))?;
                drop(share);
            }
            Event::StreamRestart => {
                if let Some((_, extents)) = &mut self.stream {
                    *extents = Extents::default();
                }
            }
            Event::StreamEnd(end) => self.end_stream(end)?,
            Event::End => {}
        }
        self.keep_up()
    }

    /// Places what is compressed already; presses on where too much waits.
    fn keep_up(&mut self) -> Result<(), PushError> {
        while self.compressing.front().is_some_and(|c| !c.ready.is_empty())
            || self.compressing.len() > COMPRESSING_MAX
        {
            self.place_bundle()?;
        }
        self.pass_on()?;
        if self.queues.iter().map(VecDeque::len).sum::<usize>() > WAITING_MAX {
            self.flush()?;
        }
        Ok(())
    }

    fn group(&mut self, drafts: Vec<Draft>, reads: Option<Ticket<Vec<FileRead>>>) -> Result<(), PushError> {
        let mut reads = match reads {
            Some(reads) => reads.recv().map_err(|_| self.lost("a reader"))?.into_iter(),
            None => Vec::new().into_iter(),
        };
        for mut draft in drafts {
            match std::mem::replace(&mut draft.content, ContentDraft::Linked) {
                ContentDraft::Ready(content) => {
                    if let Content::Pages(pages) = &content {
                        self.tree.refer_below(pages)?;
                    }
                    self.admit(draft, Some(Piece::Ready(content)))?;
                }
                ContentDraft::Linked => self.admit(draft, None)?,
                ContentDraft::Read => match reads.next().ok_or(PushError::Broken("a reader"))? {
                    Ok(file) => self.file(draft, file)?,
                    Err(notice) => self.shared.progress.notice(notice),
                },
            }
        }
        Ok(())
    }

    fn file(&mut self, mut draft: Draft, file: ReadFile) -> Result<(), PushError> {
        let ReadFile { body, attributes, identity, look } = file;
        draft.attributes = attributes;
        draft.identity = identity;
        draft.look = look;
        self.fresh = 0;
        let content = match body {
            Body::Empty => Piece::Ready(Content::None),
            Body::Inline(bytes) => {
                self.shared.progress.count.bytes_new.add(bytes.len() as u64);
                Piece::Ready(Content::Inline(Bytes::from(bytes)))
            }
            Body::Piece(piece) => self.piece(&piece)?,
            Body::Runs(runs) => {
                let mut extents = Extents::default();
                for run in runs {
                    self.append(&mut extents, run)?;
                }
                Piece::Ready(self.end_extents(extents)?)
            }
        };
        self.shared.tally.read(&draft, look, self.fresh);
        self.admit(draft, Some(content))
    }

    fn run_of_stream(&mut self, run: Run) -> Result<(), PushError> {
        let Some((draft, mut extents)) = self.stream.take() else { return Ok(()) };
        self.append(&mut extents, run)?;
        self.stream = Some((draft, extents));
        Ok(())
    }

    fn end_stream(&mut self, end: Result<StreamEnd, Notice>) -> Result<(), PushError> {
        let Some((mut draft, extents)) = self.stream.take() else { return Ok(()) };
        let end = match end {
            Ok(end) => end,
            Err(notice) => {
                self.shared.progress.notice(notice);
                return Ok(());
            }
        };
        draft.attributes = end.attributes;
        draft.attributes.flags = end.flags;
        draft.identity = end.identity;
        draft.look = end.look;
        self.shared.tally.read(&draft, end.look, self.fresh);
        let content = self.end_extents(extents)?;
        self.admit(*draft, Some(Piece::Ready(content)))
    }

    fn end_extents(&mut self, extents: Extents) -> Result<Content, PushError> {
        let packer = &mut self.packer;
        extents.finish(&mut |encoded| packer.page(FrameKind::Extents, encoded))
    }

    /// Appends a run of a file, placing what is new.
    fn append(&mut self, extents: &mut Extents, run: Run) -> Result<(), PushError> {
        let chunk = match run {
            Run::Hole(len) => {
                let packer = &mut self.packer;
                let mut write = |encoded: &[u8]| packer.page(FrameKind::Extents, encoded);
                return extents.push(Extent { len, frame: None }, &mut write);
            }
            Run::Chunk(chunk) => chunk,
        };
        let (pack, mut offset, lens) = self.chunk(chunk)?;
        self.tree.refer(&pack);
        let packer = &mut self.packer;
        let mut write = |encoded: &[u8]| packer.page(FrameKind::Extents, encoded);
        for FrameLen { stored, plain } in lens {
            let frame = FrameRef { pack, offset, stored_len: stored };
            extents.push(Extent { len: plain.into(), frame: Some(frame) }, &mut write)?;
            offset += stored;
        }
        Ok(())
    }

    /// Where content is that a reader looked for: it may have been placed since, or the index have been opened.
    fn find(&self, seen: Seen, key: &DedupKey) -> Option<Place> {
        match seen {
            Seen::At(place) => Some(place),
            Seen::Nowhere => self.dedup.find_own(key),
            Seen::Unknown => self.dedup.find(key),
        }
    }

    /// Where the frames of a chunk are, placing them if they are new.
    fn chunk(&mut self, chunk: ChunkOut) -> Result<(PackRef, u32, Vec<FrameLen>), PushError> {
        let count = &self.shared.progress.count;
        let key = DedupKey { id: chunk.id, piece: false };
        let found = self.find(chunk.seen, &key);
        // A place that a reader took was looked at there: then there are no frames to place.
        let found = found.filter(|place| place.is_chunk_of(chunk.len));
        if let Some(Place { pack, offset, content: Stored::Chunk { lens } }) = found {
            count.chunks_reused.add(1);
            self.fresh += if pack.session == self.session { chunk.len } else { 0 };
            return Ok((pack, offset, lens));
        }
        self.fresh += chunk.len;
        let contents = vec![FooterContent::Chunk { id: chunk.id, frames: chunk.frames.len() as u32 }];
        let placed = self.packer.place(Lane::Chunks, FrameKind::Data, chunk.frames, contents)?;
        count.chunks_new.add(1);
        count.bytes_new.add(chunk.len);
        let content = Stored::Chunk { lens: placed.lens.clone() };
        self.dedup.insert(key, Place { pack: placed.pack, offset: placed.offset, content });
        Ok((placed.pack, placed.offset, placed.lens))
    }

    /// Where a piece is, putting it into the open bundle if it is new.
    fn piece(&mut self, piece: &PieceOut) -> Result<Piece, PushError> {
        let count = &self.shared.progress.count;
        let id = piece.id;
        if piece.named {
            if let Some((slot, inner)) = self.unplaced.get(&id) {
                count.chunks_reused.add(1);
                self.fresh += piece.bytes.len() as u64;
                return Ok(Piece::Waiting(Arc::clone(slot), *inner));
            }
            let found = self.find(piece.seen.clone(), &DedupKey { id, piece: true });
            if let Some(Place { pack, offset, content: Stored::Piece { stored_len, inner } }) = found {
                count.chunks_reused.add(1);
                self.fresh += if pack.session == self.session { piece.bytes.len() as u64 } else { 0 };
                return Ok(Piece::Ready(Content::Bundle {
                    frame: FrameRef { pack, offset, stored_len },
                    inner,
                }));
            }
        }
        count.chunks_new.add(1);
        count.bytes_new.add(piece.bytes.len() as u64);
        self.fresh += piece.bytes.len() as u64;
        if !self.bundle.has_room(piece.bytes.len()) {
            self.close_bundle()?;
        }
        let inner = self.bundle.push(&piece.bytes, id, piece.named);
        if piece.named {
            self.unplaced.insert(id, (Arc::clone(&self.bundle.slot), inner));
        }
        Ok(Piece::Waiting(Arc::clone(&self.bundle.slot), inner))
    }

    fn close_bundle(&mut self) -> Result<(), PushError> {
        if self.bundle.plain.is_empty() {
            return Ok(());
        }
        let Bundle { plain, slot, contents, short } = std::mem::take(&mut self.bundle);
        let (answer, ready) = ticket();
        self.urgent.send(Job::Bundle { plain, answer }).map_err(|_| self.lost("the readers"))?;
        self.compressing.push_back(Compressing { ready, slot, contents, short });
        Ok(())
    }

    /// Waits for the oldest bundle and places it.
    fn place_bundle(&mut self) -> Result<(), PushError> {
        let Some(bundle) = self.compressing.pop_front() else { return Ok(()) };
        let Compressing { ready, slot, contents, short } = bundle;
        let frame = ready.recv().map_err(|_| self.lost("a reader"))?;
        let placed = self.packer.place(Lane::Bundles, FrameKind::Data, vec![frame], contents.clone())?;
        let frame = placed.first();
        for content in contents {
            if let FooterContent::Piece { id, inner, .. } = content {
                self.unplaced.remove(&id);
                self.dedup.insert(DedupKey { id, piece: true }, Place::of_piece(frame, inner));
            }
        }
        for (id, inner) in short {
            let key = short_key(&self.shared.ids, id, &frame, inner);
            self.dedup.insert(key, Place::of_piece(frame, inner));
        }
        slot.set(frame).map_err(|_| PushError::Broken("a bundle was placed twice"))
    }

    /// Stores large values of extended attributes beside small files.
    pub(crate) fn xattrs(&mut self, raw: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<WaitingXattr>, PushError> {
        let mut out = Vec::with_capacity(raw.len());
        for (name, value) in raw {
            let at = match value.len() {
                0..=XATTR_INLINE_MAX => None,
                _ => Some(self.piece(&crate::reader::piece(self.shared, value.clone(), true))?),
            };
            out.push(WaitingXattr { name: name.clone(), value: value.clone(), at });
        }
        Ok(out)
    }

    /// Queues a node; without content it takes that of an earlier name.
    fn admit(&mut self, draft: Draft, content: Option<Piece>) -> Result<(), PushError> {
        let class = draft.class();
        if class == Class::Directory {
            self.tree.expect_directories();
        }
        let waiting = Waiting::new(draft, content, self)?;
        self.queues[class as usize].push_back(waiting);
        Ok(())
    }

    /// Passes on the nodes at the front of each queue that wait for nothing.
    fn pass_on(&mut self) -> Result<(), PushError> {
        for class in 0..self.queues.len() {
            while let Some(waiting) = self.queues[class].pop_front_if(|waiting| waiting.is_complete()) {
                if let Some(path) = waiting.orphan() {
                    let message = "another name of the same file could not be read".to_owned();
                    self.shared.progress.notice(Notice { path, kind: NoticeKind::Unreadable, message });
                    continue;
                }
                let finished = waiting.finish(&self.shared.ids);
                let (entry, key_hash, record) = finished.ok_or(PushError::Broken("the assembler"))?;
                self.tree.add(entry, key_hash, &record, &mut self.packer)?;
            }
        }
        Ok(())
    }
}

/// The values a node without extended attributes shares.
pub(crate) fn no_xattrs() -> Arc<[Xattr]> {
    static NONE: std::sync::OnceLock<Arc<[Xattr]>> = std::sync::OnceLock::new();
    Arc::clone(NONE.get_or_init(|| Arc::new([])))
}
