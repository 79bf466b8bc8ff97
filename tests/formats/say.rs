//! What decoded things mean, in the words of the vectors.

use backupengine_format::FormatError;
use backupengine_format::footer::{Footer, FooterContent};
use backupengine_format::forward::ForwardTable;
use backupengine_format::label;
use backupengine_format::page::{
    Content, Extent, ExtentPage, ExtentPageRef, ExtentRows, HardLink, IndexPage, LeafEntry, LeafPage, Xattr,
    XattrValue,
};
use backupengine_format::reference::ReferenceSet;
use backupengine_format::root::{RootRecord, signed_bytes};
use backupengine_format::trailer::Trailer;
use backupengine_model::{DeviceId, FrameRef, Kind, PackRef, SessionNo, SnapshotId, SnapshotInfo, Timestamp};

/// Lines of meaning, and the bytes that would be written for it.
type Said = Result<(Vec<String>, Vec<u8>), FormatError>;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn or_dash(bytes: &[u8]) -> String {
    if bytes.is_empty() { "-".into() } else { hex(bytes) }
}

/// Each item, with a blank before it.
fn list<T>(items: impl IntoIterator<Item = T>, say: impl Fn(T) -> String) -> String {
    items.into_iter().map(|item| format!(" {}", say(item))).collect()
}

fn pack(p: &PackRef) -> String {
    format!("{}.{}.{}.{}", p.session.0, p.number, hex(&p.salt), p.epoch)
}

fn frame(f: &FrameRef) -> String {
    format!("{}@{}+{}", pack(&f.pack), f.offset, f.stored_len)
}

pub(crate) fn trailer(bytes: &[u8]) -> Said {
    let t = Trailer::decode(bytes)?;
    let said = format!(
        "pack {} footer {} head {} commitment {}",
        pack(&t.pack),
        t.footer_len,
        t.head_len,
        hex(&t.commitment)
    );
    Ok((vec![said], t.encode().to_vec()))
}

pub(crate) fn footer(bytes: &[u8]) -> Said {
    let footer = Footer::decode(bytes)?;
    let mut said = Vec::new();
    for f in &footer.frames {
        said.push(format!("frame {} {} {}", f.kind as u8, f.stored_len, f.plain_len));
        said.extend(f.contents.iter().map(|content| match content {
            FooterContent::Chunk { id, frames } => format!("chunk {id} {frames}"),
            FooterContent::Piece { id, inner, len } => format!("piece {id} {inner} {len}"),
        }));
    }
    Ok((said, footer.encode()))
}

pub(crate) fn forward(bytes: &[u8]) -> Said {
    let table = ForwardTable::decode(bytes)?;
    let said = table.entries.iter();
    let said = said.map(|e| {
        format!("moved {} {} {} {} {}", e.session.0, e.number, e.old_offset, e.new_offset, e.new_len)
    });
    Ok((said.collect(), table.encode()))
}

pub(crate) fn refset(bytes: &[u8]) -> Said {
    let set = ReferenceSet::decode(bytes)?;
    let said =
        set.packs.iter().map(|(s, packs)| format!("packs {}{}", s.0, list(packs.iter(), |n| n.to_string())));
    Ok((said.collect(), set.encode()))
}

pub(crate) fn index(bytes: &[u8]) -> Said {
    let page = IndexPage::decode(bytes)?;
    let mut said = vec![format!("level {}", page.level)];
    said.extend(
        page.children
            .iter()
            .map(|c| format!("child {} {} {}", or_dash(&c.separator), c.entries, frame(&c.frame))),
    );
    Ok((said, page.encode()))
}

fn run(e: &Extent) -> (u64, String) {
    (e.len, e.frame.as_ref().map_or("hole".into(), frame))
}

fn extent_page(p: &ExtentPageRef) -> (u64, String) {
    (p.len, frame(&p.frame))
}

pub(crate) fn extents(bytes: &[u8]) -> Said {
    let page = ExtentPage::decode(bytes)?;
    let mut said = vec![format!("level {}", page.level)];
    match &page.rows {
        ExtentRows::Extents(rows) => said.extend(rows.iter().map(run).map(|(n, at)| format!("run {n} {at}"))),
        ExtentRows::Pages(rows) => {
            said.extend(rows.iter().map(extent_page).map(|(n, at)| format!("page {n} {at}")))
        }
    }
    Ok((said, page.encode()))
}

fn xattr(x: &Xattr) -> String {
    let value = match &x.value {
        XattrValue::Inline(value) => format!("inline:{}", hex(value)),
        XattrValue::Stored { frame: at, inner, len } => format!("stored:{}:{inner}:{len}", frame(at)),
    };
    format!("{}={value}", hex(&x.name))
}

