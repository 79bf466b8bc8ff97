#!/usr/bin/env python3
"""Writes the vectors of `*/v1/` (all but seal's) from crates/format/FORMAT.md alone, without the program.

    scripts/golden

Run to add vectors: a file that exists is never written again, and one that would come out differently is an error, so
a change of the format shows here. Each file says its verdict, its bytes, and where it is accepted what it means.
The name says what is special, for refused ones the rule that is broken.
"""
import struct
import sys

sys.dont_write_bytecode = True
from encode import (CHAR, DIR, FIFO, FILE, FULL, LINK, SOCKET, Chain, Out, Packs, cbor, frame, leaf, node, pack, page,
                    say_frame, say_node, say_pack, sparse, strings, uv, zz)


# ---- trailer

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def trailer(magic=b"BKEPACK1", version=1, flags=0, epoch=1, s=7, n=3, footer=100, head=0, spare=bytes(8), crc=None):
    body = magic + bytes([version, flags]) + struct.pack("<HII", epoch, s, n) + bytes(range(1, 9))
    body += struct.pack("<II", footer, head) + bytes(range(0x10, 0x20)) + spare
    return body + struct.pack("<I", crc32c(body) if crc is None else crc)


def trailers():
    out = Out("trailer")
    says = lambda s, n, epoch, footer, head: [
        f"pack {say_pack(pack(s, n, bytes(range(1, 9)), epoch))} footer {footer} head {head} "
        f"commitment {bytes(range(0x10, 0x20)).hex()}"]
    out.accept("data-pack", trailer(), "no head", says(7, 3, 1, 100, 0))
    out.accept("root-pack", trailer(n=0xFFFFFFFF, head=5000, epoch=65535), "", says(7, 0xFFFFFFFF, 65535, 100, 5000))
    out.refuse("checksum-wrong", trailer(crc=1), "")
    out.refuse("magic-wrong", trailer(magic=b"BKEPACK2"), "")
    out.refuse("no-footer", trailer(footer=0), "")
    out.refuse("session-zero", trailer(s=0), "")
    out.refuse("spare-not-zero", trailer(spare=bytes(7) + b"\1"), "")
    out.refuse("too-short", trailer()[:63], "")
    out.refuse("too-long", b"\0" + trailer(), "a trailer is exactly 64 bytes")
    out.refuse("version-damaged", trailer()[:8] + b"\2" + trailer()[9:], "damage is not called a newer version")
    out.newer("version-newer", trailer(version=2), "")
    out.newer("flags-newer", trailer(flags=1), "")


# ---- footer

ID = [bytes([n] * 16) for n in range(8)]


def row(kind, stored, plain, contents=None):
    out = bytes([kind]) + uv(stored) + uv(plain)
    if kind == 1:
        out += uv(len(contents or [])) + b"".join(contents or [])
    return out


def chunk(n, frames):
    return ID[n] + uv(frames * 2)


def piece(n, inner, length):
    return ID[n] + uv(inner * 2 + 1) + uv(length)


def footer(*rows, version=1, count=None):
    return uv(version) + uv(len(rows) if count is None else count) + b"".join(rows)


def footers():
    out = Out("footer")
    out.accept("empty", footer(), "", [])
    every = footer(row(1, 70, FULL, [chunk(1, 2)]), row(1, 80, 100), row(2, 9, 20), row(3, 9, 20), row(4, 9, 1 << 20),
                   row(5, 9, 16 << 20), row(9, 9, 20), row(1, 30, 100, [piece(2, 0, 10), piece(3, 10, 80)]), row(1, 1, 0))
    out.accept("every-kind", every, "the last frame is a bundle that no index needs", [
        f"frame 1 70 {FULL}", f"chunk {ID[1].hex()} 2", "frame 1 80 100", "frame 2 9 20", "frame 3 9 20",
        f"frame 4 9 {1 << 20}", f"frame 5 9 {16 << 20}", "frame 9 9 20", "frame 1 30 100", f"piece {ID[2].hex()} 0 10",
        f"piece {ID[3].hex()} 10 80", "frame 1 1 0"])
    out.refuse("bytes-behind", every + b"\0", "")
    out.refuse("cut", every[:-1], "")
    out.refuse("number-not-shortest", b"\x81\0" + every[1:], "")
    out.refuse("kind-unknown", footer(row(10, 9, 20)), "")
    out.refuse("kind-root", footer(row(6, 9, 20)), "heads are not among the frames")
    out.refuse("kind-footer", footer(row(7, 9, 20)), "")
    out.refuse("kind-forwarding", footer(row(8, 9, 20)), "")
    out.refuse("frame-empty", footer(row(2, 0, 20)), "")
    out.refuse("data-too-large", footer(row(1, 9, FULL + 1)), "")
    out.refuse("page-too-large", footer(row(2, 9, (1 << 20) + 1)), "")
    out.refuse("beyond-256-MiB", footer(row(2, 1 << 28, 20), row(2, 1, 20)), "")
    out.refuse("chunk-without-frames", footer(row(1, 9, 20, [chunk(1, 0)])), "")
    out.refuse("chunk-not-alone", footer(row(1, 9, 20, [chunk(1, 1), piece(2, 0, 1)])), "")
    out.refuse("chunk-broken-off-by-page", footer(row(1, 9, 20, [chunk(1, 2)]), row(2, 9, 20)), "")
    out.refuse("chunk-broken-off-by-chunk", footer(row(1, 9, 20, [chunk(1, 2)]), row(1, 9, 20, [chunk(2, 1)])), "")
    out.refuse("chunk-longer-than-pack", footer(row(1, 9, 20, [chunk(1, 2)])), "")
    out.refuse("piece-empty", footer(row(1, 9, 20, [piece(1, 0, 0)])), "")
    out.refuse("piece-beyond-frame", footer(row(1, 9, 20, [piece(1, 1, 20)])), "")
    out.refuse("pieces-overlap", footer(row(1, 9, 20, [piece(1, 0, 10), piece(2, 9, 1)])), "")
    out.refuse("count-beyond-bytes", footer(count=1 << 40), "")
    out.newer("version-newer", footer(version=2), "")


