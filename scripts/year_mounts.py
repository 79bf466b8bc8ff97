"""The mounts of scripts/year, and reading: everything that is read is held against SHA-256 of what was pushed."""

import contextlib
import hashlib
import os
import threading
import time

from year_place import PATIENCE
from year_source import held_files

# Days that a mount of one snapshot stays: past its time in the trash and the grace of its packs.
HELD, BROWSED = 36, 45
# Hours that a mount goes without renewing its lease: it lasts one, and for 72 more a mount that slept keeps it. The rest is
# for jumps in the middle of something.
LEASED = 61


class Held:
    """A mount of one snapshot that stays for weeks. An idle one is looked into once a week, from what it keeps."""

    def __init__(self, mount, tag, since, idle):
        self.mount, self.tag, self.since, self.idle = mount, tag, since, idle
        self.looked = self.leased = since
        self.renewals = 0


class Mounts:
    """For a class that has devices, a clock, and what was pushed."""

    @contextlib.contextmanager
    def jumps_meanwhile(self, likely):
        """Sometimes the clock jumps by hours while something is in flight."""
        if self.chance.random() >= likely:
            yield
            return
        after, hours = self.chance.uniform(0.02, 0.6), self.chance.uniform(0.3, 10)

        def jump():
            if not over.wait(after):
                self.clock.jump(hours * 3600)
                self.add("jumps in the middle")
        over = threading.Event()
        thread = threading.Thread(target=jump)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def compare(self, tag, place, files=None, mount=None):
        """Reads files of a snapshot; `place` says where. What hangs is ended with its mount."""
        wanted = self.pushed[tag][1]
        wanted = wanted if files is None else {path: wanted[path] for path in files}

        def read():
            for path, digest in wanted.items():
                begun = time.monotonic()
                try:
                    with open(place(path), "rb") as file:
                        found = hashlib.sha256(file.read()).hexdigest()
                except OSError as error:
                    self.problem(f"{tag}: {path}: {error}")
                    return
                self.took("read of a file", begun)
                self.add("files read")
                if found != digest:
                    self.problem(f"{tag}: {path} holds other bytes than were pushed")
        with self.jumps_meanwhile(0.05 if mount else 0):
            thread = threading.Thread(target=read, daemon=True)
            thread.start()
            thread.join(2 * PATIENCE)
        if thread.is_alive():
            self.problem(f"{tag}: a read hangs")
            if mount:
                mount.child.kill()
            thread.join(10)

    def browse(self):
        """The mount of all snapshots; another one after some weeks."""
        if self.browser and self.clock.days() - self.browsed > BROWSED:
            self.end_browser()
        if self.browser is None:
            self.browser, self.browsed = self.devices[1].mount("--no-seeds"), self.clock.days()
            if self.browser is None:
                self.problem("no mount")
            self.add("mounts")
        return self.browser

    def end_browser(self):
        if self.browser and not self.browser.end():
            self.problem("a mount did not end")
        self.browser = None

    def shown(self, mount, tag):
        link = os.path.join(mount.path, "by-tag", tag, "latest")
        return os.path.realpath(link) if os.path.lexists(link) else None

    def verify_new(self, wait=False):
        """Snapshots that the mount of all shows by now, whole. A mount looks for new ones every few seconds."""
        mount = self.browse()
        while mount and self.new:
            late = []
            for tag, since in self.new:
                folder = self.shown(mount, tag)
                if folder is not None:
                    self.compare(tag, lambda path, folder=folder: folder + path, mount=mount)
                    self.add("snapshots compared when new")
                elif self.ids[tag] in self.forgotten:
                    pass
                elif time.monotonic() - since > 60:
                    self.problem(f"{tag} does not appear in the mount")
                else:
                    late.append((tag, since))
            self.new = late
            if not wait:
                break
            time.sleep(0.3)

    def hold_one(self):
        """Mounts the laptop's newest snapshot alone."""
        tags = [tag for tag in self.ids if tag.startswith(self.devices[0].name) and self.ids[tag] not in self.forgotten]
        if not tags:
            return
        idle = self.count.get("mounts held", 0) % 2 == 1
        device = self.devices[2] if idle else self.devices[0]
        how = [] if idle else ["--cache-size", "none", "--memory", "32MiB", "--no-seeds"]
        mount = device.mount("--snapshot", self.ids[tags[-1]], *how)
        if mount is None:
            self.problem(f"{tags[-1]} does not mount")
            return
        self.add("mounts held")
        self.held.append(Held(mount, tags[-1], self.clock.days(), idle))
        if idle:
            # All of it: what is read later comes from here.
            self.read_held(self.held[-1], None)

    def read_held(self, held, files):
        self.compare(held.tag, lambda path: held.mount.path + path, files, held.mount)

    def wait_for_leases(self, hours):
        """Before a jump: mounts look every two seconds of theirs whether to renew their leases, and a year has not the time
        for that. They get it when a jump would take one near its end."""
        for held in self.held:
            begun = time.monotonic()
            while True:
                if held.mount.renewed() > held.renewals:
                    # When, is not known: since the last jump.
                    held.renewals, held.leased = held.mount.renewed(), self.jumped
                if (self.clock.now() - self.clock.begun) / 3600 + hours - held.leased * 24 < LEASED:
                    break
                if time.monotonic() - begun > 60:
                    self.problem(f"the mount of {held.tag} does not renew its lease")
                    held.leased = self.clock.days()
                    break
                time.sleep(0.1)

    def jump(self, hours):
        self.wait_for_leases(hours)
        self.clock.jump(hours * 3600)
        self.jumped = self.clock.days()

    def look_into_mounts(self):
        """After each jump: some files, others each time."""
        for held in self.held:
            if held.idle and self.clock.days() - held.looked < 7:
                continue
            held.looked = self.clock.days()
            paths = sorted(self.pushed[held.tag][1])
            self.read_held(held, self.chance.sample(paths, min(2, len(paths))))

    def end_held(self, held):
        self.read_held(held, None)
        self.held.remove(held)
        if not held.mount.end():
            self.problem("a mount did not end")

    def end_old_mounts(self):
        for held in [held for held in self.held if self.clock.days() - held.since > HELD]:
            self.end_held(held)

    def read_all(self, kept):
        """Every snapshot that is left, whole, through a mount of its own."""
        mount = self.devices[2].mount("--no-seeds")
        if mount is None:
            self.problem("no mount in the end")
            return
        for one in kept:
            tag = one["tags"][0]
            folder = self.shown(mount, tag)
            if folder is None:
                self.problem(f"{tag} is listed and not in the mount")
                continue
            self.compare(tag, lambda path, folder=folder: folder + path, mount=mount)
            if held_files(folder + self.pushed[tag][0].source) != len(self.pushed[tag][1]):
                self.problem(f"{tag} shows other files than were pushed")
            self.add("snapshots read whole in the end")
        self.last = mount

    def end(self):
        """Whatever still runs or is mounted goes."""
        self.over = True
        for device in self.devices:
            device.end()
        for mount in [self.browser, getattr(self, "last", None), *(held.mount for held in self.held)]:
            if mount:
                mount.end()
