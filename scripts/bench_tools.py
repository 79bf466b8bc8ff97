"""The tools that scripts/bench compares, one class each, with the same verbs.

Near, the backup goes to a folder, `store`. Far (`far` is given: see bench_far.py), ours goes to an account, restic
and rustic to the same object store by S3, and borg, which knows no S3, to `borg serve` behind the same delay.
"""

import glob
import json
import os
import shutil
import subprocess
import sys
import time

import bench_far


class Tool:
    """What every tool can do. Commands are argument lists; the harness runs and times them."""

    name = "?"
    pushes = True  # whether it has a store at all
    mounts = True

    def __init__(self, work, far=None):
        self.far = far
        self.work = os.path.join(work, self.name)
        self.store = os.path.join(self.work, "store")
        self.cache = os.path.join(self.work, "cache")
        os.makedirs(self.cache, exist_ok=True)
        self.env = dict(os.environ, LC_ALL="C.UTF-8")
        self.settings()

    def stored(self):
        """The folder that holds what the store was given, as files."""
        return self.store

    def s3_bucket(self):
        """A bucket of its own for a peer, made by a folder's being there."""
        bucket = f"bench-{self.name}"
        os.makedirs(os.path.join(self.far.buckets, bucket), exist_ok=True)
        self.store = os.path.join(self.far.buckets, bucket)
        return bucket

    def clear_cache(self):
        """Forgets what the tool itself keeps between runs to read faster."""
        shutil.rmtree(self.cache, ignore_errors=True)
        os.makedirs(self.cache)

    def unmount(self, mountpoint):
        return ["fusermount3", "-u", mountpoint]


class Ours(Tool):
    name = "backupengine"
    binary = None  # set by the script

    def settings(self):
        home = os.path.join(self.work, "own")
        self.env["BACKUPENGINE_HOME"] = home
        self.cache = os.path.join(home, "cache")
        if self.far:
            self.store = self.far.objects
            self.env["BACKUPENGINE_KEYCHAIN"] = "file"
        else:
            self.env["BACKUPENGINE_VAULT"] = self.store

    def clear_cache(self):
        # What push remembers of the source lies there as well, and is not for reading. What the line carried last time is
        # in the state folder, and stays: it is nothing of the data.
        for kept in glob.glob(os.path.join(self.cache, "*", "*")):
            if os.path.basename(kept) != "push":
                shutil.rmtree(kept) if os.path.isdir(kept) else os.unlink(kept)

    def version(self):
        return [self.binary, "version"]

    def init(self):
        if not self.far:
            # The passphrase is needed here only: afterwards this device opens the vault by its own key.
            phrase = "BACKUPENGINE_PASSPHRASE=correct horse battery staple"
            return ["env", phrase, self.binary, "init", "--yes", self.store]
        code = f"{sys.executable} {os.path.realpath(bench_far.__file__)}"
        steps = '"$1" signup --server "$2" --region "$3" --email "$5" --totp-command "$4" && '
        steps += '"$1" init --yes --no-passphrase'
        email = f"bench-{time.time_ns()}@example.org"  # a new account each time, in the same place
        made = ["sh", "-c", steps, "sh", self.binary, self.far.server, self.far.region, code, email]
        return ["env", f"BACKUPENGINE_PASSWORD={bench_far.PASSWORD}", *made]

    def push(self, source, tag):
        return [self.binary, "push", "-q", "--tag", tag, source]

    def mount(self, mountpoint):
        # What still lies on this machine would be read there: here it is the store that is measured.
        return [self.binary, "mount", "--no-seeds", mountpoint]

    def shown(self, mountpoint, source, tag):
        return os.path.join(mountpoint, "by-tag", tag, "*") + source

    def unmount(self, mountpoint):
        return [self.binary, "unmount", mountpoint]

    def restore(self, tag, source, target):
        words = [self.binary, "snapshots", "--tag", tag, "--json"]
        found = json.loads(subprocess.run(words, env=self.env, check=True, capture_output=True).stdout)
        rows = found["snapshots"] if isinstance(found, dict) else found
        return [self.binary, "restore", "-q", rows[-1]["id"], "--to", target]


