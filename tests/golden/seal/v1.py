#!/usr/bin/env python3
"""Computes the vectors of `v1/` from CRYPTO.md alone, with other libraries than the program's.

Run to make a new vector; files that exist are never written again, and must come out as they are (`scripts/golden`). Needs
the package `cryptography`.
"""
import hmac
import os
import struct
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MASTER, DS, ROOT_SEED, DEVICE_SEED = b"\x11" * 32, b"\x22" * 32, b"\x33" * 32, b"\x44" * 32
VAULT = bytes(range(0xA0, 0xB0))
PASSPHRASE, CODE, DEVICE_SECRET = "correct horse 馬", bytes(range(32)), b"\x77" * 32
SALT8, SALT32, NONCE = bytes(range(1, 9)), bytes(range(0x40, 0x60)), bytes(range(0x60, 0x6C))
MASK = 0xFFFFFFFF


# BLAKE3, for inputs of one chunk (at most 1024 bytes).
IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
LANES = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
         (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]


def rotate(x, n):
    return (x >> n | x << (32 - n)) & MASK


def compress(cv, block, length, flags):
    m = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    v = cv + IV[:4] + [0, 0, length, flags]
    for round in range(7):
        for i, (a, b, c, d) in enumerate(LANES):
            for x, r1, r2 in ((m[2 * i], 16, 12), (m[2 * i + 1], 8, 7)):
                v[a] = (v[a] + v[b] + x) & MASK
                v[d] = rotate(v[d] ^ v[a], r1)
                v[c] = (v[c] + v[d]) & MASK
                v[b] = rotate(v[b] ^ v[c], r2)
        m = [m[i] for i in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)]


def blake3(data, key=None, mode=None):
    assert len(data) <= 1024
    cv = list(struct.unpack("<8I", key)) if key else IV
    mode = mode if mode is not None else 16 if key else 0
    blocks = [data[i:i + 64] for i in range(0, len(data), 64)] or [b""]
    for i, block in enumerate(blocks):
        flags = mode | (1 if i == 0 else 0) | (2 | 8 if i == len(blocks) - 1 else 0)
        cv = compress(cv, block, len(block), flags)
    return struct.pack("<8I", *cv)


def derived(context, data):
    """BLAKE3 in derivation mode."""
    return blake3(data, blake3(context.encode(), mode=32), mode=64)


assert blake3(b"").hex().startswith("af1349b9f5f9a1a6a0404dea36dcc949")


# CBOR, deterministic.
def head(major, n):
    if n < 24:
        return bytes([major << 5 | n])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 1 << (8 * size):
            return bytes([major << 5 | code]) + n.to_bytes(size, "big")


def cbor(x):
    if isinstance(x, bytes):
        return head(2, len(x)) + x
    if isinstance(x, int):
        return head(0, x) if x >= 0 else head(1, -1 - x)
    if isinstance(x, list):
        return head(4, len(x)) + b"".join(map(cbor, x))
    if isinstance(x, dict):
        return head(5, len(x)) + b"".join(cbor(k) + cbor(x[k]) for k in sorted(x))
    raise TypeError(x)


def hkdf(secret, salt, info, length):
    return HKDF(SHA256(), length, salt, info).derive(secret)


def pack_key(session, number, salt8, master=MASTER):
    okm = hkdf(master, b"bke1 pack", VAULT + struct.pack("<II", session, number) + salt8, 48)
    return okm[:32], okm[32:]


def frame(kind, offset, plain, epoch=1, session=7, number=3):
    key, _ = pack_key(session, number, SALT8)
    aad = b"bke1" + bytes([kind]) + struct.pack("<HII", epoch, session, number) + SALT8
    return AESGCM(key).encrypt(struct.pack("<I", offset) + bytes(8), plain, aad)


def public(seed):
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign(seed, message):
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def certificate(role=3, vault=VAULT, issued=1_800_000_000, seed=ROOT_SEED, claim=None):
    fields = {1: 1, 2: vault, 3: public(DEVICE_SEED), 4: role, 5: issued}
    signature = sign(seed, b"bke1 certificate\0" + cbor(fields))
    return cbor({**fields, **(claim or {}), 6: signature})


