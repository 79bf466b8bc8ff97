"""The tools that scripts/bench compares, one class each, with the same verbs.

`store` is where the backup goes. Only "local" exists today: the far column (an object store behind a latency)
comes with the presigned data path and will be another value of `place`.
"""

import glob
import os
import shutil
import subprocess


class Tool:
    """What every tool can do. Commands are argument lists; the harness runs and times them."""

    name = "?"

    def __init__(self, work, place="local"):
        if place != "local":
            raise SystemExit(f"bench: the place {place!r} does not exist yet")
        self.work = os.path.join(work, self.name)
        self.store = os.path.join(self.work, "store")
        self.cache = os.path.join(self.work, "cache")
        os.makedirs(self.cache)
        self.env = dict(os.environ, LC_ALL="C.UTF-8")

    def clear_cache(self):
        """Forgets what the tool itself keeps between runs to read faster."""

    def unmount(self, mountpoint):
        return ["fusermount3", "-u", mountpoint]


class Ours(Tool):
    name = "backupengine"

    def __init__(self, work, binary):
        super().__init__(work)
        self.binary = os.path.abspath(binary)
        self.env["BACKUPENGINE_HOME"] = os.path.join(self.work, "own")
        self.env["BACKUPENGINE_VAULT"] = self.store

    def version(self):
        return [self.binary, "version"]

    def init(self):
        # The passphrase is needed here only: afterwards this device opens the vault by its own key.
        return ["env", "BACKUPENGINE_PASSPHRASE=correct horse battery staple", self.binary, "init", "--yes", self.store]

    def push(self, source, tag):
        return [self.binary, "push", "-q", "--tag", tag, source]

    def mount(self, mountpoint):
        return [self.binary, "mount", mountpoint]

    def shown(self, mountpoint, source, tag):
        return os.path.join(mountpoint, "by-tag", tag, "*") + source

    def unmount(self, mountpoint):
        return [self.binary, "unmount", mountpoint]

    def restore(self, tag, source, target):
        listing = subprocess.run(
            [self.binary, "snapshots", "--tag", tag, "--json"], env=self.env, check=True, capture_output=True
        ).stdout
        import json

        found = json.loads(listing)
        rows = found["snapshots"] if isinstance(found, dict) else found
        return [self.binary, "restore", "-q", rows[-1]["id"], "--to", target]


class Restic(Tool):
    name = "restic"

    def __init__(self, work):
        super().__init__(work)
        self.env.update(
            RESTIC_PASSWORD="bench", RESTIC_REPOSITORY=self.store, RESTIC_CACHE_DIR=self.cache, RESTIC_PROGRESS_FPS="0.1"
        )

    def version(self):
        return ["restic", "version"]

    def init(self):
        return ["restic", "init", "-q"]

    def push(self, source, tag):
        return ["restic", "backup", "-q", "--tag", tag, source]

    def mount(self, mountpoint):
        return ["restic", "mount", mountpoint]

    def shown(self, mountpoint, source, tag):
        return os.path.join(mountpoint, "tags", tag, "latest") + source

    def restore(self, tag, source, target):
        return ["restic", "restore", "-q", "latest", "--tag", tag, "--target", target]

    def clear_cache(self):
        shutil.rmtree(self.cache, ignore_errors=True)
        os.makedirs(self.cache)


class Borg(Tool):
    name = "borg"

    def __init__(self, work):
        super().__init__(work)
        self.env.update(
            BORG_PASSPHRASE="bench",
            BORG_REPO=self.store,
            BORG_BASE_DIR=self.cache,
            BORG_RELOCATED_REPO_ACCESS_IS_OK="yes",
            BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK="yes",
        )

    def version(self):
        return ["borg", "--version"]

    def init(self):
        return ["borg", "init", "--encryption=repokey-blake2"]

    def push(self, source, tag):
        return ["borg", "create", "--compression", "zstd,3", f"::{tag}", source]

    def mount(self, mountpoint):
        return ["borg", "mount", "-f", self.store, mountpoint]

    def shown(self, mountpoint, source, tag):
        return os.path.join(mountpoint, tag) + source

    def restore(self, tag, source, target):
        return ["sh", "-c", 'cd "$1" && exec borg extract "::$2"', "sh", target, tag]

    def clear_cache(self):
        for folder in glob.glob(os.path.join(self.cache, ".cache")):
            shutil.rmtree(folder, ignore_errors=True)