class Restic(Tool):
    name = "restic"

    def settings(self):
        self.env.update(RESTIC_PASSWORD="bench", RESTIC_CACHE_DIR=self.cache, RESTIC_PROGRESS_FPS="0.1")
        self.env["RESTIC_REPOSITORY"] = self.store
        if self.far:
            self.env["RESTIC_REPOSITORY"] = f"s3:{self.far.store}/{self.s3_bucket()}"
            self.env["AWS_ACCESS_KEY_ID"] = self.far.access_key
            self.env["AWS_SECRET_ACCESS_KEY"] = self.far.secret_key
            self.env["AWS_DEFAULT_REGION"] = self.far.region

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


class Rustic(Tool):
    name = "rustic"

    def settings(self):
        self.env.update(RUSTIC_PASSWORD="bench", RUSTIC_CACHE_DIR=self.cache, RUSTIC_NO_PROGRESS="true")
        self.env.update(RUSTIC_REPOSITORY=self.store, RUSTIC_LOG_LEVEL="warn")
        if self.far:
            self.env.update(
                RUSTIC_REPOSITORY="opendal:s3",
                OPENDAL_BUCKET=self.s3_bucket(),
                OPENDAL_ROOT="/",
                OPENDAL_ENDPOINT=self.far.store,
                OPENDAL_REGION=self.far.region,
                OPENDAL_ACCESS_KEY_ID=self.far.access_key,
                OPENDAL_SECRET_ACCESS_KEY=self.far.secret_key,
            )

    def version(self):
        return ["rustic", "--version"]

    def init(self):
        return ["rustic", "init"]

    def push(self, source, tag):
        return ["rustic", "backup", "--label", tag, source]

    def mount(self, mountpoint):
        return ["rustic", "mount", "--path-template", "{label}/{time}", "--file-access", "read", mountpoint]

    def shown(self, mountpoint, source, tag):
        return os.path.join(mountpoint, tag, "latest") + source

    def restore(self, tag, source, target):
        return ["rustic", "restore", "latest", "--filter-label", tag, target]


class Borg(Tool):
    name = "borg"

    def settings(self):
        self.repository = self.store
        if self.far:
            self.repository = f"ssh://far{self.store}"
            relay = os.path.join(self.work, "relay")
            with open(relay, "w") as script:
                script.write(f'#!/bin/sh\nshift\nexec "{self.far.program}" --stdio {self.far.delay} "$@"\n')
            os.chmod(relay, 0o755)
            self.env["BORG_RSH"] = relay
        self.env.update(
            BORG_PASSPHRASE="bench",
            BORG_REPO=self.repository,
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
        return ["borg", "mount", "-f", self.repository, mountpoint]

    def shown(self, mountpoint, source, tag):
        return os.path.join(mountpoint, tag) + source

    def restore(self, tag, source, target):
        return ["sh", "-c", 'cd "$1" && exec borg extract "::$2"', "sh", target, tag]

    def clear_cache(self):
        for folder in glob.glob(os.path.join(self.cache, ".cache")):
            shutil.rmtree(folder, ignore_errors=True)


class Source(Tool):
    """No backup and no mount: the data where they lie, read cold from this disk, and a copy out of the page cache
    instead of a restore."""

    name = "source"
    pushes = mounts = False
    data = None  # set by the script

    def settings(self):
        pass

    def shown(self, mountpoint, source, tag):
        return source

    def restore(self, tag, source, target):
        return ["cp", "-a", os.path.join(source, "."), target]


class Ceiling(Source):
    """No backup: the data shown by FUSE out of memory with our mount's settings (mount/fuse/examples)."""

    name = "ceiling"
    mounts = True
    binary = None  # set by the script

    def mount(self, mountpoint):
        return [self.binary, self.data, mountpoint]

    def shown(self, mountpoint, source, tag):
        return os.path.join(mountpoint, os.path.relpath(source, self.data))


LIMITS = {tool.name: tool for tool in (Source, Ceiling)}
ALL = {tool.name: tool for tool in (Ours, Restic, Rustic, Borg)}
