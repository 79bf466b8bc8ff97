//! A root record to bytes.

use super::{RootRecord, key};
use crate::cbor::Writer;
use crate::page::{Xattr, XattrValue};
use backupengine_model::{Attributes, FrameRef, PackRef};

/// What of the record is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All keys.
    Whole,
    /// All but the signature.
    Signed,
}

/// Keys above 17 as they were read, ascending, and thereby the optional features that key 1 lists.
#[derive(Default)]
pub(super) struct Unknown<'a> {
    /// Optional features listed in key 1, ascending.
    pub(super) listed: Vec<u64>,
    /// Key and encoded value.
    pub(super) items: Vec<(u64, &'a [u8])>,
}

pub(super) fn encode(record: &RootRecord, part: Part, unknown: &Unknown<'_>) -> Vec<u8> {
    let mut out = Writer::new();
    let left_out = usize::from(record.parent.is_none()) + usize::from(part == Part::Signed);
    out.map(key::LAST as usize - left_out + unknown.items.len());
    // 1: features; version 1 has no critical ones.
    out.uint(1u8).array(2).array(0).array(unknown.listed.len());
    for &feature in &unknown.listed {
        out.uint(feature);
    }
    out.uint(2u8).array(2).bytes(&record.vault.0).uint(record.session.0);
    out.uint(3u8).bytes(&record.device.0);
    out.uint(4u8).array(2).int(record.created.secs).uint(record.created.nanos);
    out.uint(5u8).array(2).text(&record.device_name).array(record.tags.len());
    for tag in &record.tags {
        out.text(tag);
    }
    out.uint(6u8).array(record.sources.len());
    for source in &record.sources {
        out.bytes(source);
    }
    out.uint(7u8);
    attributes(&mut out, &record.attributes, &record.xattrs);
    let totals = &record.totals;
    out.uint(8u8).array(4);
    out.uint(totals.files).uint(totals.directories).uint(totals.bytes).uint(totals.stored);
    if let Some((session, hash)) = &record.parent {
        out.uint(9u8).array(2).uint(session.0).bytes(&hash.0);
    }
    out.uint(10u8).array(record.others.len());
    for (device, session, hash) in &record.others {
        out.array(3).bytes(&device.0).uint(session.0).bytes(&hash.0);
    }
    out.uint(11u8).bytes(&record.top);
    out.uint(12u8).array(record.root_listing.len());
    for page in &record.root_listing {
        out.bytes(page);
    }
    out.uint(13u8);
    frame(&mut out, &record.reference_set);
    out.uint(14u8).array(record.page_packs.len());
    for page_pack in &record.page_packs {
        out.array(4);
        pack(&mut out, page_pack);
    }
    out.uint(15u8).text(&record.writer);
    if part == Part::Whole {
        out.uint(key::SIGNATURE).bytes(&record.signature);
    }
    out.uint(key::LAST).bytes(&record.certificate);
    for (key, item) in &unknown.items {
        out.uint(*key).raw(item);
    }
    out.finish()
}

fn attributes(out: &mut Writer, a: &Attributes, xattrs: &[Xattr]) {
    out.array(12).uint(a.kind as u8).uint(a.mode).uint(a.uid).uint(a.gid).uint(a.size);
    out.int(a.mtime.secs).uint(a.mtime.nanos).uint(a.rdev).uint(a.nlink);
    match a.allocated {
        Some(allocated) => out.uint(allocated),
        None => out.null(),
    };
    out.uint(a.flags.0).array(xattrs.len());
    for xattr in xattrs {
        out.array(2).bytes(&xattr.name);
        match &xattr.value {
            XattrValue::Inline(value) => {
                out.bytes(value);
            }
            XattrValue::Stored { frame: at, inner, len } => {
                out.array(3);
                frame(out, at);
                out.uint(*inner).uint(*len);
            }
        }
    }
}

fn frame(out: &mut Writer, frame: &FrameRef) {
    out.array(6);
    pack(out, &frame.pack);
    out.uint(frame.offset).uint(frame.stored_len);
}

fn pack(out: &mut Writer, pack: &PackRef) {
    out.uint(pack.session.0).uint(pack.number).bytes(&pack.salt).uint(pack.epoch);
}
