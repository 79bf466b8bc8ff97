//! What every target checks: a decoder neither panics nor takes memory without bound, and what it accepts it
//! encodes again to the same bytes.
//!
//! Memory is counted by an allocator of its own, so that a length taken at its word fails here and not on
//! somebody's machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Debug;

/// Most bytes a decoder may have in use at once, for input of this length (FORMAT.md, *Limits*).
fn allowed(input: usize) -> usize {
    64 * input + (64 << 10)
}

thread_local! {
    static IN_USE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn taken(bytes: usize) {
    let now = IN_USE.get().wrapping_add(bytes);
    IN_USE.set(now);
    // Memory freed that was taken before counting began makes the count wrap: that is less than nothing.
    if now < usize::MAX / 2 && now > PEAK.get() {
        PEAK.set(now);
    }
}

// SAFETY: hands everything to the system's allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.set(IN_USE.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        taken(size.wrapping_sub(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs a decoder and fails where it took too much memory.
pub fn bounded<T>(bytes: &[u8], decode: impl FnOnce(&[u8]) -> T) -> T {
    IN_USE.set(0);
    PEAK.set(0);
    let decoded = decode(bytes);
    let peak = PEAK.get();
    assert!(peak <= allowed(bytes.len()), "{peak} bytes of memory for {} bytes of input", bytes.len());
    decoded
}

/// Decodes; what is accepted has to be the bytes that `encode` writes, and has to come back equal.
pub fn strict<T: PartialEq + Debug, E: Debug + PartialEq>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, E>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    let Ok(value) = bounded(bytes, &decode) else { return };
    let again = encode(&value);
    assert_eq!(again, bytes, "another way to write it was accepted");
    assert_eq!(decode(&again).as_ref(), Ok(&value));
}

/// As [`strict`] for pages, whose sections may be unknown: `known` are the numbers of those that are not.
pub fn strict_page<T: PartialEq + Debug, E: Debug + PartialEq>(
    bytes: &[u8],
    known: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, E>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    let Ok(value) = bounded(bytes, &decode) else { return };
    let again = encode(&value);
    assert_eq!(again, without_unknown(bytes, known), "another way to write it was accepted");
    assert_eq!(decode(&again).as_ref(), Ok(&value));
}

/// A page that was accepted, without the optional sections that version 1 does not know.
fn without_unknown(bytes: &[u8], known: &[u8]) -> Vec<u8> {
    let mut out = bytes[..1].to_vec();
    let mut at = 1;
    while at < bytes.len() {
        let from = at;
        let (mut len, mut shift) = (0, 0);
        loop {
            at += 1;
            len |= usize::from(bytes[at] & 0x7f) << shift;
            shift += 7;
            if bytes[at] < 0x80 {
                break;
            }
        }
        at += 1 + len;
        if known.contains(&(bytes[from] & 0x7f)) {
            out.extend_from_slice(&bytes[from..at]);
        }
    }
    out
}