# ---- forwarding table, reference set

def forward(*groups, version=1):
    out = uv(version) + uv(len(groups))
    for s, n, rows in groups:
        out += uv(s) + uv(n) + uv(len(rows)) + b"".join(uv(x) for r in rows for x in r)
    return out


def forwards():
    out = Out("forward")
    out.accept("empty", forward(), "", [])
    every = forward((1, 0, [(0, 90, 40), (500, 0, 41)]), (1, 3, [(7, 50, 42)]), (2, 0, [(0, 200, 43)]))
    out.accept("groups", every, "old offsets are differences", [
        "moved 1 0 0 90 40", "moved 1 0 500 0 41", "moved 1 3 7 50 42", "moved 2 0 0 200 43"])
    out.refuse("bytes-behind", every + b"\0", "")
    out.refuse("cut", every[:-1], "")
    out.refuse("offset-twice", forward((1, 0, [(5, 0, 9), (0, 9, 9)])), "")
    out.refuse("packs-descend", forward((1, 1, [(0, 0, 9)]), (1, 0, [(0, 9, 9)])), "")
    out.refuse("pack-twice", forward((1, 1, [(0, 0, 9)]), (1, 1, [(5, 9, 9)])), "")
    out.refuse("pack-without-frames", forward((1, 1, []), (1, 2, [(n + 1, 9, 9) for n in range(4)])), "")
    out.refuse("session-zero", forward((0, 1, [(0, 0, 9)])), "")
    out.refuse("root-pack-moved", forward((1, 0xFFFFFFFF, [(0, 0, 9)])), "")
    out.refuse("frame-empty", forward((1, 1, [(0, 0, 0)])), "")
    out.refuse("new-beyond-256-MiB", forward((1, 1, [(0, 1 << 28, 1)])), "")
    out.refuse("old-beyond-256-MiB", forward((1, 1, [(1 << 28, 0, 1)])), "")
    out.newer("version-newer", forward(version=2), "")


def refset(*sessions, version=1):
    """Sessions as (difference, [(missing, more), …])."""
    out = uv(version) + uv(len(sessions))
    for delta, runs in sessions:
        out += uv(delta) + uv(len(runs)) + b"".join(uv(a) + uv(b) for a, b in runs)
    return out


def refsets():
    out = Out("refset")
    out.accept("empty", refset(), "", [])
    every = refset((3, [(0, 2), (1, 0)]), (6, [(5, 1)]), (0xFFFFFFFF - 9, [(0xFFFFFFFE, 0)]))
    out.accept("runs", every, "", ["packs 3 0 1 2 4", "packs 9 5 6", f"packs {0xFFFFFFFF} {0xFFFFFFFE}"])
    out.refuse("bytes-behind", every + b"\0", "")
    out.refuse("cut", every[:-1], "")
    out.refuse("session-zero", refset((0, [(0, 0)])), "")
    out.refuse("session-twice", refset((3, [(0, 0)]), (0, [(5, 0)])), "")
    out.refuse("session-beyond-32-bits", refset((0xFFFFFFFF, [(0, 0)]), (1, [(0, 0)])), "")
    out.refuse("session-without-packs", refset((3, []), (1, [(1, 0)] * 4)), "")
    out.refuse("runs-neighbours", refset((3, [(0, 2), (0, 0)])), "one run in two")
    out.refuse("root-pack", refset((3, [(0xFFFFFFFF, 0)])), "")
    out.refuse("run-reaches-root-pack", refset((3, [(0, 0xFFFFFFFF)])), "")
    out.newer("version-newer", refset(version=2), "")


# ---- leaves