def chained(issuer, issuer_seed, seed, role=3, vault=VAULT, issued=1_800_000_100, claim=None):
    """A certificate by an owner device: `issuer` is its certificate."""
    fields = {1: 2, 2: vault, 3: public(seed), 4: role, 5: issued, 7: issuer}
    signature = sign(issuer_seed, b"bke1 certificate\0" + cbor(fields))
    return cbor({**fields, **(claim or {}), 6: signature})


PASSPHRASE_KIND, RECOVERY_KIND, DEVICE_KIND, ENROLMENT_KIND = 1, 2, 3, 4


def keys(seed=False, epochs=((1, MASTER),), root=None):
    body = {1: [[e, k] for e, k in epochs], 2: DS, 3: root or public(ROOT_SEED)}
    if seed:
        body[4] = ROOT_SEED
    return cbor(body)


def envelope(kind, body, kdf=None, epoch=1, version=1, secret=None, **claim):
    """`claim` replaces fields after sealing: what a hostile store could write."""
    fields = {1: version, 2: VAULT, 3: epoch, 4: kind, 6: SALT32}
    if kdf:
        fields[5] = list(kdf)
    if secret is None:
        secret = {RECOVERY_KIND: CODE, DEVICE_KIND: DEVICE_SECRET}.get(kind)
    if kind == PASSPHRASE_KIND:
        memory, passes, lanes = kdf
        secret = Argon2id(salt=SALT32, length=32, iterations=passes, lanes=lanes,
                          memory_cost=memory).derive(PASSPHRASE.encode())
    okm = hkdf(secret, b"bke1 envelope", bytes([kind]) + VAULT + SALT32, 64)
    sealed = AESGCM(okm[:32]).encrypt(NONCE, body, b"bke1 envelope" + cbor(fields))
    fields.update({7: NONCE, 8: okm[32:], 9: sealed})
    fields.update({int(k[1:]): v for k, v in claim.items()})
    return cbor(check(fields))


def check(fields):
    return {10: blake3(cbor(fields))[:8], **fields}


def write(name, verdict, why, **values):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "v1", name + ".txt")
    lines = [f"verdict {verdict}", f"# {why}"]
    lines += [f"{key} {value.hex() if isinstance(value, bytes) else value}" for key, value in values.items()]
    text = "\n".join(lines) + "\n"
    if os.path.exists(path):
        with open(path, encoding="utf-8") as frozen:
            if frozen.read() != text:
                sys.exit(f"{path} would come out differently now: it is frozen")
        return
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)
    print(path, file=sys.stderr)


def write_derivations():
    key, commitment = pack_key(7, 3, SALT8)
    write("pack-commitment", "accept", "session 7, number 3, epoch 1", commitment=commitment)
    write("pack-commitment-other-number", "refuse", "that of pack 4", commitment=pack_key(7, 4, SALT8)[1])
    write("pack-commitment-other-salt", "refuse", "that of another salt", commitment=pack_key(7, 3, bytes(8))[1])
    write("gear", "accept", "the chunker's table, 256 values of 8 bytes", gear=hkdf(DS, b"bke1 gear", VAULT, 2048))
    plain = b"the bytes of a file"
    write("content-id", "accept", "16 bytes of keyed BLAKE3", plain=plain,
          content_id=blake3(plain, hkdf(DS, b"bke1 cid", VAULT, 32))[:16])
    write("root-hash", "accept", "32 bytes under a key of its own", plain=plain,
          root_hash=blake3(plain, hkdf(DS, b"bke1 root hash", VAULT, 32)))
    write("hash64", "accept", "8 bytes under a key of its own, little-endian", plain=plain,
          hash64=blake3(plain, hkdf(DS, b"bke1 hash64", VAULT, 32))[:8])
    label = AESGCM(hkdf(MASTER, b"bke1 label", VAULT + struct.pack("<I", 7) + SALT8, 32))
    sealed = label.encrypt(bytes(12), b"laptop", b"bke1 label")
    write("label", "accept", "of session 7", sealed=SALT8 + sealed, plain=b"laptop")
    write("label-other-session", "refuse", "sealed for session 8",
          sealed=SALT8 + AESGCM(hkdf(MASTER, b"bke1 label", VAULT + struct.pack("<I", 8) + SALT8, 32))
          .encrypt(bytes(12), b"laptop", b"bke1 label"))


