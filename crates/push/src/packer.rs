//! Lays sealed frames into packs and has finished packs put.
//!
//! **What it is.** A few open packs per lane; a run of frames goes whole into the first that has room. A full
//! pack is exactly 32 MiB long, the last ones of a push are padded. A small push fills one pack with all; a
//! writer's keeps pages apart, because it is given back no pack that holds data.
//! Finished packs are handed on to [`putting`](crate::putting), so that storing them overlaps with filling the next.
//! **What it may not do.** Know what frames hold.
//! **What always holds.** A number is given to one pack only and each pack has a salt of its own, so no
//! (key, nonce) pair is used twice. After [`Packer::finish`] every pack was handed on; none is durable for that.
//! **Where it is tested.** Below; in the tests of whole pushes; `tests/protocol`.
use crate::config::SHARED_PACK_MAX;
use crate::error::PushError;
use crate::kept::Keep;
use crate::putting::{Idle, ToPut};
use crate::sealer::{PlainFrame, Sealer};
use crate::stats::Progress;
use backupengine_format::footer::{Footer, FooterContent, FooterFrame};
use backupengine_format::limits::PACK_TARGET;
use backupengine_format::pack::lay_out;
use backupengine_format::trailer::{TRAILER_LEN, Trailer};
use backupengine_model::{FrameKind, FrameLen, FrameRef, PackRef, SessionNo};
use backupengine_seal::{Keyring, PackKey, TAG_LEN};
use backupengine_store::{BlobKey, Spool, StoreError, Writable};
use crossbeam_channel::Sender;
use std::io::Write as _;
use std::sync::Arc;

/// Which packs a frame goes to: what is read together lies together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Chunks of large files.
    Chunks = 0,
    /// Bundles of small files.
    Bundles = 1,
    /// Pages.
    Pages = 2,
}

/// Packs kept open per lane. Chunks are large: with several to choose from, little of a pack stays empty.
const OPEN_MAX: [usize; 3] = [3, 1, 1];
/// A pack of chunks with less room than this, in bytes, is not kept open while the link to the store has nothing to carry.
/// Else the first goes out when a fourth is begun, and three wait for the end: of 181 MiB of the bench's image 52 % and
/// 85 MiB, with this 25 % and 53 MiB. It costs 0.03 MiB of filler a pack at most on average; with 128 KiB (19 % and 21 MiB)
/// the bench's home folder took half a MiB more.
const NEARLY_FULL: u64 = 64 << 10;

/// Where a run of frames was laid.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) pack: PackRef,
    /// Where the first begins; the others follow without gaps.
    pub(crate) offset: u32,
    pub(crate) lens: Vec<FrameLen>,
}

impl Placed {
    /// The first frame.
    pub(crate) fn first(&self) -> FrameRef {
        FrameRef {
            pack: self.pack,
            offset: self.offset,
            stored_len: self.lens.first().map_or(0, |len| len.stored),
        }
    }
}

/// A pack that is being filled.
pub(crate) struct OpenPack {
    key: PackKey,
    spool: Spool,
    footer: Footer,
    /// No encoded footer of these frames is longer.
    footer_bound: u64,
}

/// What begins packs of one session.
pub(crate) struct PackSource<'a> {
    pub(crate) store: &'a dyn Writable,
    pub(crate) keyring: &'a Keyring,
    pub(crate) session: SessionNo,
    pub(crate) random: &'a (dyn Fn(&mut [u8]) + Sync),
    pub(crate) keep: Arc<Keep>,
}

impl PackSource<'_> {
    /// Begins a pack under a number that was never used in the session.
    pub(crate) fn begin(&self, number: u32) -> Result<OpenPack, PushError> {
        let mut salt = [0; 8];
        (self.random)(&mut salt);
        let epoch = self.keyring.current_epoch();
        let pack = PackRef { session: self.session, number, salt, epoch };
        let key = self.keyring.pack_key(&pack)?;
        let mut spool = self.store.spool()?;
        if number == PackRef::ROOT {
            spool = self.keep.root(spool);
        }
        Ok(OpenPack { key, spool, footer: Footer::default(), footer_bound: 64 })
    }

    /// Writes filler, footer, head and trailer. Says how long the sealed head is.
    pub(crate) fn end(
        &self,
        mut open: OpenPack,
        sealer: &mut Sealer,
        head: Option<PlainFrame>,
        target: Option<u64>,
    ) -> Result<(Spool, u32), PushError> {
        let mut footer = sealer.page(&open.footer.encode());
        let head_len = head.as_ref().map_or(0, PlainFrame::stored_len) as u32;
        let footer_len = footer.stored_len() as u32;
        let end = lay_out(open.spool.len(), footer_len, head_len, target);
        let mut left = end.filler;
        let mut filler = vec![0; left.min(64 << 10) as usize];
        while left > 0 {
            let part = &mut filler[..left.min(64 << 10) as usize];
            (self.random)(part);
            write(&mut open.spool, part)?;
            left -= part.len() as u64;
        }
        open.key.seal(FrameKind::Footer, end.footer_at as u32, &mut footer.bytes, 0);
        write(&mut open.spool, &footer.bytes)?;
        if let Some(mut head) = head {
            open.key.seal(FrameKind::Root, end.head_at as u32, &mut head.bytes, 0);
            write(&mut open.spool, &head.bytes)?;
        }
        let trailer =
            Trailer { pack: *open.key.pack(), footer_len, head_len, commitment: *open.key.commitment() };
        write(&mut open.spool, &trailer.encode())?;
        debug_assert_eq!(open.spool.len(), end.total);
        tracing::debug!(
            number = trailer.pack.number,
            bytes = end.total,
            filler = end.filler,
            "a pack is complete"
        );
        Ok((open.spool, head_len))
    }
}

