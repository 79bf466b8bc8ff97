"""What the devices of scripts/year do, and what each snapshot must hold: the oracle is SHA-256 of what was pushed."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import threading
import time

from year_place import PATIENCE, clear_shared

EMAIL = "year@example.org"
# Of each device and its folder.
RULES = ["--keep-daily", "7", "--keep-weekly", "5", "--keep-monthly", "12"]
# Days that a mount of one snapshot stays: past its time in the trash and the grace of its packs.
HELD, BROWSED = 36, 45
# Hours that a mount goes without renewing its lease: it lasts one, and for 72 more a mount that slept keeps it. The rest is
# for jumps in the middle of something.
LEASED = 52
# One push in so many is killed.
BREAKS_OFF = 12


class Held:
    """A mount of one snapshot that stays for weeks. An idle one is looked into once a week, from what it keeps."""

    def __init__(self, mount, tag, since, idle):
        self.mount, self.tag, self.since, self.idle = mount, tag, since, idle
        self.looked = self.leased = since
        self.renewals = 0


class Year:
    def __init__(self, work, clock, server, devices, chance):
        self.work, self.clock, self.server, self.devices, self.chance = work, clock, server, devices, chance
        self.lock = threading.Lock()
        self.sources = {device: Source(device, random.Random(chance.random()), 60 if device is devices[0] else 25)
                        for device in devices}
        self.dice = {device: random.Random(chance.random()) for device in devices}
        self.pushed, self.ids, self.made, self.forgotten = {}, {}, set(), set()
        self.new = []  # tags that nobody has looked at yet, and since when
        self.held, self.browser, self.browsed = [], None, 0
        self.pruning, self.jumped = 0, 0.0
        self.count, self.problems = {}, []
        self.longest = {"push": 0.0, "push during a prune": 0.0, "prune": 0.0, "read of a file": 0.0}

    def add(self, what, by=1):
        with self.lock:
            self.count[what] = self.count.get(what, 0) + by

    def problem(self, text):
        with self.lock:
            self.problems.append(text)
        print(f"PROBLEM on day {self.clock.days():.1f}: {text}", flush=True)

    def took(self, what, begun):
        with self.lock:
            self.longest[what] = max(self.longest[what], time.monotonic() - begun)

    def enrol(self, email):
        first = self.devices[0]
        first.sign_up(self.server.base, email)
        self.passphrase, self.code = os.path.join(self.work, "passphrase"), os.path.join(self.work, "code")
        write_secret(self.passphrase, os.urandom(24).hex())
        made = first.must("--passphrase-file", self.passphrase, "--json", "init", "--yes")
        write_secret(self.code, json.loads(made)["recovery_code"])
        for other in self.devices[1:]:
            words = json.loads(first.let_in(other, self.server.base, email))["vault_fingerprint"]
            other.must("login", "--server", self.server.base, "--vault-fingerprint", words, run=other.run_with_code)

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

    def push(self, device, whole=False):
        source, dice = self.sources[device], self.dice[device]
        source.change(self.clock.now())
        with self.lock:
            tag = f"{device.name}-{len(self.pushed)}"
            self.pushed[tag] = (device, dict(source.files))
        kill_after = None
        if not whole and dice.randrange(BREAKS_OFF) == 0:
            kill_after = dice.uniform(0.05, 0.5)
        begun, pruning = time.monotonic(), self.pruning
        status, said = device.run("--json", "push", device.source, "--tag", tag, kill_after=kill_after)
        if status is None:
            self.add("pushes killed")
            clear_shared(self.clock.begun)
            return
        if status != 0:
            self.problem(f"{device.name}: push ended with {status}: {said.strip()[:600]}")
            return
        self.add("pushes")
        self.took("push during a prune" if pruning or self.pruning else "push", begun)
        summary = json.loads(said.strip().splitlines()[-1])
        if summary["signals"]:
            self.problem(f"{tag} was taken for the work of ransomware: {summary['signals']}")
        with self.lock:
            self.ids[tag] = summary["snapshot"]
            self.made.add(summary["snapshot"])
            self.new.append((tag, time.monotonic()))

    def prune(self, device):
        begun = time.monotonic()
        self.pruning += 1
        status, said = device.run("--json", "prune")
        self.pruning -= 1
        if status != 0:
            self.problem(f"prune ended with {status}: {said.strip()[:600]}")
            return
        self.took("prune", begun)
        self.add("prunes")
        report = json.loads(said)
        self.add("packs deleted", report["packs_deleted"])
        self.add("packs moved", report["packs_moved"])

    def forget(self, *arguments):
        status, said = self.devices[0].run_with_code("--json", "forget", *arguments)
        if status != 0:
            self.problem(f"forget ended with {status}: {said.strip()[:600]}")
            return
        gone = {one["id"] for one in json.loads(said)["forgotten"]}
        self.forgotten |= gone
        self.add("snapshots forgotten", len(gone))

    def forget_by_rules(self):
        self.forget(*RULES)

    def forget_held(self):
        """The snapshot that was mounted last goes, while it is mounted."""
        tag = self.held[-1].tag if self.held else None
        if tag and self.ids[tag] not in self.forgotten:
            self.forget(self.ids[tag])
            self.add("snapshots forgotten while mounted")

    def rotate(self):
        status, said = self.devices[0].run_with_code(
            "--passphrase-file", self.passphrase, "--recovery-code-file", self.code, "--json", "key", "rotate", "--yes")
        if status != 0:
            self.problem(f"key rotate ended with {status}: {said.strip()[:600]}")
            return
        self.add("rotations")
        if len(json.loads(said)["devices"]) != len(self.devices):
            self.problem(f"key rotate left a device out: {said.strip()[:600]}")

    def restore_one(self, device):
        """Some snapshot of this device's, into a folder."""
        there = {one["id"] for one in self.listed()}
        tags = [tag for tag, (owner, _) in self.pushed.items() if owner is device and self.ids.get(tag) in there]
        tag, to = self.chance.choice(tags), os.path.join(self.work, "restored")
        status, said = device.run("--json", "restore", f"{self.ids[tag]}:{device.source}", "--to", to)
        if status != 0:
            self.problem(f"{device.name}: restore of {tag} ended with {status}: {said.strip()[-600:]}")
        else:
            self.add("snapshots restored")
            self.compare(tag, lambda path: os.path.join(to, os.path.relpath(path, os.path.dirname(device.source))))
        shutil.rmtree(to, ignore_errors=True)

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

    def listed(self):
        return json.loads(self.devices[0].must("--json", "snapshots"))

    def nothing_is_missing(self, kept):
        there = {one["id"] for one in kept}
        for lost in self.made - self.forgotten - there:
            self.problem(f"snapshot {lost} was made and not forgotten, and is gone")
        for back in there & self.forgotten:
            self.problem(f"snapshot {back} was forgotten and is there")

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

    def fresh(self, kept):
        """Bytes of a new vault in a folder, after pushes of copies of what the last mount shows."""
        vault, copies = os.path.join(self.work, "fresh"), os.path.join(self.work, "copies")
        where = ["--vault", vault, "--passphrase-file", self.passphrase]
        first = self.devices[0]
        first.must(*where, "--json", "init", vault, "--yes")
        for one in kept:
            device, copy = self.pushed[one["tags"][0]][0], os.path.join(copies, self.pushed[one["tags"][0]][0].name)
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(self.shown(self.last, one["tags"][0]) + device.source, copy)
            first.must(*where, "push", copy, "--quiet")
        self.last.end()
        return stored_below(vault)

    def stored(self):
        return stored_below(os.path.join(self.server.objects, "backupengine-eu"))

    def let_sweep(self):
        """The server sweeps once a minute, by a clock that has just jumped: until nothing goes any more."""
        before, quiet = self.stored(), 0
        while quiet < 15:
            time.sleep(1)
            self.listed()
            now = self.stored()
            before, quiet = now, quiet + 1 if now == before else 0

    def end(self):
        """Whatever is still mounted goes."""
        for mount in [self.browser, getattr(self, "last", None), *(held.mount for held in self.held)]:
            if mount:
                mount.end()


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