def write_frames():
    plain = b"\x00some bytes"
    write("frame", "accept", "data, offset 4096", kind=1, offset=4096, sealed=frame(1, 4096, plain), plain=plain)
    write("frame-empty", "accept", "a tag alone", kind=9, offset=0, sealed=frame(9, 0, b""), plain=b"")
    write("frame-last-offset", "accept", "the largest offset", kind=7, offset=MASK,
          sealed=frame(7, MASK, plain), plain=plain)
    good = frame(1, 4096, plain)
    write("frame-other-kind", "refuse", "sealed as a leaf page", kind=1, offset=4096, sealed=frame(2, 4096, plain))
    write("frame-other-offset", "refuse", "sealed for the next byte", kind=1, offset=4096, sealed=frame(1, 4097, plain))
    write("frame-other-session", "refuse", "sealed for session 8", kind=1, offset=4096,
          sealed=frame(1, 4096, plain, session=8))
    write("frame-other-number", "refuse", "sealed for pack 4", kind=1, offset=4096,
          sealed=frame(1, 4096, plain, number=4))
    write("frame-other-epoch", "refuse", "the right key, another epoch as additional data", kind=1, offset=4096,
          sealed=frame(1, 4096, plain, epoch=2))
    write("frame-cut", "refuse", "the last byte is missing", kind=1, offset=4096, sealed=good[:-1])
    write("frame-shorter-than-a-tag", "refuse", "15 bytes", kind=1, offset=4096, sealed=good[:15])
    write("frame-flipped", "refuse", "one bit", kind=1, offset=4096, sealed=bytes([good[0] ^ 1]) + good[1:])


def write_certificates():
    record = b"a root record"
    good = sign(DEVICE_SEED, b"bke1 root record\0" + record)
    names = {"device": blake3(public(DEVICE_SEED))[:16]}
    write("signature", "accept", "a writer's", certificate=certificate(), record=record, signature=good, **names)
    write("signature-owner-1901", "accept", "issued before 1970", certificate=certificate(1, issued=-2177452800),
          record=record, signature=good, **names)
    refuse = {
        "reader": ("RoleMayNotWrite", "a reader's signature counts for nothing", certificate(4), good),
        "role-raised": ("Untrusted", "a reader that calls itself an owner", certificate(4, claim={4: 1}), good),
        "unknown-role": ("Malformed", "role 5", certificate(5), good),
        "other-vault": ("Untrusted", "a certificate of another vault", certificate(vault=bytes(16)), good),
        "other-root-key": ("Untrusted", "signed by a stranger", certificate(seed=b"\x55" * 32), good),
        "other-record": ("BadSignature", "the signature of another record", certificate(),
                         sign(DEVICE_SEED, b"bke1 root record\0" + record + b"!")),
        "other-device": ("BadSignature", "another device's signature", certificate(),
                         sign(b"\x55" * 32, b"bke1 root record\0" + record)),
        "no-domain": ("BadSignature", "over the record alone", certificate(), sign(DEVICE_SEED, record)),
        "certificate-version": ("Malformed", "a certificate of version 2", certificate(claim={1: 2}), good),
        "certificate-trailing": ("Malformed", "one byte more", certificate() + b"\0", good),
        "certificate-long-head": ("Malformed", "a number not in its shortest form",
                                  certificate().replace(b"\x04\x03", b"\x04\x18\x03", 1), good),
    }
    for name, (verdict, why, cert, signature) in refuse.items():
        write("signature-" + name, "refuse " + verdict, why, certificate=cert, record=record, signature=signature)


