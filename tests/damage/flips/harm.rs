//! Random damage to a file, small enough to be done in place and undone.
//!
//! May not touch more than it says. What always holds: a harm changes at least one byte or the length, and is the same
//! for the same numbers drawn. Tested by the campaign, which undoes every one and compares in the end.

use backupengine_testkit::Seeded;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// What is done to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    Flip,
    Flips,
    Zeros,
    Garbage,
    Swap,
    Cut,
    Longer,
}

/// Flips twice: they are what the campaign is called after.
const ACTS: [Act; 8] =
    [Act::Flip, Act::Flip, Act::Flips, Act::Zeros, Act::Garbage, Act::Swap, Act::Cut, Act::Longer];

/// Longest run that is overwritten, exchanged or appended, in bytes.
const RUN: u64 = 4096;

/// One damage to one file: bytes that are written over, then the length it gets.
pub(crate) struct Harm {
    pub(crate) act: Act,
    patches: Vec<(usize, Vec<u8>)>,
    len: usize,
}

impl Harm {
    /// Damage that begins within `place` of a file.
    pub(crate) fn draw(random: &Seeded, sound: &[u8], place: &Range<usize>) -> Self {
        loop {
            let act = ACTS[random.below(ACTS.len() as u64) as usize];
            let harm = Self::of(act, random, sound, place);
            if harm.changes(sound) {
                return harm;
            }
        }
    }

    fn of(act: Act, random: &Seeded, sound: &[u8], place: &Range<usize>) -> Self {
        let inside = || place.start + random.below(place.len().max(1) as u64) as usize;
        let at = inside().min(sound.len().saturating_sub(1));
        let flip = |at: usize| (at, vec![sound[at] ^ 1 << random.below(8)]);
        let run = |at: usize| (1 + random.below(RUN) as usize).min(sound.len() - at);
        let mut harm = Self { act, patches: Vec::new(), len: sound.len() };
        match act {
            _ if sound.is_empty() => harm = Self::of_nothing(random),
            Act::Flip => harm.patches.push(flip(at)),
            Act::Flips => {
                let many = 2 + random.below(15);
                let more = (0..many).map(|_| inside().min(sound.len() - 1));
                let places: std::collections::BTreeSet<usize> = more.collect();
                harm.patches.extend(places.into_iter().map(flip));
            }
            Act::Zeros => harm.patches.push((at, vec![0; run(at)])),
            Act::Garbage => harm.patches.push((at, garbage(random, run(at)))),
            Act::Swap => {
                let other = random.below(sound.len() as u64) as usize;
                let (low, high) = (at.min(other), at.max(other));
                let len = run(high).min(high - low);
                harm.patches.push((low, sound[high..high + len].to_vec()));
                harm.patches.push((high, sound[low..low + len].to_vec()));
            }
            Act::Cut => harm.len = at,
            Act::Longer => {
                harm.patches.push((sound.len(), garbage(random, 1 + random.below(RUN) as usize)));
                harm.len += harm.patches[0].1.len();
            }
        }
        harm
    }

    fn of_nothing(random: &Seeded) -> Self {
        let more = garbage(random, 1 + random.below(RUN) as usize);
        Self { act: Act::Longer, len: more.len(), patches: vec![(0, more)] }
    }

    fn changes(&self, sound: &[u8]) -> bool {
        self.len != sound.len() || self.hits(sound, &(0..sound.len()))
    }

    /// Whether what is read from `range` of the file is not what it was.
    pub(crate) fn hits(&self, sound: &[u8], range: &Range<usize>) -> bool {
        self.len < range.end
            || self.patches.iter().any(|(at, bytes)| {
                let from = range.start.max(*at);
                let to = range.end.min(at + bytes.len());
                from < to && bytes[from - at..to - at] != sound[from..to]
            })
    }

    /// The same for what is read from the file's end.
    pub(crate) fn hits_end(&self, sound: &[u8], range: &Range<usize>) -> bool {
        self.len != sound.len() || self.hits(sound, range)
    }

    pub(crate) fn apply(&self, file: &File) {
        for (at, bytes) in &self.patches {
            file.write_all_at(bytes, *at as u64).unwrap();
        }
        file.set_len(self.len as u64).unwrap();
    }

    pub(crate) fn undo(&self, file: &File, sound: &[u8]) {
        file.set_len(sound.len() as u64).unwrap();
        let kept = self.patches.iter().map(|(at, bytes)| *at..(at + bytes.len()).min(sound.len()));
        for range in
            kept.chain(std::iter::once(self.len..sound.len())).filter(|range| range.start < range.end)
        {
            file.write_all_at(&sound[range.clone()], range.start as u64).unwrap();
        }
    }
}

impl fmt::Debug for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patches: Vec<_> = self.patches.iter().map(|(at, bytes)| (at, bytes.len())).collect();
        write!(f, "{:?} of {patches:?}, {} bytes long", self.act, self.len)
    }
}

pub(crate) fn garbage(random: &Seeded, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
