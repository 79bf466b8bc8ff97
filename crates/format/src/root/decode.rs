//! Bytes to a root record.
//!
//! Only the shape and the rules between values are checked while reading; that the bytes are the one way to
//! write the record is checked at the end, by encoding it again.

use super::encode::{Part, Unknown, encode};
use super::{RootRecord, WHAT, key};
use crate::FormatError;
use crate::cbor::{Reader, Writer};
use crate::limits::{
    DATA_FRAME_MAX, HEAD_MAX, PACK_MAX, PAGE_MAX, PAGE_PACKS_MAX, XATTR_INLINE_MAX, XATTR_NAME_MAX,
};
use crate::page::{Xattr, XattrValue};
use backupengine_model::{
    Attributes, DeviceId, FrameRef, Kind, NodeFlags, PackRef, RootHash, SessionNo, Timestamp, Totals, VaultId,
};

pub(super) fn decode(bytes: &[u8]) -> Result<RootRecord, FormatError> {
    let mut r = Reader::new(bytes, WHAT);
    r.require(bytes.len() <= HEAD_MAX, "is larger than 16 MiB")?;
    let keys = r.map()?;
    expect(&mut r, 1)?;
    let mut unknown = features(&mut r)?;
    expect(&mut r, 2)?;
    r.tuple(2)?;
    let (vault, session) = (VaultId(r.fixed()?), session(&mut r)?);
    expect(&mut r, 3)?;
    let device = DeviceId(r.fixed()?);
    expect(&mut r, 4)?;
    r.tuple(2)?;
    let created = timestamp(&mut r)?;
    expect(&mut r, 5)?;
    r.tuple(2)?;
    let device_name = r.text()?.to_owned();
    let tags = r.list(|r| r.text().map(str::to_owned))?;
    r.require(tags.is_sorted_by(|a, b| a < b), "tags are not in ascending order")?;
    expect(&mut r, 6)?;
    let sources = r.list(|r| {
        let source = r.bytes()?;
        r.require(!source.is_empty() && !source.contains(&0), "a source is no path")?;
        Ok(source.to_vec())
    })?;
    expect(&mut r, 7)?;
    let (attributes, xattrs) = attributes(&mut r)?;
    expect(&mut r, 8)?;
    r.tuple(4)?;
    let totals = Totals { files: r.u64()?, directories: r.u64()?, bytes: r.u64()?, stored: r.u64()? };
    let mut next = r.u64()?;
    let parent = if next == 9 {
        r.tuple(2)?;
        let parent = (self::session(&mut r)?, RootHash(r.fixed()?));
        next = r.u64()?;
        Some(parent)
    } else {
        None
    };
    r.require(next == 10, "a key is missing or not in its place")?;
    let others = r.list(|r| {
        r.tuple(3)?;
        Ok((DeviceId(r.fixed()?), self::session(r)?, RootHash(r.fixed()?)))
    })?;
    r.require(others.is_sorted_by(|a, b| a.0 < b.0), "other devices are not in ascending order")?;
    expect(&mut r, 11)?;
    let top = page(&mut r)?;
    expect(&mut r, 12)?;
    let root_listing = r.list(|r| {
        let page = page(r)?;
        r.require(!page.is_empty(), "a page of the listing of / is empty")?;
        Ok(page)
    })?;
    r.require(root_listing.len() <= 2, "the listing of / has more than two pages")?;
    expect(&mut r, 13)?;
    let reference_set = frame(&mut r)?;
    let own = (reference_set.pack.session, reference_set.pack.number) == (session, PackRef::ROOT);
    r.require(own, "the reference set lies outside the root pack")?;
    expect(&mut r, 14)?;
    let page_packs = r.list(|r| {
        r.tuple(4)?;
        pack(r)
    })?;
    r.require(page_packs.len() <= PAGE_PACKS_MAX, "hints at more than 64 packs")?;
    expect(&mut r, 15)?;
    let writer = r.text()?.to_owned();
    expect(&mut r, key::SIGNATURE)?;
    let signature = r.fixed()?;
    expect(&mut r, key::LAST)?;
    let certificate = r.bytes()?.to_vec();
    read_unknown(&mut r, keys - (16 + usize::from(parent.is_some())).min(keys), &mut unknown)?;
    let record = RootRecord {
        vault,
        session,
        device,
        created,
        device_name,
        tags,
        sources,
        attributes,
        xattrs,
        totals,
        parent,
        others,
        top,
        root_listing,
        reference_set,
        page_packs,
        writer,
        signature,
        certificate,
    };
    r.require(encode(&record, Part::Whole, &unknown) == bytes, "is not deterministic CBOR")?;
    r.finish()?;
    Ok(record)
}

fn expect(r: &mut Reader<'_>, key: u64) -> Result<(), FormatError> {
    let found = r.u64()?;
    r.require(found == key, "a key is missing or not in its place")
}