def cases_leaf():
    out = Out("leaf")
    f0, f1, f2 = frame(1, 0, 0, 5000), frame(1, 0, 5000, 300), frame(2, 9, 7, 400, bytes(range(8)), 2)

    def accept(name, rows, remark=""):
        out.accept(name, page(leaf(rows)), remark, [say_node(r) for r in rows])

    def refuse(name, rows, remark="", **changes):
        out.refuse(name, page(leaf(rows, **changes)), remark)

    x = node("a", "x", content=("inline", b"hello"))
    one = [x]
    accept("one-file", [node("", "f")])
    accept("directories", [node("", "a", DIR, 4096), node("", "b", DIR, 4096, nlink=5), node("a", "b", DIR, 0, nlink=1),
                           node("a\0b", "z", DIR, 12)])
    accept("raw-names", [node("a\nb", b"\x01"), node("a\nb", b"\n"), node("a\nb", b"\xff\xfe"), node("\x7f", b"..."),
                         node("\x7f", b"x" * 255)])
    accept("prefixes", [node("usr/lib", "lib"), node("usr/lib", "liba"), node("usr/lib", "libb"), node("usr/lib/liba", "lib"),
                        node("usr/libexec", "lib")])
    accept("kinds", [node("d", "chr", CHAR, rdev=0x0501), node("d", "fifo", FIFO, mode=0o600), node("d", "sock", SOCKET, uid=0)])
    accept("links", [node("l", "a", LINK, content=("inline", b"../target"), mode=0o777),
                     node("l", "b", LINK, 0, ("inline", b"/proc/1/exe")), node("l", "c", LINK, content=("inline", b"x" * 5000))],
           "the second shows a size that is not its target's length")
    accept("inline", [node("i", "a", content=("inline", b"a")), node("i", "b"), node("i", "c", content=("inline", b"c" * 128))])
    accept("bundles", [node("b", "1", size=10, content=("bundle", f0, 0)), node("b", "2", size=20, content=("bundle", f0, 10)),
                       node("b", "3", size=5, content=("bundle", f0, 100)), node("b", "4", size=5, content=("bundle", f1, 3)),
                       node("b", "5", size=FULL - 8, content=("bundle", f1, 8)), node("b", "6", size=1, content=("bundle", f2, 0))])
    accept("runs", [node("r", "1", size=FULL * 2 + 7, content=("runs", [(FULL, f0), (FULL, f1), (7, frame(1, 0, 5300, 40))])),
                    node("r", "2", size=(3 << 40) + 1 + FULL, allocated=1,
                         content=("runs", [(3 << 40, None), (1, frame(1, 0, 5340, 30)), (FULL, None)])),
                    node("r", "3", size=9, content=("runs", [(4, f2), (5, f0)]))],
           "the second file is sparse and begins right behind the first in its pack")
    accept("one-full-hole", [node("r", "x", size=FULL, allocated=0, content=("runs", [(FULL, None)]))], "the shortest run")
    accept("extent-pages", [node("p", "1", size=1 << 40, content=("pages", [(1 << 39, f0), (1 << 39, f2)]))])
    accept("times", [node("t", "1", mtime=(0, 0)), node("t", "2", mtime=(-1, 999999999)), node("t", "3", mtime=(2**63 - 1, 1)),
                     node("t", "4", mtime=(-2**63, 0)), node("t", "5", mtime=(-2**63, 0))], "differences wrap")
    accept("owners", [node("o", "1", uid=2**32 - 1, gid=0), node("o", "2", mode=0o7777), node("o", "3", mode=0),
                      node("o", "4", mode=0o7777)])
    acl = ((b"security.selinux", b"x\0"), (b"system.posix_acl_access", bytes(range(44))), (b"user.empty", b""))
    big = ((b"user.big", (f2, 5, 257)), (b"user.max", b"v" * 256))
    accept("xattrs", [node("x", "1", xattrs=acl), node("x", "2"), node("x", "3", xattrs=big),
                      node("x", "4", xattrs=acl, size=1, content=("bundle", f1, 0))], "packs of attributes come first")
    accept("hard-links", [node("h", "1", link="first", nlink=3, content=("inline", b"x")),
                          node("h", "2", link=b"h\x001", nlink=3, content=("inline", b"x")),
                          node("h/sub", "3", link=b"h\x001", nlink=3, content=("inline", b"x")),
                          node("h/sub", "s", LINK, link=b"other", nlink=2, content=("inline", b"t"))])
    accept("torn", [node("t", "1", flags=1), node("t", "2")])
    unknown = leaf(one)
    unknown[12], unknown[18] = b"later", b"later"
    body = page({k: v for k, v in leaf(one).items()})
    out.accept("unknown-optional-section", body + b"\x12\x05later", "section 18 is skipped", [say_node(x)])
    out.accept("reserved-optional-section", insert(leaf(one), 12, b"later"), "section 12 is skipped", [say_node(x)])
    out.newer("unknown-critical-section", body + b"\x92\x05later", "")
    out.newer("version-newer", page(leaf(one), version=2), "")

    # The frame of sections.
    good = page(leaf(one))
    out.refuse("empty", b"", "")
    out.refuse("cut", good[:-1], "")
    out.refuse("bytes-behind", good + b"\0", "a tag without a section")
    out.refuse("number-not-shortest", b"\x81\0" + good[1:], "")
    out.refuse("section-twice", good + b"\x89\x01\0", "section 9 again")
    out.refuse("sections-descend", body + b"\x12\0\x0e\x02\x01\0", "14 behind 18")
    out.refuse("section-mark-missing", good.replace(b"\x82", b"\x02", 1), "section 2 without its critical mark")
    out.refuse("section-mark-added", body + b"\x91\x03\x01\0\x01", "section 17 as critical")
    out.refuse("section-empty", body + b"\x11\0", "")
    for number in (1, 2, 3, 4, 5, 6, 8):
        refuse(f"section-{number:02}-missing", one, **{f"s{number}": None})

    # Directories and names.
    refuse("class-unknown", one, s1=b"\2" + leaf(one)[1][1:])
    refuse("no-entries", one, s1=b"\1\0")
    refuse("directory-without-entries", one, s1=b"\1\1\0\1a\0")
    refuse("class-of-other-kind", one, s1=b"\0" + leaf(one)[1][1:], s8=None, s9=None)
    refuse("directory-in-other-class", [node("a", "x"), node("a", "y", DIR, 0)])
    refuse("parents-descend", [node("b", "x"), node("a", "x")])
    refuse("parent-twice", [node("a", "x"), node("a", "y")], s1=b"\1\2\0\1a\1\1\0\1")
    refuse("parent-shares-too-little", [node("aa", "x"), node("ab", "y")], s1=b"\1\2\0\2aa\1\0\2ab\1")
    refuse("parent-shares-too-much", [node("aa", "x"), node("ab", "y")], s1=b"\1\2\0\2aa\1\3\1b\1")
    for name, parent in (("dot-dot", b"a\0.."), ("empty-part", b"a\0\0b"), ("slash", b"a/b"), ("trailing-zero", b"a\0")):
        refuse(f"parent-{name}", one, s1=b"\1\1\0" + uv(len(parent)) + parent + b"\1")
    deep = b"d\0" * 4096 + b"d"
    refuse("parent-too-deep", one, s1=b"\1\1\0" + uv(len(deep)) + deep + b"\1")
    refuse("entries-beyond-bytes", one, s1=b"\1\1\0\1a" + uv(65536))
    refuse("entries-beyond-limit", one, s1=b"\1\1\0\1a" + uv(65537))
    refuse("names-descend", [node("a", "y"), node("a", "x")])
    refuse("name-twice", [node("a", "x"), node("a", "x")])
    refuse("name-prefix-of-the-one-before", [node("a", "xy"), node("a", "x")])
    refuse("name-shares-too-little", [node("a", "xa"), node("a", "xb")], s2=b"\0\0\2\2xaxb")
    refuse("name-shares-too-much", [node("a", "xa"), node("a", "xb")], s2=b"\0\3\2\1xab")
    refuse("name-shares-across-directories", [node("a", "x"), node("b", "xy")], s2=b"\0\1\1\1xy")
    for name, text in (("dot", b"."), ("dot-dot", b".."), ("slash", b"a/b"), ("zero-byte", b"a\0b"), ("empty", b""),
                       ("too-long", b"x" * 4097)):
        refuse(f"name-{name}", [node("a", text)])
    refuse("names-left-over", one, s2=leaf(one)[2] + b"x")

    # Attributes.
    refuse("attribute-index-out-of-range", one, s4=b"\1")
    refuse("attributes-not-in-first-use-order", [node("a", "x", uid=1), node("a", "y", uid=2)], s4=b"\1\0")
    refuse("attributes-twice", [node("a", "x"), node("a", "y")], s3=leaf(one)[3] * 2, s4=b"\0\1")
    refuse("attributes-not-used", one, s3=leaf(one)[3] + uv(FILE * 4096) + b"\0\0")
    refuse("kind-unknown", one, s3=uv(7 * 4096) + b"\0\0")
    refuse("nanoseconds-a-second", one, s6=zz(0) + struct.pack("<I", 10**9))
    refuse("nanoseconds-missing", one, s6=zz(0) + b"\0\0\0")
    refuse("sizes-left-over", one, s5=uv(5) + uv(0))
    refuse("link-count-without-saying", one, s14=sparse({0: uv(1)}))
    refuse("link-count-beyond-entries", one, s14=sparse({1: uv(2)}))
    refuse("sparse-column-empty", one, s14=uv(0))
    refuse("device-number-of-file", one, s15=sparse({0: uv(9)}))
    refuse("device-number-zero", [node("d", "c", CHAR)], s15=sparse({0: uv(0)}))
    refuse("allocated-more-than-size", [node("a", "x", size=5, content=x["content"], allocated=6)])
    refuse("allocated-of-fifo", [node("a", "x", FIFO, allocated=0)])
    refuse("mark-unknown", [node("a", "x", flags=2)])
    refuse("mark-none", one, s17=sparse({0: uv(0)}))
    refuse("mark-of-link", [node("a", "x", LINK, content=("inline", b"t"), flags=1)])

    # Content.
    refuse("file-with-size-without-content", [node("a", "x", size=5)])
    refuse("file-empty-with-content", [node("a", "x", size=0, content=("bundle", f0, 0))])
    refuse("file-inline-too-long", [node("a", "x", content=("inline", b"x" * 129))])
    refuse("inline-bytes-end-too-early", one, s9=b"hell")
    refuse("inline-bytes-left-over", one, s9=b"hello!")
    refuse("link-without-target", [node("a", "x", LINK)])
    refuse("link-target-too-long", [node("a", "x", LINK, content=("inline", b"x" * 65537))])
    refuse("link-length-without-saying", [node("a", "x", LINK, content=("inline", b"t"))], s8=b"\7\1")
    refuse("odd-length-of-file", [node("a", "x", size=1)], s8=b"\7\2", s9=b"ab")
    refuse("fifo-with-content", [node("a", "x", FIFO, 5, ("inline", b"hello"))])
    refuse("directory-with-content", [node("a", "x", DIR, 0)], s8=b"\0")
    refuse("content-code-unknown", one, s8=b"\x08", s9=None)
    refuse("bundle-behind-nothing", [node("a", "x", size=1)], s8=b"\1")
    refuse("bundle-same-as-nothing", [node("a", "x", size=1)], s8=b"\2\0")
    refuse("bundle-beyond-frame", [node("a", "x", size=FULL, content=("bundle", f0, 1))])
    two = [node("a", "x", size=1, content=("bundle", f0, 0)), node("a", "y", size=1, content=("bundle", f0, 1))]
    packs = Packs()
    ref = packs.fref(f0)
    refuse("bundle-offset-without-saying", two, s8=b"\3\2" + ref + uv(0) + uv(1))
    refuse("bundle-frame-without-saying", two, s8=b"\3\3" + ref + uv(0) + ref + uv(1))
    refuse("runs-too-short", [node("a", "x", size=FULL + 1, content=("runs", [(FULL, f0)]))])
    refuse("runs-too-long", [node("a", "x", size=5, content=("runs", [(4, f0), (2, None)]))])
    refuse("runs-none", [node("a", "x", size=5, content=("runs", []))])
    refuse("run-empty", [node("a", "x", size=5, content=("runs", [(0, None), (5, None)]))])
    refuse("run-longer-than-frame", [node("a", "x", size=FULL + 1, content=("runs", [(FULL + 1, f0)]))])
    run = [node("a", "x", size=FULL, content=("runs", [(FULL, f0)]))]
    refuse("run-flag-unknown", run, s8=b"\5\1\x12" + ref)
    refuse("run-length-without-saying", run, s8=b"\5\1\x0a" + uv(FULL) + ref)
    refuse("run-hole-with-place", run, s8=b"\5\1\3" + ref)
    refuse("run-without-place", run, s8=b"\5\1\0" + uv(9))
    refuse("run-apart-from-nothing", run, s8=b"\5\1\4" + uv(9) + uv(9))
    both = [node("a", "x", size=2 * FULL, content=("runs", [(FULL, f0), (FULL, f1)]))]
    refuse("run-pack-without-saying", both, s8=b"\5\2\2" + ref + b"\2" + packs.fref(f1))
    refuse("run-offset-without-saying", both, s8=b"\5\2\2" + ref + b"\4" + uv(5000) + uv(300))
    refuse("run-in-two-places", both, s8=b"\5\2\2" + ref + b"\6" + packs.fref(f1))
    refuse("frame-empty", [node("a", "x", size=1, content=("bundle", frame(1, 0, 0, 0), 0))])
    refuse("frame-beyond-256-MiB", [node("a", "x", size=1, content=("bundle", frame(1, 0, 1 << 28, 1), 0))])
    refuse("extent-pages-too-short", [node("a", "x", size=9, content=("pages", [(8, f0)]))])
    refuse("extent-page-empty", [node("a", "x", size=9, content=("pages", [(9, f0), (0, f1)]))])
    refuse("content-left-over", one, s8=b"\4\0")

    # Packs.
    refuse("pack-session-zero", [node("a", "x", size=1, content=("bundle", frame(0, 0, 0, 9), 0))])
    refuse("pack-is-root-pack", [node("a", "x", size=1, content=("bundle", frame(1, 0xFFFFFFFF, 0, 9), 0))])
    refuse("pack-not-used", one, s7=packs.table())
    refuse("pack-index-out-of-range", two, s7=None)
    refuse("pack-table-cut", two, s7=packs.table()[:-1])
    far = [node("a", "x", size=1, content=("bundle", f0, 0)), node("a", "y", size=1, content=("bundle", f2, 0))]
    order = Packs()
    order.fref(f2)
    refuse("packs-not-in-first-use-order", far, s7=order.table() + packs.table(),
           s8=b"\3\3" + order.fref(f0) + b"\0" + order.fref(f2) + b"\0")
    refuse("pack-twice", far, s7=packs.table() * 2, s8=b"\3\3" + ref + b"\0\1" + ref[1:] + b"\1")

    # Extended attributes.
    def with_set(name, *set_):
        refuse(name, [node("a", "x", xattrs=tuple(set_))])

    with_set("xattrs-descend", (b"user.b", b""), (b"user.a", b""))
    with_set("xattr-twice", (b"user.a", b""), (b"user.a", b""))
    with_set("xattr-name-empty", (b"", b"x"))
    with_set("xattr-name-too-long", (b"n" * 256, b"x"))
    with_set("xattr-name-with-zero-byte", (b"user.\0", b"x"))
    with_set("xattr-inline-too-long", (b"user.a", b"x" * 257))
    with_set("xattr-stored-too-short", (b"user.a", (f0, 0, 256)))
    with_set("xattr-stored-beyond-frame", (b"user.a", (f0, FULL - 256, 257)))
    sets = b"\1\1\6user.a\1"
    refuse("xattrs-set-empty", one, s10=b"\1\0" + sparse({0: uv(0)}))
    refuse("xattrs-no-sets", one, s10=b"\0" + sparse({0: uv(0)}))
    refuse("xattrs-set-not-used", one, s10=b"\2" + sets[1:] + b"\1\6user.b\1" + sparse({0: uv(0)}))
    refuse("xattrs-set-twice", [node("a", "x"), node("a", "y")], s10=b"\2" + sets[1:] * 2 + sparse({0: uv(0), 1: uv(1)}))
    refuse("xattrs-set-out-of-range", one, s10=sets + sparse({0: uv(1)}))
    refuse("xattrs-sets-not-in-first-use-order", [node("a", "x"), node("a", "y")],
           s10=b"\2" + sets[1:] + b"\1\6user.b\1" + sparse({0: uv(1), 1: uv(0)}))

    # Hard links.
    refuse("hard-link-of-directory", [node("a", "x", DIR, 0, link="first")])
    refuse("hard-link-sort-unknown", one, s11=sparse({0: b"\2"}))
    refuse("hard-link-to-itself", [node("a", "x", link=b"a\0x")])
    refuse("hard-link-to-later-name", [node("a", "x", link=b"a\0y")])
    refuse("hard-link-to-later-directory", [node("a", "x", link=b"a\0b\0c")])
    refuse("hard-link-to-nothing", one, s11=sparse({0: b"\1\0\0"}))
    refuse("hard-link-to-dot-dot", [node("b", "x", link=b"b\0..")])
    refuse("hard-link-shares-too-little", [node("b", "x")], s11=sparse({0: b"\1\1\2\0a"}), remark="two bytes are shared")
    refuse("hard-link-shares-too-much", [node("b", "x")], s11=sparse({0: b"\1\4\1a"}))