fn node(e: &LeafEntry) -> String {
    let a = &e.attributes;
    let kind = match a.kind {
        Kind::Directory => "dir",
        Kind::File => "file",
        Kind::Symlink => "link",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice => "char",
        Kind::BlockDevice => "block",
    };
    let content = match &e.content {
        Content::None => "none".into(),
        Content::Inline(bytes) => format!("inline {}", hex(bytes)),
        Content::Bundle { frame: at, inner } => format!("bundle {} {inner}", frame(at)),
        Content::Extents(runs) => {
            format!("runs{}", list(runs.iter().map(run), |(n, at)| format!("{n}:{at}")))
        }
        Content::Pages(pages) => {
            format!("pages{}", list(pages.iter().map(extent_page), |(n, at)| format!("{n}:{at}")))
        }
    };
    let link = match &e.hard_link {
        HardLink::None => "none".into(),
        HardLink::First => "first".into(),
        HardLink::Also(path) => format!("also {}", hex(path.as_joined())),
    };
    format!(
        "node {} {} {kind} {:o} {} {} {} {} {} rdev {} nlink {} allocated {} flags {} content {content} xattrs{} link {link}",
        or_dash(e.parent.as_joined()),
        hex(&e.name),
        a.mode,
        a.uid,
        a.gid,
        a.size,
        a.mtime.secs,
        a.mtime.nanos,
        a.rdev,
        a.nlink,
        a.allocated.map_or("-".into(), |n| n.to_string()),
        a.flags.0,
        list(e.xattrs.iter(), xattr),
    )
}

pub(crate) fn leaf(bytes: &[u8]) -> Said {
    let page = LeafPage::decode(bytes)?;
    Ok((page.entries.iter().map(node).collect(), page.encode()))
}

fn names_and_sources(name: &str, tags: &[String], sources: &[Vec<u8>]) -> [String; 2] {
    [
        format!("name {}{}", hex(name.as_bytes()), list(tags, |tag| hex(tag.as_bytes()))),
        format!("sources{}", list(sources, |source| hex(source))),
    ]
}

pub(crate) fn root(bytes: &[u8]) -> Said {
    let r = RootRecord::decode(bytes)?;
    let (a, t) = (&r.attributes, &r.totals);
    let mut said = vec![format!(
        "vault {} session {} device {} created {} {}",
        r.vault, r.session.0, r.device, r.created.secs, r.created.nanos
    )];
    said.extend(names_and_sources(&r.device_name, &r.tags, &r.sources));
    said.push(format!(
        "root {:o} {} {} {} {} {} nlink {}{}",
        a.mode,
        a.uid,
        a.gid,
        a.size,
        a.mtime.secs,
        a.mtime.nanos,
        a.nlink,
        list(&r.xattrs, xattr)
    ));
    said.push(format!("totals {} {} {} {}", t.files, t.directories, t.bytes, t.stored));
    said.extend(r.parent.map(|(session, hash)| format!("parent {} {hash}", session.0)));
    said.extend(
        r.others.iter().map(|(device, session, hash)| format!("other {device} {} {hash}", session.0)),
    );
    said.push(format!("top {}", or_dash(&r.top)));
    said.extend(r.root_listing.iter().map(|page| format!("listing {}", hex(page))));
    said.push(format!("set {}", frame(&r.reference_set)));
    said.extend(r.page_packs.iter().map(|p| format!("pack {}", pack(p))));
    said.push(format!("writer {}", hex(r.writer.as_bytes())));
    said.push(format!("signature {}", hex(&r.signature)));
    said.push(format!("certificate {}", hex(&r.certificate)));
    said.push(format!("signed {}", hex(&signed_bytes(bytes)?)));
    Ok((said, r.encode()))
}

pub(crate) fn label(bytes: &[u8]) -> Said {
    let label = label::decode(bytes)?;
    let mut said = names_and_sources(&label.device_name, &label.tags, &label.sources).to_vec();
    said.push(format!("cut {}", if label.cut { "yes" } else { "no" }));
    said.extend(
        label.forgotten.iter().map(|f| format!("forgotten {} {} {}", hex(&f.device.0), f.stays.0, f.gone.0)),
    );
    let info = SnapshotInfo {
        session: SessionNo(1),
        id: SnapshotId([0; 8]),
        created: Timestamp::default(),
        device: DeviceId([0; 16]),
        device_name: label.device_name,
        tags: label.tags,
        sources: label.sources,
    };
    let mut again = label::encode_with(&info, &label.forgotten);
    // That something was left out is not in the list of snapshots: its mark is the last byte, but for what was forgotten.
    if label.cut
        && let Some(mark) = again.get_mut(label::encode(&info).len() - 1)
    {
        *mark = 0xf5;
    }
    Ok((said, again))
}
