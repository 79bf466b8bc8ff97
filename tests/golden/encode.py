"""A second implementation of the encoders of crates/format/FORMAT.md, written from that page alone, and the file form
of vectors. Used by formats.py."""
import os
import struct
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
FULL = 262144
DIR, FILE, LINK, FIFO, SOCKET, CHAR, BLOCK = range(7)
KINDS = ["dir", "file", "link", "fifo", "socket", "char", "block"]
SALT = bytes([7] * 8)


# ---- numbers, references, sections

def uv(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def zz(n):
    n = (n + 2**63) % 2**64 - 2**63  # differences wrap
    return uv((n << 1 ^ n >> 63) % 2**64)


def shared(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def pack(s, n, salt=SALT, epoch=1):
    return (s, n, salt, epoch)


def frame(s, n, offset, length, salt=SALT, epoch=1):
    return (pack(s, n, salt, epoch), offset, length)


def say_pack(p):
    return f"{p[0]}.{p[1]}.{p[2].hex()}.{p[3]}"


def say_frame(f):
    return f"{say_pack(f[0])}@{f[1]}+{f[2]}"


class Packs:
    def __init__(self):
        self.rows = []

    def index(self, p):
        if p not in self.rows:
            self.rows.append(p)
        return uv(self.rows.index(p))

    def fref(self, f):
        return self.index(f[0]) + uv(f[1]) + uv(f[2])

    def table(self):
        return b"".join(struct.pack("<II", p[0], p[1]) + p[2] + struct.pack("<H", p[3]) for p in self.rows)


def page(sections, version=1):
    """Sections by number; those in `CRITICAL` get the mark."""
    out = uv(version)
    for number, body in sorted(sections.items()):
        if body is not None:
            out += bytes([number | (0 if number in (14, 16, 17) else 0x80)]) + uv(len(body)) + body
    return out


def sparse(values):
    """{entry: bytes} to a sparse column."""
    if not values:
        return None
    out, last = uv(len(values)), 0
    for at, value in sorted(values.items()):
        out += uv(at - last) + value
        last = at + 1
    return out


def strings(list_):
    """Columns of shared lengths and rest lengths, and the rests; `list_` of (before, string)."""
    n = [shared(a, b) for a, b in list_]
    return b"".join(uv(k) for k in n) + b"".join(uv(len(b) - k) for k, (_, b) in zip(n, list_)) \
        + b"".join(b[k:] for k, (_, b) in zip(n, list_))


class Chain:
    """Runs of files."""

    def __init__(self, packs):
        self.packs, self.end = packs, None

    def run(self, length, f):
        flag, said = (0, b"") if length == FULL else (8, uv(length))
        if f is None:
            return bytes([1 | flag]) + said
        if self.end is None or self.end[0] != f[0]:
            out = bytes([2 | flag]) + said + self.packs.index(f[0]) + uv(f[1])
        elif self.end[1] != f[1]:
            out = bytes([4 | flag]) + said + uv(f[1])
        else:
            out = bytes([flag]) + said
        self.end = (f[0], f[1] + f[2])
        return out + uv(f[2])


# ---- leaves

def node(parent, name, kind=FILE, size=None, content=None, **more):
    """A row. Content: None, ("inline", bytes), ("bundle", frame, inner), ("runs", [...]), ("pages", [...])."""
    if isinstance(name, str):
        name = name.encode()
    if size is None:
        size = len(content[1]) if content and content[0] == "inline" else 0
    row = dict(parent=parent.encode().replace(b"/", b"\0"), name=name, kind=kind, size=size, content=content,
               mode=0o644, uid=1000, gid=100, mtime=(1700000000, 5), rdev=0, nlink=2 if kind == DIR else 1,
               allocated=None, flags=0, xattrs=(), link=None)
    row.update(more)
    return row


def say_node(r):
    content = r["content"]
    if content is None:
        said = "none"
    elif content[0] == "inline":
        said = "inline " + content[1].hex()
    elif content[0] == "bundle":
        said = f"bundle {say_frame(content[1])} {content[2]}"
    else:
        said = content[0] + "".join(f" {n}:{say_frame(f) if f else 'hole'}" for n, f in content[1])
    xattrs = "".join(
        f" {n.hex()}={'inline:' + v.hex() if isinstance(v, bytes) else f'stored:{say_frame(v[0])}:{v[1]}:{v[2]}'}"
        for n, v in r["xattrs"])
    link = {None: "none", "first": "first"}.get(r["link"]) or "also " + r["link"].hex()
    allocated = "-" if r["allocated"] is None else r["allocated"]
    return (f"node {r['parent'].hex() or '-'} {r['name'].hex()} {KINDS[r['kind']]} {r['mode']:o} {r['uid']} {r['gid']} "
            f"{r['size']} {r['mtime'][0]} {r['mtime'][1]} rdev {r['rdev']} nlink {r['nlink']} allocated {allocated} "
            f"flags {r['flags']} content {said} xattrs{xattrs} link {link}")


def leaf(rows, **changes):
    """Sections of a leaf as a dict; `changes` (s1=…, s2=…) replace sections."""
    packs, s = Packs(), {}
    # 10 before 8: its packs count as used first.
    sets, column = [], {}
    for at, r in enumerate(rows):
        if r["xattrs"]:
            if r["xattrs"] not in sets:
                sets.append(r["xattrs"])
            column[at] = uv(sets.index(r["xattrs"]))
    if sets:
        body = uv(len(sets))
        for set_ in sets:
            body += uv(len(set_))
            for name, value in set_:
                body += uv(len(name)) + name
                if isinstance(value, bytes):
                    body += uv(len(value) + 1) + value
                else:
                    body += uv(0) + packs.fref(value[0]) + uv(value[1]) + uv(value[2])
        s[10] = body + sparse(column)
    class_ = 0 if rows[0]["kind"] == DIR else 1
    parents = []
    for r in rows:
        if not parents or parents[-1][0] != r["parent"]:
            parents.append([r["parent"], 0])
        parents[-1][1] += 1
    s[1], before = bytes([class_]) + uv(len(parents)), b""
    for path, count in parents:
        n = shared(before, path)
        s[1] += uv(n) + uv(len(path) - n) + path[n:] + uv(count)
        before = path
    s[2] = strings([(p["name"] if p and p["parent"] == r["parent"] else b"", r["name"])
                    for p, r in zip([None] + rows, rows)])
    table, s[4] = [], b""
    for r in rows:
        a = (r["kind"] * 4096 + r["mode"], r["uid"], r["gid"])
        if a not in table:
            table.append(a)
        s[4] += uv(table.index(a))
    s[3] = b"".join(uv(x) for a in table for x in a)
    s[5] = b"".join(uv(r["size"]) for r in rows)
    seconds = [r["mtime"][0] for r in rows]
    s[6] = b"".join(zz(b - a) for a, b in zip([0] + seconds, seconds))
    s[6] += b"".join(struct.pack("<I", r["mtime"][1]) for r in rows)
    codes, more, blobs, bundle, chain = b"", b"", b"", None, Chain(packs)
    for r in rows:
        content = r["content"]
        if content is None:
            codes += b"\0"
        elif content[0] == "inline":
            blobs += content[1]
            if r["kind"] == LINK and r["size"] != len(content[1]):
                codes, more = codes + b"\7", more + uv(len(content[1]))
            else:
                codes += b"\4"
        elif content[0] == "bundle":
            _, f, inner = content
            if bundle == (f, inner):
                codes += b"\1"
            elif bundle and bundle[0] == f:
                codes, more = codes + b"\2", more + uv(inner)
            else:
                codes, more = codes + b"\3", more + packs.fref(f) + uv(inner)
            bundle = (f, inner + r["size"])
        elif content[0] == "runs":
            codes, more = codes + b"\5", more + uv(len(content[1])) + b"".join(chain.run(*x) for x in content[1])
        else:
            codes += b"\6"
            more += uv(len(content[1])) + b"".join(uv(n) + packs.fref(f) for n, f in content[1])
    s[7] = packs.table() or None
    s[8] = codes + more if class_ == 1 else None
    s[9] = blobs or None
    links = {}
    for at, r in enumerate(rows):
        if r["link"] == "first":
            links[at] = b"\0"
        elif r["link"]:
            own = r["parent"] + b"\0" + r["name"] if r["parent"] else r["name"]
            n = shared(own, r["link"])
            links[at] = b"\1" + uv(n) + uv(len(r["link"]) - n) + r["link"][n:]
    s[11] = sparse(links)
    usual = 2 if class_ == 0 else 1
    s[14] = sparse({at: uv(r["nlink"]) for at, r in enumerate(rows) if r["nlink"] != usual})
    s[15] = sparse({at: uv(r["rdev"]) for at, r in enumerate(rows) if r["rdev"]})
    s[16] = sparse({at: uv(r["allocated"]) for at, r in enumerate(rows) if r["allocated"] is not None})
    s[17] = sparse({at: uv(r["flags"]) for at, r in enumerate(rows) if r["flags"]})
    s.update({int(key[1:]): body for key, body in changes.items()})
    return s


# ---- CBOR

def head(major, n):
    for limit, code, form in ((24, None, None), (1 << 8, 24, ">B"), (1 << 16, 25, ">H"), (1 << 32, 26, ">I")):
        if n < limit:
            return bytes([major << 5 | n]) if code is None else bytes([major << 5 | code]) + struct.pack(form, n)
    return bytes([major << 5 | 27]) + struct.pack(">Q", n)


def cbor(value):
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, dict):
        return head(5, len(value)) + b"".join(cbor(k) + cbor(v) for k, v in value.items())
    return head(4, len(value)) + b"".join(cbor(v) for v in value)


# ---- writing

class Out:
    """Collects the vectors of a kind and writes what is new."""

    def __init__(self, kind):
        self.folder = os.path.join(HERE, kind, "v1")
        os.makedirs(self.folder, exist_ok=True)

    def put(self, name, verdict, data, remark, says=()):
        lines = [f"verdict {verdict}", f"# {remark}"] + [f"say {s}" for s in says] + [f"bytes {data.hex()}"]
        text, path = "\n".join(lines) + "\n", os.path.join(self.folder, name + ".txt")
        if os.path.exists(path):
            if open(path).read() != text:
                sys.exit(f"{path} exists and would come out differently: the format changed, or this script did")
            return
        with open(path, "x") as out:
            out.write(text)
        print("wrote", os.path.relpath(path, HERE))

    def accept(self, name, data, remark, says):
        self.put(name, "accept", data, remark, says)

    def refuse(self, name, data, remark):
        self.put(name, "refuse broken", data, remark)

    def newer(self, name, data, remark):
        self.put(name, "refuse too-new", data, remark)