def insert(sections, number, body):
    """A page with an optional section that version 1 does not know, in its place."""
    out = page({k: v for k, v in sections.items() if k < number}) + bytes([number]) + uv(len(body)) + body
    return out + page({k: v for k, v in sections.items() if k > number})[1:]


# ---- index and extent pages

def index(level, children, **changes):
    packs = Packs()
    s = {1: bytes([level]) + uv(len(children))}
    keys = [c[0] for c in children]
    s[2] = strings(list(zip([b""] + keys, keys)))
    s[3] = b"".join(uv(c[1]) for c in children)
    s[8] = b"".join(packs.fref(c[2]) for c in children)
    s[7] = packs.table() or None
    s.update({int(key[1:]): body for key, body in changes.items()})
    return page(s)


def indexes():
    out = Out("index")
    f, g = frame(1, 0, 0, 5000), frame(2, 9, 7, 400, bytes(range(8)), 2)

    def accept(name, level, children, remark=""):
        out.accept(name, index(level, children), remark,
                   [f"level {level}"] + [f"child {k.hex() or '-'} {n} {say_frame(r)}" for k, n, r in children])

    accept("one-child", 1, [(b"", 256, f)])
    accept("many", 8, [(b"", 1, f), (b"\0a", 2**31, g), (b"\0a\0\0", 7, f), (b"\0ab", 9, f), (b"\1", 3, g)])
    accept("not-the-first", 2, [(b"\1x", 5, g), (b"\1y", 6, g)])
    good = index(1, [(b"", 256, f)])
    out.refuse("cut", good[:-1], "")
    out.refuse("bytes-behind", good + b"\0", "")
    out.newer("unknown-critical-section", good + b"\x89\x01\0", "")
    out.refuse("level-zero", index(0, [(b"", 1, f)]), "")
    out.refuse("level-nine", index(9, [(b"", 1, f)]), "")
    out.refuse("no-children", index(1, [(b"", 1, f)], s1=b"\1\0"), "")
    out.refuse("count-beyond-bytes", index(1, [(b"", 1, f)], s1=b"\1" + uv(60000)), "")
    out.refuse("count-beyond-limit", index(1, [(b"", 1, f)], s1=b"\1" + uv(65537)), "")
    out.refuse("separators-descend", index(1, [(b"b", 1, f), (b"a", 1, f)]), "")
    out.refuse("separator-twice", index(1, [(b"a", 1, f), (b"a", 1, f)]), "")
    out.refuse("separator-empty-later", index(1, [(b"", 1, f), (b"", 1, f)]), "")
    out.refuse("separator-shares-too-little", index(1, [(b"aa", 1, f), (b"ab", 1, f)], s2=b"\0\0\2\2aaab"), "")
    out.refuse("child-without-nodes", index(1, [(b"", 0, f)]), "")
    out.refuse("more-nodes-than-a-snapshot", index(1, [(b"", 2**32 - 2, f), (b"a", 1, f)]), "")
    out.refuse("pack-not-used", index(1, [(b"", 1, f)], s7=bytes([1] + [0] * 17 + [2] + [0] * 17)), "")
    out.refuse("references-left-over", index(1, [(b"", 1, f)], s8=b"\0\0\5\0"), "")
    out.newer("version-newer", b"\2" + good[1:], "")


