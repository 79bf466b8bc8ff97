//! How many entries per second a leaf page encodes and decodes. Run with `cargo bench -p backupengine-format`;
//! it prints figures and judges nothing. The aim is 2 million a second: a `find` over 100 000 nodes decodes 400
//! pages.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use backupengine_format::page::{Content, HardLink, LeafEntry, LeafPage};
use backupengine_model::{Attributes, FrameRef, Kind, NodeFlags, PackRef, SessionNo, Timestamp, TreePath};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A page as a tree of source code gives it: 256 files in directories of about 12.
fn page() -> LeafPage {
    let pack = PackRef { session: SessionNo(3), number: 1, salt: [5; 8], epoch: 1 };
    let mut entries = Vec::new();
    for n in 0..256u32 {
        let (dir, nth) = (n / 12, n % 12);
        let parent = match entries.last() {
            Some(LeafEntry { parent, .. }) if nth != 0 => Arc::clone(parent),
            _ => Arc::new(
                TreePath::from_joined(format!("home\0me\0src\0module{dir:02}").into_bytes())
                    .unwrap_or_default(),
            ),
        };
        let size = u64::from(n * 7919 % 9000 + 200);
        let frame = FrameRef { pack, offset: n / 40 * 90_000, stored_len: 90_000 };
        entries.push(LeafEntry {
            parent,
            name: format!("part_{:08x}.rs", n.wrapping_mul(2_654_435_761) >> 12 | nth << 24).into_bytes(),
            attributes: Attributes {
                kind: Kind::File,
                mode: 0o644,
                uid: 1000,
                gid: 1000,
                size,
                mtime: Timestamp { secs: 1_700_000_000 + i64::from(n % 5), nanos: n * 3_876_543 },
                rdev: 0,
                nlink: 1,
                allocated: None,
                flags: NodeFlags::default(),
            },
            content: Content::Bundle { frame, inner: n % 40 * 6000 },
            xattrs: Arc::default(),
            hard_link: HardLink::None,
        });
    }
    LeafPage { entries }
}

fn rate(what: &str, entries: usize, mut once: impl FnMut()) {
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(1) {
        (0..100).for_each(|_| once());
        rounds += 100;
    }
    let each = start.elapsed().as_secs_f64() / f64::from(rounds);
    println!("{what}: {:.2} million entries/s", entries as f64 / each / 1e6);
}

fn main() {
    let page = page();
    let bytes = page.encode();
    assert_eq!(LeafPage::decode(&bytes).as_ref(), Ok(&page));
    println!(
        "{} entries in {} bytes; a row takes {} bytes in memory",
        page.entries.len(),
        bytes.len(),
        size_of::<LeafEntry>()
    );
    rate("encode", page.entries.len(), || drop(black_box(black_box(&page).encode())));
    rate("decode", page.entries.len(), || drop(black_box(LeafPage::decode(black_box(&bytes)))));
}
