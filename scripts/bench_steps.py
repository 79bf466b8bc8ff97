"""The steps of scripts/bench: what is done with each tool, and what of it is noted.

"Cold" means: mounted anew, the tool's own cache emptied where it has one, the kernel's caches dropped.
"""

import glob
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from bench_measure import (
    MIB, Cores, at, command, drop_caches, folder_bytes, places, random_reads, read_all, read_files, resident, same,
    stream, unbroken_memory, watch_memory,
)

SETS = ("home", "many", "media", "image")
STEPS = ("push", "list", "small", "grep", "clip", "random", "copy", "restore", "memory", "changed")
# What one word of --steps stands for.
GROUPS = {"reads": STEPS[1:-2], "all": STEPS}


class Bench:
    """One place: its data, its mount point, and the figures of it."""

    def __init__(self, base, seed, figures, quick, far=None):
        self.data = os.path.join(base, "data")
        self.mountpoint = os.path.join(base, "mnt")
        self.out = os.path.join(base, "out")
        self.seed, self.figures, self.far = seed, figures, far
        self.limit = 60 if quick else 600  # seconds that one command may take
        self.copy_limit = 8 if quick else 120  # the same of one that reads by the mount
        self.box = 3 if quick else 15  # seconds that one loop of reads may take
        self.server = self.mounted = None
        self.cores = None
        os.makedirs(self.mountpoint, exist_ok=True)

    # -- running things -------------------------------------------------------------------------------

    def watch(self):
        """From here to the next note, how busy the cores are is noted as well."""
        self.cores = Cores()

    def run(self, tool, words):
        """Runs to the end; gives seconds and peak MiB of the process."""
        self.watch()
        begun = time.monotonic()
        with tempfile.TemporaryFile() as log:
            child = subprocess.Popen(words, env=tool.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            stop = threading.Timer(self.limit, child.kill)
            stop.start()
            peak, done = [0.0], threading.Event()
            watch = threading.Thread(target=watch_memory, args=(child.pid, peak, done))
            watch.start()
            try:
                _, status = os.waitpid(child.pid, 0)
                seconds = time.monotonic() - begun
                child.returncode = os.waitstatus_to_exitcode(status)
            finally:
                stop.cancel()
                done.set()
                watch.join()
            if child.returncode != 0:
                log.seek(0)
                said = log.read()[-2000:].decode(errors="replace")
                raise SystemExit(f"bench: {words} ended with {child.returncode}:\n{said}")
        return seconds, peak[0]

    def note(self, tool, row, value, cut=False):
        name = tool if isinstance(tool, str) else tool.name
        busy, self.cores = self.cores.busy() if self.cores else None, None
        self.figures.note(row, name, value, cut, busy)
        print(f"  {name:14} {row:38} {value:12.3f}{' (stopped)' if cut else ''}", file=sys.stderr, flush=True)

    def cold_mount(self, tool):
        """Mounts with nothing in any cache and waits for the first listing; gives the seconds that took."""
        self.unmount()
        tool.clear_cache()
        drop_caches()
        begun = time.monotonic()
        if not tool.mounts:
            return 0
        with open(os.path.join(tool.work, "mount.log"), "ab") as log:
            self.server = subprocess.Popen(
                tool.mount(self.mountpoint), env=tool.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.mounted = tool
        while True:
            if os.path.ismount(self.mountpoint) and os.listdir(self.mountpoint):
                return time.monotonic() - begun
            if self.server.poll() is not None or time.monotonic() - begun > 60:
                raise SystemExit(f"bench: the mount of {tool.name} did not come up; see {tool.work}/mount.log")
            time.sleep(0.002)

    def unmount(self):
        """Whatever is mounted, if anything is; never leaves a mount or its process."""
        if self.server is None:
            return
        tool, server = self.mounted, self.server
        self.server = self.mounted = None
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            subprocess.run(tool.unmount(self.mountpoint), env=tool.env, timeout=20, **quiet)
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.send_signal(signal.SIGTERM)
            subprocess.run(["umount", "-l", self.mountpoint], **quiet)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def shown(self, tool, name):
        """Where the set `name` stands in the mount, in the snapshot of its own tag."""
        pattern = tool.shown(self.mountpoint, os.path.join(self.data, name), name)
        found = glob.glob(pattern)
        if not found:
            raise SystemExit(f"bench: {tool.name} shows nothing at {pattern}")
        return sorted(found)[-1]

    # -- writing --------------------------------------------------------------------------------------

    def push(self, tool):
        source = {name: os.path.join(self.data, name) for name in SETS}
        self.run(tool, tool.init())
        for folder in source.values():  # the tool is measured, not the disk its source lies on
            read_all(folder)
        before = folder_bytes(tool.stored())
        seconds, peak = self.run(tool, tool.push(source["home"], "home"))
        self.note(tool, "first push, home", seconds)
        self.note(tool, "unchanged push, home", self.run(tool, tool.push(source["home"], "again"))[0])
        for row, name in (
            ("first push, many small files", "many"),
            ("first push, incompressible clips", "media"),
            ("first push, disk image", "image"),
        ):
            seconds, more = self.run(tool, tool.push(source[name], name))
            peak = max(peak, more)
            self.note(tool, row, seconds)
        self.note(tool, "peak memory of a push", peak)
        self.note(tool, "stored bytes, all sets", (folder_bytes(tool.stored()) - before) / MIB)

    def changed(self, tool):
        """After the data was changed: the script does that once for all tools."""
        home = os.path.join(self.data, "home")
        self.note(tool, "push after 1 % changed, home", self.run(tool, tool.push(home, "changed"))[0])

    # -- reading --------------------------------------------------------------------------------------

    def list(self, tool):
        seconds = self.cold_mount(tool)
        if tool.pushes:
            self.note(tool, "mount to first listing", seconds)
        home = self.shown(tool, "home")
        for row in ("find with lstat, cold", "find with lstat, warm"):
            self.watch()
            begun = time.monotonic()
            listing = subprocess.run(["find", home, "-printf", "%s\\n"], check=True, capture_output=True).stdout
            self.note(tool, row, listing.count(b"\n") / (time.monotonic() - begun))

    def small(self, tool):
        source = os.path.join(self.data, "home")
        files = sorted(
            os.path.relpath(os.path.join(d, f), source)
            for d, _, names in os.walk(source)
            for f in names
            if os.path.getsize(os.path.join(d, f)) <= 64 << 10
        )
        count = min(1000, len(files) // 3)
        picks = random.Random(f"{self.seed}/small").sample(files, 2 * count)
        self.cold_mount(tool)
        home = self.shown(tool, "home")
        first, others = ([os.path.join(home, p) for p in part] for part in (picks[:count], picks[count:]))
        self.watch()
        speed, count = read_files(first, 1, self.box)
        self.note(tool, "1000 small files, one reader, cold", speed)
        # Those that there was time for.
        self.watch()
        self.note(tool, "the same again, warm", read_files(first[:count], 1, self.box)[0])
        self.watch()
        self.note(tool, "1000 others, 8 readers, cold", read_files(others, 8, self.box)[0])

    def grep(self, tool):
        source = os.path.join(self.data, "home")
        # The same one for every tool: the top folder with the most files below it.
        below = lambda top: sum(len(files) for _, _, files in os.walk(os.path.join(source, top)))
        top = max(sorted(os.listdir(source)), key=below)
        self.cold_mount(tool)
        words = ["grep", "-r", "no such text anywhere", os.path.join(self.shown(tool, "home"), top)]
        self.watch()
        self.note(tool, "grep -r over a subtree, cold", *command(words, self.copy_limit))

    def clip(self, tool):
        if self.far and not tool.pushes:
            if tool.name == "ceiling":
                speeds = []
                for _ in range(3):
                    drop_caches()  # the store's: its disk is this one
                    speeds.append(self.far.plain(128 * MIB) / MIB)
                self.note(tool, "cat of a clip, cold", statistics.median(speeds))
            return
        self.cold_mount(tool)
        clip = os.path.join(self.shown(tool, "media"), "clip-0.bin")
        self.watch()
        self.note(tool, "cat of a clip, cold", stream(clip))
        self.note(tool, "the clip again, warm", statistics.median(stream(clip) for _ in range(5)))
        # In turn with the mount's, so that both see the same machine.
        own = os.path.join(self.data, "media", "clip-0.bin")
        stream(own)
        self.note("disk", "the clip from the disk, page cache", statistics.median(stream(own) for _ in range(5)))
        drop_caches()
        self.watch()
        self.note(tool, "the clip again, kernel cache dropped", stream(clip))
        drop_caches()
        with unbroken_memory():
            for name, row, path in (
                (tool, "the clip again, warm, memory unbroken", clip),
                ("disk", "the clip from the disk, memory unbroken", own),
            ):
                stream(path)
                self.note(name, row, statistics.median(stream(path) for _ in range(5)))

    def random(self, tool):
        self.cold_mount(tool)
        image = os.path.join(self.shown(tool, "image"), "disk.img")
        counts = self.far is not None and tool.name != "borg"  # its relay is another process
        before = self.far.fetched() if counts else 0
        self.watch()
        took = random_reads(image, self.jumps("random"), self.box)
        self.note(tool, "random 4 KiB in the image, cold", len(took) / sum(took))
        self.note(tool, "random 4 KiB, p50", at(0.5, took) * 1000)
        self.note(tool, "random 4 KiB, p99", at(0.99, took) * 1000)
        if counts:
            self.note(tool, "fetched for one random 4 KiB", (self.far.fetched() - before) / len(took) / 1024)

    def jumps(self, name):
        """2000 places in the image, the same for every tool."""
        return random.Random(f"{self.seed}/{name}").choices(places(os.path.join(self.data, "image", "disk.img")), k=2000)

    def copy(self, tool):
        shutil.rmtree(self.out, ignore_errors=True)
        self.cold_mount(tool)
        self.watch()
        seconds, cut = command(["cp", "-a", self.shown(tool, "home"), self.out], self.copy_limit)
        self.note(tool, "cp -a of home from the mount", seconds, cut)
        if not cut:
            same(os.path.join(self.data, "home"), self.out)
        shutil.rmtree(self.out, ignore_errors=True)

    def restore(self, tool):
        self.unmount()
        shutil.rmtree(self.out, ignore_errors=True)
        os.makedirs(self.out)
        source = os.path.join(self.data, "home")
        words = tool.restore("home", source, self.out)
        tool.clear_cache()
        drop_caches()
        if not tool.pushes:
            read_all(source)
        self.note(tool, "full restore of home", self.run(tool, words)[0])
        # Some put the folders of the source below the target, and some the contents alone.
        below = self.out + source
        same(source, below if os.path.isdir(below) else self.out)
        shutil.rmtree(self.out)

    def memory(self, tool):
        """One mount that has listed, read and jumped about, in everything there is."""
        self.cold_mount(tool)
        for name in ("home", "many"):
            command(["find", self.shown(tool, name), "-printf", "%s"], self.copy_limit)
        command(["grep", "-r", "no such text anywhere", self.shown(tool, "home")], self.copy_limit)
        stream(os.path.join(self.shown(tool, "media"), "clip-0.bin"))
        image = os.path.join(self.shown(tool, "image"), "disk.img")
        random_reads(image, self.jumps("memory"), self.box)
        self.note(tool, "memory of the mount after all of it", resident(self.server.pid))