def extents(level, rows, **changes):
    packs = Packs()
    chain = Chain(packs)
    s = {1: bytes([level]) + uv(len(rows))}
    if level == 0:
        s[8] = b"".join(chain.run(*r) for r in rows) or None
    else:
        s[8] = b"".join(uv(n) + packs.fref(f) for n, f in rows)
    s[7] = packs.table() or None
    s.update({int(key[1:]): body for key, body in changes.items()})
    return page(s)


def extent_pages():
    out = Out("extents")
    f, g = frame(1, 0, 0, 5000), frame(2, 9, 7, 400, bytes(range(8)), 2)

    def accept(name, level, rows, remark=""):
        word = "run" if level == 0 else "page"
        out.accept(name, extents(level, rows), remark,
                   [f"level {level}"] + [f"{word} {n} {say_frame(r) if r else 'hole'}" for n, r in rows])

    accept("runs", 0, [(FULL, f), (FULL, frame(1, 0, 5000, 9)), (3 << 40, None), (FULL, None), (1, frame(1, 0, 5009, 9)), (FULL, f),
                       (7, g)])
    accept("one-hole", 0, [(2**63, None)])
    accept("one-full-hole", 0, [(FULL, None)], "the shortest run")
    accept("pages", 1, [(1 << 30, f), (2**63, g)])
    accept("top", 8, [(1, f)])
    good = extents(0, [(FULL, f)])
    out.refuse("cut", good[:-1], "")
    out.refuse("bytes-behind", good + b"\0", "")
    out.refuse("level-nine", extents(9, [(1, f)]), "")
    out.refuse("no-rows", extents(0, []), "")
    out.refuse("count-beyond-bytes", extents(0, [(FULL, f)], s1=b"\0" + uv(65536)), "")
    out.refuse("count-beyond-limit", extents(0, [(FULL, f)], s1=b"\0" + uv(65537)), "")
    out.refuse("runs-on-level-one", extents(0, [(FULL, f), (FULL, frame(1, 0, 5000, 9))], s1=b"\1\2"), "")
    out.refuse("sum-beyond-64-bits", extents(1, [(2**63, f), (2**63, g)]), "")
    out.refuse("run-empty", extents(0, [(0, None)]), "")
    out.refuse("page-empty", extents(1, [(0, f)]), "")
    out.refuse("run-longer-than-frame", extents(0, [(FULL + 1, f)]), "")
    out.refuse("rows-left-over", extents(0, [(FULL, f)], s8=extents_body(f) + b"\0\1"), "")
    out.newer("unknown-critical-section", good + b"\x89\x01\0", "")
    out.newer("version-newer", b"\2" + good[1:], "")


