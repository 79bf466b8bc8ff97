"""What the devices of scripts/year do: push, forget, prune, rotate, restore; and what is left in the end."""

import json
import os
import random
import shutil
import threading
import time

from year_mounts import Mounts
from year_place import clear_shared
from year_source import Source, stored_below, write_secret

EMAIL = "year@example.org"
# Of each device and its folder.
RULES = ["--keep-daily", "7", "--keep-weekly", "5", "--keep-monthly", "12"]
# Exit status of the program.
UNREACHABLE = 5
# One push in so many is killed.
BREAKS_OFF = 12


class Year(Mounts):
    def __init__(self, work, clock, server, devices, chance):
        self.work, self.clock, self.server, self.devices, self.chance = work, clock, server, devices, chance
        self.lock = threading.Lock()
        self.sources = {device: Source(device, random.Random(chance.random()), 60 if device is devices[0] else 25)
                        for device in devices}
        self.dice = {device: random.Random(chance.random()) for device in devices}
        self.pushed, self.ids, self.made, self.forgotten = {}, {}, set(), set()
        self.new = []  # tags that nobody has looked at yet, and since when
        self.held, self.browser, self.browsed = [], None, 0
        self.pruning, self.jumped, self.over = 0, 0.0, False
        self.count, self.problems = {}, []
        self.longest = {"push": 0.0, "push during a prune": 0.0, "prune": 0.0, "read of a file": 0.0}

    def add(self, what, by=1):
        with self.lock:
            self.count[what] = self.count.get(what, 0) + by

    def problem(self, text):
        if self.over:
            return
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

    def push(self, device, whole=False):
        source, dice = self.sources[device], self.dice[device]
        source.change(self.clock.now())
        with self.lock:
            tag = f"{device.name}-{len(self.pushed)}"
            self.pushed[tag] = (device, dict(source.files))
        kill_after = None
        if not whole and dice.randrange(BREAKS_OFF) == 0:
            kill_after = dice.uniform(0.05, 0.5)
        begun, pruning, turn = time.monotonic(), self.pruning, self.server.turn
        status, said = device.run("--json", "push", device.source, "--tag", tag, kill_after=kill_after)
        if status is None:
            self.add("pushes killed")
            clear_shared(self.clock.begun)
            return
        if status == UNREACHABLE and self.server.was_away(turn):
            # Nobody waits long for a server that was not there when they came; the next push stores it all.
            self.add("pushes that found no server")
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
        begun, turn = time.monotonic(), self.server.turn
        self.pruning += 1
        status, said = device.run("--json", "prune")
        self.pruning -= 1
        if status == UNREACHABLE and self.server.was_away(turn):
            self.add("prunes that found no server")
            return
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

    def listed(self):
        return json.loads(self.devices[0].must("--json", "snapshots"))

    def nothing_is_missing(self, kept):
        there = {one["id"] for one in kept}
        for lost in self.made - self.forgotten - there:
            self.problem(f"snapshot {lost} was made and not forgotten, and is gone")
        for back in there & self.forgotten:
            self.problem(f"snapshot {back} was forgotten and is there")

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