def write_envelopes():
    floor = (64 * 1024, 3, 1)
    device = envelope(DEVICE_KIND, keys())
    accept = {
        "passphrase": ("at the lowest cost", envelope(PASSPHRASE_KIND, keys(), floor), 1, "no"),
        "passphrase-lanes": ("with several lanes", envelope(PASSPHRASE_KIND, keys(), (64 * 1024, 3, 4)), 1, "no"),
        "recovery": ("with the root key's seed", envelope(RECOVERY_KIND, keys(seed=True)), 1, "yes"),
        "recovery-without-seed": ("the seed may be missing", envelope(RECOVERY_KIND, keys()), 1, "no"),
        "device": ("", device, 1, "no"),
        "epochs": ("three epochs, the largest is current",
                   envelope(DEVICE_KIND, keys(epochs=((1, MASTER), (24, b"\x12" * 32), (300, b"\x13" * 32))),
                            epoch=300), 300, "no"),
    }
    for name, (why, data, epoch, seed) in accept.items():
        write("envelope-" + name, "accept", why, envelope=data, epoch=epoch, root_key=seed)
    kind = bytes([4, DEVICE_KIND])
    assert device.count(kind) == 1
    wrong_check = envelope(DEVICE_KIND, keys(), _10=bytes(8))
    refuse = {
        "damaged": ("Damaged", "the checksum is another's", wrong_check),
        "damaged-seal": ("Damaged", "one bit of the sealed keys", device[:-30] + bytes([device[-30] ^ 1]) + device[-29:]),
        "no-checksum": ("Malformed", "the checksum is missing", b"\xa8" + device[1:-10]),
        "newer": ("UnknownVersion", "version 2", envelope(DEVICE_KIND, keys(), version=2)),
        "kdf-memory-low": ("KdfOutOfRange", "one KiB below the floor",
                           envelope(PASSPHRASE_KIND, keys(), (64 * 1024 - 1, 3, 1))),
        "kdf-passes-low": ("KdfOutOfRange", "one pass below the floor",
                           envelope(PASSPHRASE_KIND, keys(), (64 * 1024, 2, 1))),
        "kdf-lowered-after": ("KdfOutOfRange", "a store's claim",
                              envelope(PASSPHRASE_KIND, keys(), floor, _5=[8, 1, 1])),
        "kdf-memory-high": ("KdfOutOfRange", "one KiB above the ceiling",
                            envelope(PASSPHRASE_KIND, keys(), floor, _5=[(4 << 20) + 1, 3, 1])),
        "kdf-raised-after": ("WrongSecret", "another cost gives another key",
                             envelope(PASSPHRASE_KIND, keys(), floor, _5=[64 * 1024, 4, 1])),
        "commitment": ("WrongSecret", "the seal holds, the commitment is another's",
                       envelope(DEVICE_KIND, keys(), _8=bytes(32))),
        "other-secret": ("WrongSecret", "sealed under another secret",
                         envelope(DEVICE_KIND, keys(), secret=b"\x78" * 32)),
        "other-vault": ("WrongSecret", "the vault's id was changed", envelope(DEVICE_KIND, keys(), _2=bytes(16))),
        "other-epoch": ("WrongSecret", "the epoch was changed", envelope(DEVICE_KIND, keys(), _3=2)),
        "epoch-not-held": ("Malformed", "says epoch 2 and holds 1", envelope(DEVICE_KIND, keys(), epoch=2)),
        "epochs-unsorted": ("Malformed", "2 before 1",
                            envelope(DEVICE_KIND, keys(epochs=((2, MASTER), (1, MASTER))), epoch=2)),
        "epochs-doubled": ("Malformed", "1 twice",
                           envelope(DEVICE_KIND, keys(epochs=((1, MASTER), (1, DS))))),
        "epochs-none": ("Malformed", "no master key", envelope(DEVICE_KIND, keys(epochs=()))),
        "seed-on-device": ("Malformed", "the root seed may rest under the recovery code only",
                           envelope(DEVICE_KIND, keys(seed=True))),
        "seed-of-another": ("Malformed", "seed and public root key do not fit",
                            envelope(RECOVERY_KIND, keys(seed=True, root=public(DEVICE_SEED)))),
        "body-trailing": ("Malformed", "one sealed byte more", envelope(DEVICE_KIND, keys() + b"\0")),
        "unknown-kind": ("Malformed", "kind 4", device.replace(kind, b"\x04\x04", 1)),
        "kdf-on-device": ("Malformed", "a cost where nothing is stretched",
                          envelope(DEVICE_KIND, keys(), _5=[64 * 1024, 3, 1])),
        "no-kdf": ("Malformed", "a passphrase without a cost", device.replace(kind, bytes([4, PASSPHRASE_KIND]), 1)),
        "long-head": ("Malformed", "a number not in its shortest form",
                      device.replace(kind, b"\x04\x18\x03", 1)),
        "indefinite": ("Malformed", "a map without a length", b"\xbf" + device[1:] + b"\xff"),
        "cut": ("Malformed", "the last byte is missing", device[:-1]),
        "trailing": ("Malformed", "one byte more", device + b"\0"),
        "empty": ("Malformed", "nothing", b""),
    }
    for name, (verdict, why, data) in refuse.items():
        write("envelope-" + name, "refuse " + verdict, why, envelope=data)