def extents_body(f):
    return Chain(Packs()).run(FULL, f)


# ---- root record and label

def ref(f):
    return [f[0][0], f[0][1], f[0][2], f[0][3], f[1], f[2]]


def root_map(**changes):
    own = frame(9, 0xFFFFFFFF, 0, 77, bytes([3] * 8))
    m = {
        1: [[], []],
        2: [bytes([1] * 16), 9],
        3: bytes([2] * 16),
        4: [-5, 7],
        5: ["läptop", ["daily", "home"]],
        6: [b"/home/me", b"/srv/\xff"],
        7: [0, 0o1777, 0, 2**32 - 1, 4096, 1 << 40, 999999999, 0, 20, None, 0,
            [[b"user.a", b"x"], [b"user.b", [ref(frame(9, 0, 0, 77)), 5, 300]]]],
        8: [1, 2, 3, 2**64 - 1],
        9: [8, bytes([4] * 32)],
        10: [[bytes([5] * 16), 7, bytes([6] * 32)]],
        11: b"\1\2\3",
        12: [b"\1", b"\2"],
        13: ref(own),
        14: [[9, 0, bytes([3] * 8), 1], [4, 7, bytes(8), 2]],
        15: "backupengine 0.1.0",
        16: bytes([8] * 64),
        17: bytes([9] * 10),
    }
    m.update({int(key[1:]): value for key, value in changes.items()})
    return {k: v for k, v in m.items() if v is not ...}


