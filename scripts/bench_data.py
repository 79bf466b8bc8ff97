"""Test data for scripts/bench: a function of the seed alone, the same bytes on every machine.

Sets: `home` (a mixed folder of many sizes), `many` (small files), `media` (incompressible clips) and
`image` (a sparse disk image). Text is cut from one generated pool, so that making it is fast.
"""

import itertools
import os
import random

MIB = 1 << 20
EPOCH = 1_700_000_000


class Pools:
    """64 MiB of word-like text (zstd packs it about 2.5 to 1), and noise without end.

    The text is cut into runs of 300 to 3000 bytes. The pool is as large as it is, and noise is always new,
    because runs that come again within a megabyte would make files smaller than such files are.
    """

    def __init__(self, seed):
        rng = random.Random(f"{seed}/pools")
        words = ["".join(rng.choices("etaoinshrdlucmfwypgbvk", k=rng.randint(2, 11))) for _ in range(6000)]
        weights = list(itertools.accumulate(1 / (n + 10) for n in range(len(words))))
        self.text = " ".join(rng.choices(words, cum_weights=weights, k=10_500_000)).encode()[: 64 * MIB]

    def cut(self, rng, size, noise=False):
        """`size` bytes of noise, or of text from anywhere in the pool."""
        if noise:
            return rng.randbytes(size)
        parts, left = [], size
        while left > 0:
            run = min(left, rng.randint(300, 3000))
            at = rng.randrange(len(self.text) - run)
            parts.append(self.text[at : at + run])
            left -= run
        return b"".join(parts)


def write(path, data):
    with open(path, "wb") as out:
        out.write(data)
    os.utime(path, (EPOCH, EPOCH))


def make_home(pools, seed, folder, files):
    """`files` files in nested folders: 70 % below 8 KiB, a long tail up to 4 MiB; a third is noise."""
    rng = random.Random(f"{seed}/home")
    folders = [folder]
    for n in range(max(8, files // 25)):
        parent = rng.choice(folders[-200:])
        if parent.count("/") - folder.count("/") > 6:
            parent = folder
        made = os.path.join(parent, f"folder-{n:05d}")
        os.makedirs(made)
        folders.append(made)
    for n in range(files):
        dice = rng.random()
        if dice < 0.70:
            size = rng.randint(80, 8 << 10)
        elif dice < 0.95:
            size = rng.randint(8 << 10, 48 << 10)
        elif dice < 0.997:
            size = rng.randint(48 << 10, 300 << 10)
        else:
            size = rng.randint(1 << 20, 4 << 20)
        write(os.path.join(rng.choice(folders), f"file-{n:06d}.dat"), pools.cut(rng, size, n % 3 == 0))


def make_many(pools, seed, folder, files):
    """Files of 1 to 4 KiB, a hundred to a folder."""
    rng = random.Random(f"{seed}/many")
    for n in range(files):
        inside = os.path.join(folder, f"d{n // 1000:03d}", f"e{n // 100 % 10}")
        if n % 100 == 0:
            os.makedirs(inside)
        write(os.path.join(inside, f"f{n:06d}"), pools.cut(rng, rng.randint(1024, 4096), n % 4 == 0))


def make_media(seed, folder, count, size):
    for n in range(count):
        rng = random.Random(f"{seed}/media/{n}")
        with open(os.path.join(folder, f"clip-{n}.bin"), "wb") as out:
            for _ in range(size // MIB):
                out.write(rng.randbytes(MIB))
        os.utime(os.path.join(folder, f"clip-{n}.bin"), (EPOCH, EPOCH))


def make_image(pools, seed, folder, size):
    """One image: runs of 1 to 16 MiB, 45 % holes, the rest noise and text."""
    rng = random.Random(f"{seed}/image")
    path = os.path.join(folder, "disk.img")
    with open(path, "wb") as out:
        at = 0
        while at < size:
            run = min(rng.choice([1, 2, 4, 8, 16]) * MIB, size - at)
            dice = rng.random()
            if dice >= 0.45:
                out.seek(at)
                for _ in range(run // MIB):
                    out.write(rng.randbytes(MIB) if dice < 0.7 else pools.cut(rng, MIB))
            at += run
        out.truncate(size)
    os.utime(path, (EPOCH, EPOCH))


def change_home(pools, seed, folder, percent):
    """Changes `percent` of the files in place: appended to, rewritten inside, removed, or joined by a new one."""
    rng = random.Random(f"{seed}/change")
    paths = sorted(os.path.join(d, name) for d, _, names in os.walk(folder) for name in names)
    for n, path in enumerate(rng.sample(paths, max(1, int(len(paths) * percent / 100)))):
        dice, when = rng.random(), EPOCH + 86400 + n
        if dice < 0.15:
            os.unlink(path)
            continue
        if dice < 0.4:
            write(path + ".new", pools.cut(rng, rng.randint(500, 20000)))
            continue
        with open(path, "r+b") as out:
            if dice < 0.7:
                out.seek(0, os.SEEK_END)
            else:
                out.seek(rng.randrange(max(1, os.path.getsize(path))))
            out.write(pools.cut(rng, rng.randint(100, 4000)))
        os.utime(path, (when, when))


def make_all(seed, base, sizes):
    """Makes every set below `base`; `sizes` is one of SIZES."""
    pools = Pools(seed)
    for name in ("home", "many", "media", "image"):
        os.makedirs(os.path.join(base, name))
    make_home(pools, seed, os.path.join(base, "home"), sizes["home"])
    make_many(pools, seed, os.path.join(base, "many"), sizes["many"])
    make_media(seed, os.path.join(base, "media"), 2, sizes["clip"])
    make_image(pools, seed, os.path.join(base, "image"), sizes["image"])
    return pools


SIZES = {
    "full": {"home": 20_000, "many": 40_000, "clip": 128 * MIB, "image": 512 * MIB},
    "quick": {"home": 2_500, "many": 2_000, "clip": 16 * MIB, "image": 64 * MIB},
}