fn write(spool: &mut Spool, bytes: &[u8]) -> Result<(), PushError> {
    spool.write_all(bytes).map_err(|error| PushError::Store(StoreError::from(error)))
}

impl OpenPack {
    /// Which pack it will be.
    pub(crate) fn pack(&self) -> PackRef {
        *self.key.pack()
    }

    fn has_room(&self, frames: u64, footer: u64) -> bool {
        let end = self.footer_bound + footer + (TAG_LEN + 1 + TRAILER_LEN) as u64;
        self.spool.len() + frames + end <= PACK_TARGET
    }

    /// Seals a frame at the end of the pack, and has it kept where `keep` says so.
    pub(crate) fn push(
        &mut self,
        kind: FrameKind,
        mut frame: PlainFrame,
        contents: Vec<FooterContent>,
        keep: Option<&Keep>,
    ) -> Result<FrameRef, PushError> {
        let offset = u32::try_from(self.spool.len()).map_err(|_| PushError::TooLarge("a pack of 4 GiB"))?;
        self.key.seal(kind, offset, &mut frame.bytes, 0);
        write(&mut self.spool, &frame.bytes)?;
        let stored_len = frame.bytes.len() as u32;
        self.footer_bound += footer_bound(1, contents.len());
        self.footer.frames.push(FooterFrame { kind, stored_len, plain_len: frame.plain_len, contents });
        let at = FrameRef { pack: self.pack(), offset, stored_len };
        if let Some(keep) = keep {
            keep.page(&at, &frame.bytes);
        }
        Ok(at)
    }
}

fn footer_bound(frames: usize, contents: usize) -> u64 {
    (frames * 20 + contents * 32) as u64
}

/// See the module header.
pub(crate) struct Packer<'a> {
    source: PackSource<'a>,
    progress: &'a Progress<'a>,
    sealer: Sealer,
    put: Sender<ToPut>,
    idle: Idle,
    open: [Vec<OpenPack>; 3],
    shared: bool,
    pages_apart: bool,
    next: u32,
    bytes: u64,
}

impl<'a> Packer<'a> {
    /// Begins with pack number `next`. With `pages_apart` no page shares a pack with data.
    pub(crate) fn new(
        source: PackSource<'a>,
        progress: &'a Progress<'a>,
        (put, idle): (Sender<ToPut>, Idle),
        next: u32,
        pages_apart: bool,
    ) -> Self {
        let sealer = Sealer::new();
        let open = Default::default();
        Self { source, progress, sealer, put, idle, open, shared: true, pages_apart, next, bytes: 0 }
    }

    /// Lays frames of one run into a pack, one behind the other. `contents` belong to the first.
    pub(crate) fn place(
        &mut self,
        lane: Lane,
        kind: FrameKind,
        frames: Vec<PlainFrame>,
        contents: Vec<FooterContent>,
    ) -> Result<Placed, PushError> {
        let len = frames.iter().map(PlainFrame::stored_len).sum();
        let apart = self.pages_apart && lane == Lane::Pages;
        let lane = if self.shared && !apart { Lane::Chunks } else { lane };
        let at = self.room(lane, len, footer_bound(frames.len(), contents.len()))?;
        let open = &mut self.open[lane as usize][at];
        let mut placed = Placed { pack: open.pack(), offset: 0, lens: Vec::with_capacity(frames.len()) };
        let mut contents = Some(contents);
        let keep = (kind != FrameKind::Data).then_some(&*self.source.keep);
        for frame in frames {
            let plain = frame.plain_len;
            let at = open.push(kind, frame, contents.take().unwrap_or_default(), keep)?;
            if placed.lens.is_empty() {
                placed.offset = at.offset;
            }
            placed.lens.push(FrameLen { stored: at.stored_len, plain });
        }
        self.shared &= open.spool.len() < SHARED_PACK_MAX;
        // Of the others one at a time is open, and goes out as soon as the next frame does not fit.
        let nearly_full = |pack: &OpenPack| !pack.has_room(NEARLY_FULL, 0);
        if lane == Lane::Chunks
            && let Some(at) = self.open[lane as usize].iter().position(nearly_full)
            && self.idle.any()
        {
            let full = self.open[lane as usize].remove(at);
            self.close(full, Some(PACK_TARGET))?;
        }
        Ok(placed)
    }