def say_root(m):
    a = m[7]
    value = lambda v: "inline:" + v.hex() if isinstance(v, bytes) else \
        f"stored:{say_frame(((v[0][0], v[0][1], v[0][2], v[0][3]), v[0][4], v[0][5]))}:{v[1]}:{v[2]}"
    r = m[13]
    says = [f"vault {m[2][0].hex()} session {m[2][1]} device {m[3].hex()} created {m[4][0]} {m[4][1]}",
            "name " + m[5][0].encode().hex() + "".join(" " + t.encode().hex() for t in m[5][1]),
            "sources" + "".join(" " + s.hex() for s in m[6]),
            f"root {a[1]:o} {a[2]} {a[3]} {a[4]} {a[5]} {a[6]} nlink {a[8]}" + "".join(f" {n.hex()}={value(v)}" for n, v in a[11]),
            "totals" + "".join(f" {n}" for n in m[8])]
    if 9 in m:
        says.append(f"parent {m[9][0]} {m[9][1].hex()}")
    says += [f"other {d.hex()} {s} {h.hex()}" for d, s, h in m[10]]
    says.append(f"top {m[11].hex() or '-'}")
    says += [f"listing {p.hex()}" for p in m[12]]
    says.append("set " + say_frame(((r[0], r[1], r[2], r[3]), r[4], r[5])))
    says += [f"pack {say_pack(tuple(p))}" for p in m[14]]
    says += [f"writer {m[15].encode().hex()}", f"signature {m[16].hex()}", f"certificate {m[17].hex()}"]
    return says + [f"signed {cbor({k: v for k, v in m.items() if k != 16}).hex()}"]