def write_chains():
    record = b"a root record"
    second, third = b"\x55" * 32, b"\x66" * 32
    owner = certificate(1)
    good = sign(second, b"bke1 root record\0" + record)
    names = {"device": blake3(public(second))[:16]}
    one = chained(owner, DEVICE_SEED, second)
    write("signature-chain", "accept", "a writer that an owner device certified", certificate=one, record=record,
          signature=good, **names)
    write("signature-chain-of-three", "accept", "an owner by an owner by an owner",
          certificate=chained(chained(owner, DEVICE_SEED, third, 1), third, second, 1), record=record, signature=good, **names)
    seeds = [DEVICE_SEED, third, b"\x67" * 32, b"\x68" * 32, second]
    four, five = owner, None
    for by, of in zip(seeds[:3], seeds[1:4]):
        four = chained(four, by, of, 1)
    five = chained(four, seeds[3], second, 1)
    refuse = {
        "reader": ("RoleMayNotWrite", "a reader that an owner certified", chained(owner, DEVICE_SEED, second, 4)),
        "role-raised": ("Untrusted", "its role was changed", chained(owner, DEVICE_SEED, second, 4, claim={4: 1})),
        "by-writer": ("IssuerNotOwner", "the issuer is a writer", chained(certificate(3), DEVICE_SEED, second)),
        "by-maintainer": ("IssuerNotOwner", "the issuer is a maintainer", chained(certificate(2), DEVICE_SEED, second)),
        "issuer-raised": ("Untrusted", "a writer that calls itself an owner and issues",
                          chained(certificate(3, claim={4: 1}), DEVICE_SEED, second)),
        "by-stranger": ("Untrusted", "the issuer was certified by another root key",
                        chained(certificate(1, seed=third), DEVICE_SEED, second)),
        "other-vault": ("Untrusted", "the issuer belongs to another vault",
                        chained(certificate(1, vault=bytes(16)), DEVICE_SEED, second)),
        "other-signer": ("Untrusted", "the issuer's certificate, signed by another device", chained(owner, third, second)),
        "moved": ("Untrusted", "hung under another certificate of the same issuer",
                  chained(owner, DEVICE_SEED, second, claim={7: certificate(1, issued=1)})),
        "too-long": ("ChainTooLong", "five certificates", five),
        "trailing": ("Malformed", "one byte more inside", chained(owner + b"\0", DEVICE_SEED, second)),
        "no-issuer": ("Malformed", "version 2 without an issuer", certificate(claim={1: 2})),
        "issuer-in-one": ("Malformed", "version 1 with an issuer", chained(owner, DEVICE_SEED, second, claim={1: 1})),
    }
    for name, (verdict, why, cert) in refuse.items():
        write("signature-chain-" + name, "refuse " + verdict, why, certificate=cert, record=record, signature=good)


# HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
SEAL_SEED, ENROLLED = b"\x88" * 32, b"\xdd" * 16
KEM_SUITE, SUITE = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x02"


def extract(salt, ikm):
    return hmac.new(salt or bytes(32), ikm, "sha256").digest()