    /// Seals one page.
    pub(crate) fn page(&mut self, kind: FrameKind, encoded: &[u8]) -> Result<FrameRef, PushError> {
        let frame = self.sealer.page(encoded);
        Ok(self.place(Lane::Pages, kind, vec![frame], Vec::new())?.first())
    }

    /// An open pack of the lane with room, beginning one where none has.
    fn room(&mut self, lane: Lane, len: u64, footer: u64) -> Result<usize, PushError> {
        let open = &self.open[lane as usize];
        if let Some(at) = open.iter().position(|pack| pack.has_room(len, footer)) {
            return Ok(at);
        }
        if open.len() >= OPEN_MAX[lane as usize] {
            let fullest = (0..open.len()).max_by_key(|&i| open[i].spool.len()).unwrap_or_default();
            let full = self.open[lane as usize].remove(fullest);
            self.close(full, Some(PACK_TARGET))?;
        }
        let number = self.next;
        self.next = number
            .checked_add(1)
            .filter(|next| *next < PackRef::ROOT)
            .ok_or(PushError::TooLarge("a session of 2^32 packs"))?;
        self.open[lane as usize].push(self.source.begin(number)?);
        Ok(self.open[lane as usize].len() - 1)
    }

    fn close(&mut self, open: OpenPack, target: Option<u64>) -> Result<(), PushError> {
        let pack = open.pack();
        let (spool, _) = self.source.end(open, &mut self.sealer, None, target)?;
        self.bytes += spool.len();
        self.progress.count.bytes_stored.add(spool.len());
        self.put
            .send((BlobKey::Pack(pack.session, pack.number), spool))
            // The threads that put ended early: they hold the reason.
            .map_err(|_| PushError::Broken("a pack could not be handed on"))
    }

    /// Ends all packs. Gives the number after the last one, the bytes of all, and what the root pack needs.
    pub(crate) fn finish(mut self) -> Result<(u32, u64, PackSource<'a>, Sealer), PushError> {
        for lane in 0..self.open.len() {
            for open in std::mem::take(&mut self.open[lane]) {
                self.close(open, None)?;
            }
        }
        Ok((self.next, self.bytes, self.source, self.sealer))
    }
}

/// A frame's place that is known once its pack has it.
pub(crate) type FrameSlot = Arc<std::sync::OnceLock<FrameRef>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Bench, noise};
    use crossbeam_channel::{Receiver, unbounded};

    const CHUNK: usize = 1_000_000;

    /// Places 40 chunks, with a thread that puts idle or not; says after how many each pack was handed on.
    fn handed_on(is_idle: bool) -> Vec<usize> {
        let bench = Bench::new();
        let (keyring, store) = bench.keys_and_store();
        let (put, packs): (_, Receiver<ToPut>) = unbounded();
        let progress = Progress::new(&crate::tests::Quiet);
        let keep = Arc::new(Keep::new(&bench.state(), keyring.vault(), SessionNo(1)));
        let source =
            PackSource { store, keyring, session: SessionNo(1), random: &crate::tests::random, keep };
        let idle = if is_idle { Idle::one() } else { Idle::default() };
        let mut packer = Packer::new(source, &progress, (put, idle), 0, false);
        let mut after = Vec::new();
        for n in 1..=40 {
            // The 34th fits into what the first 33 leave of the first pack.
            let len = if n == 34 { 540_000 } else { CHUNK };
            let frame = PlainFrame { bytes: noise(n as u64, len), plain_len: len as u32 };
            packer.place(Lane::Chunks, FrameKind::Data, vec![frame], Vec::new()).unwrap();
            after.extend(packs.try_iter().map(|(_, spool)| {
                assert_eq!(spool.len(), PACK_TARGET);
                n
            }));
        }
        packer.finish().unwrap();
        assert_eq!(after.len() + packs.try_iter().count(), 2);
        after
    }

    #[test]
    fn a_pack_that_is_nearly_full_goes_out_when_the_link_is_idle() {
        assert_eq!(handed_on(true), [34]);
        assert_eq!(handed_on(false), [], "it may still be filled");
    }
}
