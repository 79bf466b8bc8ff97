"""Folders of scripts/year that change, with SHA-256 of every file in them."""

import hashlib
import os


class Source:
    """A folder that changes, and what is in it. Text: noise in many files at once looks like the work of ransomware."""

    def __init__(self, device, chance, names):
        self.folder, self.chance, self.names, self.files = device.source, chance, names, {}

    def write(self, path, data, now):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        os.utime(path, (now, now))
        self.files[path] = hashlib.sha256(data).hexdigest()

    def text(self, most):
        return self.chance.randbytes(self.chance.randint(0, most) // 2).hex().encode()

    def change(self, now):
        paths = [os.path.join(self.folder, f"d{n % 5}", f"f{n}.txt") for n in range(self.names)]
        if not self.files:
            for path in paths:
                self.write(path, self.text(400_000), now)
            return
        for path in self.chance.sample(paths, self.chance.randint(1, 4)):
            if path not in self.files:
                self.write(path, self.text(400_000), now)
            elif self.chance.random() < 0.15:
                os.remove(path)
                del self.files[path]
            else:
                with open(path, "rb") as file:
                    old = file.read()
                cut = self.chance.randint(0, len(old))
                self.write(path, (old[:cut] + self.text(60_000) + old[cut + 20_000:])[:400_000], now)


def held_files(folder):
    return sum(len(names) for _, _, names in os.walk(folder))


def stored_below(folder):
    return sum(os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(folder) for name in names)


def write_secret(path, text):
    with open(path, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(text)