fn features(r: &mut Reader<'_>) -> Result<Unknown<'static>, FormatError> {
    r.tuple(2)?;
    let critical = r.list(|r| r.u64())?;
    if let Some(feature) = critical.first() {
        return Err(FormatError::TooNew { what: WHAT, feature: format!("feature {feature}") });
    }
    let listed = r.list(|r| r.u64())?;
    r.require(listed.is_sorted_by(|a, b| a < b), "optional features are not in ascending order")?;
    r.require(listed.iter().all(|&feature| feature > key::LAST), "a known key is listed as a feature")?;
    Ok(Unknown { listed, items: Vec::new() })
}

fn read_unknown<'a>(r: &mut Reader<'a>, count: usize, unknown: &mut Unknown<'a>) -> Result<(), FormatError> {
    let mut last = key::LAST;
    for _ in 0..count {
        let key = r.u64()?;
        r.require(key > last, "a key is missing or not in its place")?;
        r.require(unknown.listed.contains(&key), "an unknown key is not listed as an optional feature")?;
        last = key;
        unknown.items.push((key, r.skip()?));
    }
    Ok(())
}

fn session(r: &mut Reader<'_>) -> Result<SessionNo, FormatError> {
    let number = r.u32()?;
    r.require(number != 0, "session 0 does not exist")?;
    Ok(SessionNo(number))
}

fn timestamp(r: &mut Reader<'_>) -> Result<Timestamp, FormatError> {
    let (secs, nanos) = (r.i64()?, r.u32()?);
    r.require(nanos < 1_000_000_000, "nanoseconds reach a whole second")?;
    Ok(Timestamp { secs, nanos })
}

fn page(r: &mut Reader<'_>) -> Result<Vec<u8>, FormatError> {
    let page = r.bytes()?;
    r.require(page.len() <= PAGE_MAX, "a page is larger than 1 MiB")?;
    Ok(page.to_vec())
}

fn pack(r: &mut Reader<'_>) -> Result<PackRef, FormatError> {
    Ok(PackRef { session: session(r)?, number: r.u32()?, salt: r.fixed()?, epoch: r.u16()? })
}

fn frame(r: &mut Reader<'_>) -> Result<FrameRef, FormatError> {
    r.tuple(6)?;
    let frame = FrameRef { pack: pack(r)?, offset: r.u32()?, stored_len: r.u32()? };
    let end = u64::from(frame.offset) + u64::from(frame.stored_len);
    r.require(frame.stored_len > 0 && end <= PACK_MAX, "a frame is empty or lies beyond 256 MiB")?;
    Ok(frame)
}

fn attributes(r: &mut Reader<'_>) -> Result<(Attributes, Vec<Xattr>), FormatError> {
    r.tuple(12)?;
    let kind = r.u64()?;
    r.require(kind == Kind::Directory as u64, "/ is no directory")?;
    let (mode, uid, gid, size) = (r.u32()?, r.u32()?, r.u32()?, r.u64()?);
    r.require(mode <= 0o7777, "a mode has bits beyond 07777")?;
    let (mtime, rdev, nlink) = (timestamp(r)?, r.u64()?, r.u32()?);
    let usual = r.null()? && r.u64()? == 0 && rdev == 0;
    r.require(usual, "/ has a device number, holes or marks")?;
    let xattrs = r.list(xattr)?;
    r.require(xattrs.is_sorted_by(|a, b| a.name < b.name), "extended attributes do not ascend by name")?;
    let attributes = Attributes {
        kind: Kind::Directory,
        mode,
        uid,
        gid,
        size,
        mtime,
        rdev,
        nlink,
        allocated: None,
        flags: NodeFlags::default(),
    };
    Ok((attributes, xattrs))
}

fn xattr(r: &mut Reader<'_>) -> Result<Xattr, FormatError> {
    r.tuple(2)?;
    let name = r.bytes()?.to_vec();
    let usable = (1..=XATTR_NAME_MAX).contains(&name.len()) && !name.contains(&0);
    r.require(usable, "the name of an extended attribute is unusable")?;
    let value = if r.is_array()? {
        r.tuple(3)?;
        let (frame, inner, len) = (frame(r)?, r.u32()?, r.u32()?);
        r.require(len as usize > XATTR_INLINE_MAX, "a stored value is not longer than 256 bytes")?;
        let end = u64::from(inner) + u64::from(len);
        r.require(end <= DATA_FRAME_MAX as u64, "a stored value lies beyond its frame")?;
        XattrValue::Stored { frame, inner, len }
    } else {
        let value = r.bytes()?.to_vec();
        r.require(value.len() <= XATTR_INLINE_MAX, "an inline value is longer than 256 bytes")?;
        XattrValue::Inline(value)
    };
    Ok(Xattr { name, value })
}

pub(super) fn signed_bytes(bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut r = Reader::new(bytes, WHAT);
    let keys = r.map()?;
    let (mut items, mut signed) = (Vec::new(), false);
    for _ in 0..keys {
        let from = r.position();
        let key = r.u64()?;
        r.skip()?;
        if key == key::SIGNATURE {
            signed = true;
        } else {
            items.extend_from_slice(bytes.get(from..r.position()).unwrap_or_default());
        }
    }
    r.require(signed, "there is no signature")?;
    r.finish()?;
    let mut out = Writer::new();
    out.map(keys - 1).raw(&items);
    Ok(out.finish())
}