def expand(prk, info, length):
    out, block = b"", b""
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([len(out) // 32 + 1]), "sha256").digest()
        out += block
    return out[:length]


def labeled_extract(suite, salt, label, ikm):
    return extract(salt, b"HPKE-v1" + suite + label + ikm)


def labeled_expand(suite, prk, label, info, length):
    return expand(prk, struct.pack(">H", length) + b"HPKE-v1" + suite + label + info, length)


def x25519(secret):
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def hpke(to, info, random):
    """The encapsulated key, and the context's key, nonce and exporter secret."""
    ephemeral = labeled_expand(KEM_SUITE, labeled_extract(KEM_SUITE, b"", b"dkp_prk", blake3(b"", random)), b"sk", b"", 32)
    enc = x25519(ephemeral)
    shared = X25519PrivateKey.from_private_bytes(ephemeral).exchange(X25519PublicKey.from_public_bytes(to))
    prk = labeled_extract(KEM_SUITE, b"", b"eae_prk", shared)
    shared = labeled_expand(KEM_SUITE, prk, b"shared_secret", enc + to, 32)
    context = b"\0" + labeled_extract(SUITE, b"", b"psk_id_hash", b"") + labeled_extract(SUITE, b"", b"info_hash", info)
    secret = labeled_extract(SUITE, shared, b"secret", b"")
    return enc, [labeled_expand(SUITE, secret, label, context, n) for label, n in ((b"key", 32), (b"base_nonce", 12), (b"exp", 32))]


def enrolment(body=None, epoch=1, vault=VAULT, device=ENROLLED, to=None, version=1, floor=b"what was seen", **claim):
    info = b"bke1 enrolment" + vault + struct.pack("<H", epoch) + device
    enc, (key, nonce, exporter) = hpke(to or x25519(SEAL_SEED), info, b"\x99" * 32)
    fields = {1: version, 2: vault, 3: epoch, 4: ENROLMENT_KIND, 6: enc}
    if body is None:
        body = cbor({1: [[epoch, MASTER]], 2: DS, 3: public(ROOT_SEED), 5: floor})
    sealed = AESGCM(key).encrypt(nonce, body, b"bke1 envelope" + cbor(fields))
    fields.update({8: labeled_expand(SUITE, exporter, b"sec", b"bke1 enrolment commitment", 32), 9: sealed})
    fields.update({int(k[1:]): v for k, v in claim.items()})
    return cbor(check(fields))


def write_enrolments():
    keys = {1: [[1, MASTER]], 2: DS, 3: public(ROOT_SEED)}
    good = enrolment()
    write("enrolment", "accept", "sealed to X25519 key 0x88…, random bytes 0x99…", envelope=good, floor=b"what was seen",
          random=b"\x99" * 32)
    write("enrolment-no-floor", "accept", "an approver that has seen nothing", envelope=enrolment(floor=b""), floor=b"",
          random=b"\x99" * 32)
    refuse = {
        "other-device": ("WrongSecret", "bound to another device's id", enrolment(device=bytes(16))),
        "other-key": ("WrongSecret", "sealed to another key", enrolment(to=x25519(b"\x89" * 32))),
        "other-vault": ("WrongSecret", "the vault's id was changed", enrolment(_2=bytes(16))),
        "other-epoch": ("WrongSecret", "the epoch was changed", enrolment(_3=2)),
        "weak-key": ("WrongSecret", "an encapsulated key of small order", enrolment(_6=bytes(32))),
        "commitment": ("WrongSecret", "the seal holds, the commitment is another's", enrolment(_8=bytes(32))),
        "damaged": ("Damaged", "the checksum is another's", enrolment(_10=bytes(8))),
        "newer": ("UnknownVersion", "version 2", enrolment(version=2)),
        "with-seed": ("Malformed", "the root seed sealed to a device", enrolment(cbor({**keys, 4: ROOT_SEED}))),
        "without-floor": ("Malformed", "no floor at all", enrolment(cbor(keys))),
        "both": ("Malformed", "seed and floor", enrolment(cbor({**keys, 4: ROOT_SEED, 5: b""}))),
        "body-trailing": ("Malformed", "one sealed byte more", enrolment(cbor({**keys, 5: b""}) + b"\0")),
        "epoch-not-held": ("Malformed", "says epoch 2 and holds 1", enrolment(cbor({**keys, 5: b""}), epoch=2)),
        "nonce": ("Malformed", "a nonce where HPKE has its own", enrolment(_7=NONCE)),
        "device-kind": ("OtherKind", "an envelope of a device secret", envelope(DEVICE_KIND, cbor(keys))),
        "trailing": ("Malformed", "one byte more", good + b"\0"),
    }
    for name, (verdict, why, data) in refuse.items():
        write("enrolment-" + name, "refuse " + verdict, why, envelope=data)


NEXT = b"\x12" * 32


def signed_rotation(signer=DEVICE_SEED, cert=None, epochs=((1, MASTER), (2, NEXT)), vault=VAULT, dedup=DS, root=None,
                    epoch=2, prefix=b"bke1 rotation\0", context="backupengine 2026-11-29 keys after a rotation"):
    """What an owner device says of keys that it rotated, sealed with them."""
    all_keys = b"".join(struct.pack("<H", e) + k for e, k in epochs)
    stands_for = derived(context, vault + (root or public(ROOT_SEED)) + dedup + all_keys)
    message = prefix + vault + struct.pack("<H", epoch) + stands_for
    return cbor({1: certificate(1) if cert is None else cert, 2: sign(signer, message)})


def rotated(rotation, epochs=((1, MASTER), (2, NEXT)), epoch=2, dedup=DS, root=None, **fields):
    body = {1: [[e, k] for e, k in epochs], 2: dedup, 3: root or public(ROOT_SEED), 5: b"what was seen", 6: rotation}
    body.update({int(k[1:]): v for k, v in fields.items()})
    return enrolment(cbor({k: v for k, v in body.items() if v is not None}), epoch=epoch)


def write_rotations():
    good = signed_rotation()
    second = b"\x55" * 32
    by_second = chained(certificate(1), DEVICE_SEED, second, 1)
    more = ((1, MASTER), (2, NEXT), (3, b"\x13" * 32))
    accept = {
        "rotated": ("epoch 2 on epoch 1, signed by an owner device", good, {}),
        "rotated-chain": ("signed by an owner that an owner certified", signed_rotation(second, by_second), {}),
        "rotated-twice": ("epoch 3, for a device that has epoch 1", signed_rotation(epochs=more, epoch=3),
                          {"epochs": more, "epoch": 3}),
    }
    for name, (why, rotation, fields) in accept.items():
        write(name, "accept", why, envelope=rotated(rotation, **fields), floor=b"what was seen", random=b"\x99" * 32,
              epoch=fields.get("epoch", 2))
    other = ((1, b"\x14" * 32), (2, NEXT))
    refuse = {
        "unsigned": ("NoRotation", "an approval's: words are compared", rotated(None)),
        "by-maintainer": ("IssuerNotOwner", "signed by a maintainer", rotated(signed_rotation(cert=certificate(2)))),
        "by-writer": ("IssuerNotOwner", "signed by a writer", rotated(signed_rotation(cert=certificate(3)))),
        "by-reader": ("IssuerNotOwner", "signed by a reader", rotated(signed_rotation(cert=certificate(4)))),
        "role-raised": ("Untrusted", "a reader that calls itself an owner",
                        rotated(signed_rotation(cert=certificate(4, claim={4: 1})))),
        "by-stranger": ("Untrusted", "an owner of another root key",
                        rotated(signed_rotation(cert=certificate(1, seed=second)))),
        "other-vault": ("Untrusted", "an owner of another vault",
                        rotated(signed_rotation(cert=certificate(1, vault=bytes(16))))),
        "other-signer": ("BadSignature", "an owner's certificate, signed by another device",
                         rotated(signed_rotation(second))),
        "other-master": ("BadSignature", "the signature of another newest key",
                         rotated(signed_rotation(epochs=((1, MASTER), (2, b"\x15" * 32))))),
        "other-epoch": ("BadSignature", "the signature of epoch 3", rotated(signed_rotation(epoch=3))),
        "no-domain": ("BadSignature", "without its first bytes", rotated(signed_rotation(prefix=b""))),
        "root-domain": ("BadSignature", "signed as a root record is", rotated(signed_rotation(prefix=b"bke1 root record\0"))),
        "other-context": ("BadSignature", "the hash of the fingerprint's context",
                          rotated(signed_rotation(context="backupengine 2026-11-24 fingerprint of six words"))),
        "other-first": ("NotOurs", "another key of epoch 1, signed", rotated(signed_rotation(epochs=other), epochs=other)),
        "other-dedup": ("NotOurs", "another dedup secret, signed",
                        rotated(signed_rotation(dedup=b"\x23" * 32), dedup=b"\x23" * 32)),
        "other-root": ("NotOurs", "another root key, signed",
                       rotated(signed_rotation(root=public(second)), root=public(second))),
        "first-left-out": ("NotOurs", "without the key of epoch 1, signed",
                           rotated(signed_rotation(epochs=((2, NEXT),)), epochs=((2, NEXT),))),
        "with-seed": ("Malformed", "the root seed sealed to a device", rotated(good, _4=ROOT_SEED)),
        "without-floor": ("Malformed", "a rotation and no floor", rotated(good, _5=None)),
        "none": ("Malformed", "no bytes", rotated(b"")),
        "trailing": ("Malformed", "one byte more", rotated(good + b"\0")),
        "no-signature": ("Malformed", "the certificate alone", rotated(cbor({1: certificate(1)}))),
        "short-signature": ("Malformed", "63 bytes", rotated(cbor({1: certificate(1), 2: bytes(63)}))),
        "certificate-trailing": ("Malformed", "one byte more in the certificate",
                                 rotated(signed_rotation(cert=certificate(1) + b"\0"))),
        "seventh": ("Malformed", "a key that nobody knows", rotated(good, _7=b"")),
    }
    for name, (verdict, why, data) in refuse.items():
        write("rotated-" + name, "refuse " + verdict, why, envelope=data)
    # Nor does it stand anywhere else than in what is sealed to a device.
    body = cbor({1: [[1, MASTER], [2, NEXT]], 2: DS, 3: public(ROOT_SEED), 6: good})
    write("envelope-rotation-on-device", "refuse Malformed", "who rotated, sealed under a device secret",
          envelope=envelope(DEVICE_KIND, body, epoch=2))
    write("envelope-rotation-with-code", "refuse Malformed", "who rotated, sealed under the recovery code",
          envelope=envelope(RECOVERY_KIND, body, epoch=2))


def write_seal_keys():
    own = x25519(SEAL_SEED)
    good = sign(DEVICE_SEED, b"bke1 seal key\0" + own)
    write("sealkey", "accept", "the X25519 key 0x88…, by its device", certificate=certificate(4), seal_public=own,
          signature=good)
    refuse = {
        "other-key": ("a key that the device did not sign", x25519(b"\x89" * 32), good),
        "other-device": ("signed by another device", own, sign(b"\x55" * 32, b"bke1 seal key\0" + own)),
        "no-domain": ("over the key alone", own, sign(DEVICE_SEED, own)),
        "root-domain": ("signed as a root record is", own, sign(DEVICE_SEED, b"bke1 root record\0" + own)),
    }
    for name, (why, key, signature) in refuse.items():
        write("sealkey-" + name, "refuse", why, certificate=certificate(4), seal_public=key, signature=signature)


def write_fingerprints():
    def words(*parts):
        data = b"".join(struct.pack("<Q", len(part)) + part for part in parts)
        bits = int.from_bytes(derived("backupengine 2026-11-24 fingerprint of six words", data)[:16], "big")
        # The words themselves are the list's; here stand their places in it.
        return " ".join(str(bits >> (128 - 11 * (i + 1)) & 0x7FF) for i in range(6))
    sign_public, seal_public = public(DEVICE_SEED), x25519(SEAL_SEED)
    write("fingerprint-device", "accept", "both public keys", sign_public=sign_public, seal_public=seal_public,
          words=words(b"device", sign_public, seal_public))
    write("fingerprint-vault", "accept", "the vault's keys, epoch 1",
          words=words(b"vault", VAULT, public(ROOT_SEED), DS, b"\x01\x00", MASTER))
    write("fingerprint-vault-rotated", "accept", "the vault's keys, epochs 1 and 2",
          words=words(b"vault", VAULT, public(ROOT_SEED), DS, b"\x01\x00", MASTER, b"\x02\x00", NEXT))


write_derivations()
write_frames()
write_certificates()
write_envelopes()
write_chains()
write_enrolments()
write_rotations()
write_seal_keys()
write_fingerprints()