def roots():
    out = Out("root")

    def accept(name, remark="", **changes):
        m = root_map(**changes)
        out.accept(name, cbor(m), remark, say_root(m))

    def refuse(name, remark="", **changes):
        out.refuse(name, cbor(root_map(**changes)), remark)

    accept("full")
    accept("bare", k5=["", []], k6=[], k9=..., k10=[], k11=b"", k12=[], k14=[], k15="", k17=b"")
    accept("optional-features", "keys above 17 are skipped where key 1 lists them, and signed", k1=[[], [18, 20]],
           k18=["later", {1: b"x"}])
    out.newer("critical-feature", cbor(root_map(k1=[[1], []])), "")
    good = cbor(root_map())
    out.refuse("empty", b"", "")
    out.refuse("cut", good[:-1], "")
    out.refuse("bytes-behind", good + b"\0", "")
    out.refuse("map-indefinite", b"\xbf" + good[1:] + b"\xff", "")
    out.refuse("map-count-wrong", b"\xb2" + good[1:], "")
    out.refuse("number-not-shortest", good.replace(b"\x04\x82\x24\x07", b"\x04\x82\x38\x04\x07"), "seconds of key 4")
    out.refuse("bytes-not-shortest", good[:-11] + b"\x58\x0a" + good[-10:], "key 17")
    swapped = root_map()
    swapped[3], swapped[4] = swapped.pop(3), swapped.pop(4)
    out.refuse("keys-not-ascending", cbor(dict(sorted(swapped.items(), key=lambda kv: (kv[0] % 16, kv[0])))), "16 before 1")
    for key in [k for k in range(1, 18) if k != 9]:
        refuse(f"key-{key:02}-missing", **{f"k{key}": ...})
    refuse("key-unknown", k18=1)
    refuse("key-unknown-not-listed", k1=[[], [19]], k18=1)
    refuse("features-descend", k1=[[], [20, 18]])
    refuse("feature-is-known-key", k1=[[], [17]])
    refuse("session-zero", k2=[bytes(16), 0])
    refuse("vault-id-short", k2=[bytes(15), 9])
    refuse("nanoseconds-a-second", k4=[0, 10**9])
    refuse("tags-descend", k5=["x", ["b", "a"]])
    refuse("tag-twice", k5=["x", ["a", "a"]])
    refuse("source-empty", k6=[b""])
    refuse("source-with-zero-byte", k6=[b"/a\0"])
    a = root_map()[7]
    refuse("root-is-file", k7=[1] + a[1:])
    refuse("root-mode-too-large", k7=[0, 0o10000] + a[2:])
    refuse("root-with-device-number", k7=a[:7] + [1] + a[8:])
    refuse("root-with-holes", k7=a[:9] + [5] + a[10:])
    refuse("root-with-marks", k7=a[:10] + [1] + a[11:])
    refuse("xattrs-descend", k7=a[:11] + [a[11][::-1]])
    refuse("xattr-inline-too-long", k7=a[:11] + [[[b"user.a", b"x" * 257]]])
    refuse("xattr-stored-too-short", k7=a[:11] + [[[b"user.a", [ref(frame(9, 0, 0, 77)), 0, 256]]]])
    refuse("others-descend", k10=[[bytes([5] * 16), 7, bytes(32)], [bytes([4] * 16), 7, bytes(32)]])
    refuse("other-twice", k10=[[bytes([5] * 16), 7, bytes(32)], [bytes([5] * 16), 8, bytes(32)]])
    refuse("listing-of-three-pages", k12=[b"\1", b"\2", b"\3"])
    refuse("listing-page-empty", k12=[b""])
    refuse("set-in-data-pack", k13=ref(frame(9, 0, 0, 77)))
    refuse("set-of-other-session", k13=ref(frame(8, 0xFFFFFFFF, 0, 77)))
    refuse("set-empty", k13=ref(frame(9, 0xFFFFFFFF, 0, 0)))
    refuse("hints-65", k14=[[9, 0, bytes(8), 1]] * 65)
    refuse("signature-short", k16=bytes(63))


def labels():
    out = Out("label")

    def label(name, tags, sources, cut):
        return cbor([1, name, tags, sources, cut])

    def accept(file, name, tags, sources, cut, remark=""):
        out.accept(file, label(name, tags, sources, cut), remark,
                   ["name " + name.encode().hex() + "".join(" " + t.encode().hex() for t in tags),
                    "sources" + "".join(" " + s.hex() for s in sources), f"cut {'yes' if cut else 'no'}"])

    accept("empty", "", [], [], False)
    accept("full", "läptop", ["a", "b"], [b"/home/me", b"/\xff"], False)
    accept("cut", "laptop", [], [], True)
    accept("longest", "n" * 952, [], [], False, "960 bytes")
    out.refuse("too-long", label("n" * 953, [], [], False), "961 bytes")
    good = label("pc", ["a"], [b"/"], False)
    out.refuse("bytes-behind", good + b"\0", "")
    out.refuse("short", good[:-1], "")
    out.refuse("number-not-shortest", b"\x85\x18\x01" + good[2:], "")
    out.refuse("list-indefinite", label("pc", [], [], False)[:-3] + b"\x9f\xff\x80\xf4", "")
    out.refuse("tags-descend", label("pc", ["b", "a"], [], False), "")
    out.refuse("tag-twice", label("pc", ["a", "a"], [], False), "")
    out.refuse("name-not-utf-8", good.replace(b"pc", b"\xff\xff"), "")
    out.refuse("item-missing", cbor([1, "pc", [], []]), "")
    out.newer("version-newer", cbor([2, "pc", [], [], False]), "")

    def forgotten(name, tags, sources, cut, entries):
        return cbor([3, name, tags, sources, cut, [[d, a, b] for d, a, b in entries]])

    one, two = b"\x01" * 16, b"\x02" * 16
    entries = [(one, 0, 8), (two, 6, 0xFFFFFFFF)]
    out.accept("forgotten", forgotten("pc", ["a"], [b"/"], False, entries), "version 3",
               ["name " + b"pc".hex() + " " + b"a".hex(), "sources " + b"/".hex(), "cut no",
                *(f"forgotten {d.hex()} {a} {b}" for d, a, b in entries)])
    out.refuse("forgotten-nothing", forgotten("pc", [], [], False, []), "")
    out.refuse("forgotten-descend", forgotten("pc", [], [], False, entries[::-1]), "")
    out.refuse("forgotten-twice", forgotten("pc", [], [], False, [entries[0], entries[0]]), "")
    out.refuse("forgotten-backwards", forgotten("pc", [], [], False, [(one, 8, 8)]), "")
    out.refuse("forgotten-item-missing", cbor([3, "pc", [], [], False]), "")
    out.refuse("forgotten-by-version-1", cbor([1, "pc", [], [], False, [[one, 0, 8]]]), "")


if __name__ == "__main__":
    for write in (trailers, footers, forwards, refsets, cases_leaf, indexes, extent_pages, roots, labels):
        write()
