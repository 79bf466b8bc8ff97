"""The place of scripts/year: a clock for everything, a control plane with its object store, and devices that use it.

All programs ask libfaketime what time it is, and that asks one file. The server, its PostgreSQL and its store live through
a jump: all their clocks go. Devices sleep through it, as a laptop that was closed: what counts the time a system is awake
(CLOCK_MONOTONIC) stands still for them. Times of files are the kernel's, and nobody fakes them.
"""

import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from bench_far import one_time_code

# What takes longer hangs.
PATIENCE = 150
PASSWORD = "a year of three devices"
# A code counts once, and is of half a minute.
CODE_SECONDS = 60


def library():
    """Where libfaketime lies, or why nothing works."""
    places = ["/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1"]
    found = [path for place in places for path in glob.glob(place)]
    if not found:
        raise SystemExit("there is no libfaketime: scripts/setup --year installs it")
    return found[0]


class Clock:
    """What time it is for everything. Goes forward only."""

    def __init__(self, folder):
        self.file, self.library = os.path.join(folder, "clock"), library()
        self.ahead, self.lock = 0, threading.Lock()
        self.begun = time.time()
        self.jump(0)

    def now(self):
        return time.time() + self.ahead

    def days(self):
        return (self.now() - self.begun) / 86400

    def jump(self, seconds):
        with self.lock:
            self.ahead += int(seconds)
            with open(self.file + ".new", "w") as file:
                file.write(f"+{self.ahead}\n")
            os.chmod(self.file + ".new", 0o644)  # PostgreSQL does not run as root
            # In one step: whoever looks meanwhile sees the one or the other.
            os.rename(self.file + ".new", self.file)

    def environment(self, sleeps):
        """`sleeps`: whether the time that the system is awake stands still over a jump."""
        words = {"LD_PRELOAD": self.library, "FAKETIME_TIMESTAMP_FILE": self.file, "FAKETIME_NO_CACHE": "1",
                 "NO_FAKE_STAT": "1"}
        if sleeps:
            words.update(FAKETIME_DONT_FAKE_MONOTONIC="1", DONT_FAKE_MONOTONIC="1")
        return words


def clear_shared(begun):
    """libfaketime leaves its shared memory behind where a process was killed; one with the same number later stumbles
    over it. Only of processes that are gone, and of this run."""
    for path in glob.glob("/dev/shm/faketime_shm_*") + glob.glob("/dev/shm/sem.faketime_sem_*"):
        number = path.rsplit("_", 1)[1]
        try:
            if number.isdigit() and not os.path.exists(f"/proc/{number}") and os.stat(path).st_mtime >= begun - 1:
                os.unlink(path)
        except OSError:
            pass


def sound_environment():
    """Ours, without what would point programs to somebody's own account, or to another clock."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith(("BACKUPENGINE_", "XDG_", "FAKETIME", "LD_PRELOAD"))}


class Server:
    """`backupengine-server --dev`, by the clock, always at one address."""

    def __init__(self, folder, program, clock):
        self.folder, self.program, self.clock = folder, program, clock
        self.data, self.log = os.path.join(folder, "data"), os.path.join(folder, "server.log")
        self.child, self.turn = None, 0  # odd while it is away
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.listen = f"127.0.0.1:{free.getsockname()[1]}"
        self.base = f"http://{self.listen}"
        self.programs = self._programs_by_the_clock()

    def _programs_by_the_clock(self):
        """The server starts PostgreSQL with an empty environment: programs of these names on its PATH set the clock."""
        usual = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
        found = shutil.which("initdb")
        if not found and not usual:
            raise SystemExit("there is no PostgreSQL: scripts/setup --year installs it")
        real = os.path.dirname(os.path.realpath(found)) if found else usual[-1]
        folder = os.path.join(self.folder, "postgresql")
        os.makedirs(folder)
        setting = " ".join(f"{name}='{value}'" for name, value in self.clock.environment(sleeps=False).items())
        for name in ("postgres", "initdb", "pg_ctl"):
            path = os.path.join(folder, name)
            with open(path, "w") as file:
                file.write(f'#!/bin/sh\nexport {setting}\nexec {real}/{name} "$@"\n')
            os.chmod(path, 0o755)
        return folder

    @property
    def objects(self):
        return os.path.join(self.data, "objects")

    def start(self):
        environment = dict(sound_environment(), **self.clock.environment(sleeps=False))
        environment["PATH"] = f"{self.programs}:{environment.get('PATH', '/usr/bin:/bin')}"
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                [self.program, "--dev", "--data", self.data, "--listen", self.listen, "--region", "eu"],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        host, port = self.listen.split(":")
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.child.poll() is None:
            try:
                with socket.create_connection((host, int(port)), timeout=5) as asked:
                    asked.sendall(b"GET /health HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
                    if b" 200 " in asked.recv(100):
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit(f"the server does not start: {self.said()}")

    def said(self):
        with open(self.log, errors="replace") as file:
            return file.read()[-2000:]

    def stop(self, how=signal.SIGTERM):
        if self.child is None:
            return
        self.child.send_signal(how)
        try:
            self.child.wait(60)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child = None

    def restart(self, how):
        self.turn += 1
        self.stop(how)
        clear_shared(self.clock.begun)
        self.start()
        self.turn += 1

    def was_away(self, turn):
        """Whether it was, at any time since then."""
        return turn % 2 == 1 or turn != self.turn


class Mount:
    """A mount of a device's that stays."""

    def __init__(self, child, path, log):
        self.child, self.path, self.log = child, path, log
        self.looked, self.renewals = 0, 0

    def renewed(self):
        """How often it has renewed its lease by now."""
        with open(self.log, "rb") as file:
            file.seek(self.looked)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.looked += len(whole)
        self.renewals += whole.count(b"the lease was renewed")
        return self.renewals

    def end(self):
        """As somebody would; what does not end is killed and torn away."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(30)
            done = True
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            done = False
        if os.path.ismount(self.path):
            subprocess.run(["fusermount3", "-u", "-z", self.path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return done


class Device:
    """A home of its own, from which the program is run."""

    def __init__(self, name, folder, program, clock):
        self.name, self.folder, self.program, self.clock = name, os.path.join(folder, name), program, clock
        self.source, self.log = os.path.join(self.folder, "source"), os.path.join(self.folder, "log")
        self.uri = None  # of the account's second factor, the same for all
        self.mounted, self.running = 0, set()
        os.makedirs(self.source)

    def environment(self, **more):
        return dict(sound_environment(), BACKUPENGINE_HOME=os.path.join(self.folder, "home"), BACKUPENGINE_KEYCHAIN="file",
                    TZ="UTC", **self.clock.environment(sleeps=True), **more)

    def start(self, *arguments, **more):
        command = [self.program, "--log-level", "debug", "--log-file", self.log, *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=self.environment(**more), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments, kill_after=None, **more):
        """Status, and what was printed: results where it went well, else what it complained of. None where it was killed
        as it should; a hang ends it and is told as a status of its own."""
        child = self.start(*arguments, **more)
        self.running.add(child)
        try:
            out, err = child.communicate(timeout=kill_after or PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return (None, "") if kill_after else ("hung", f"for {PATIENCE} s")
        finally:
            self.running.discard(child)
        return child.returncode, out if child.returncode == 0 else out + err

    def run_with_code(self, *arguments, **more):
        """With password and a one-time code that was not used yet."""
        self.clock.jump(CODE_SECONDS)
        return self.run(*arguments, BACKUPENGINE_PASSWORD=PASSWORD,
                        BACKUPENGINE_TOTP_CODE=one_time_code(self.uri, self.clock.now()), **more)

    def must(self, *arguments, run=None):
        status, said = (run or self.run)(*arguments)
        if status != 0:
            raise SystemExit(f"{self.name}: {arguments[0]} ended with {status}: {said}")
        return said

    def sign_up(self, server, email):
        """Makes the account: the address of the second factor comes to a command, which answers with a code of it."""
        uri, code = os.path.join(self.folder, "uri"), os.path.join(self.folder, "code")
        command = f"cat > '{uri}.new' && mv '{uri}.new' '{uri}' && while [ ! -s '{code}' ]; do sleep 0.05; done && cat '{code}'"
        child = self.start("signup", "--server", server, "--region", "eu", "--email", email, "--totp-command", command,
                           BACKUPENGINE_PASSWORD=PASSWORD)
        until = time.monotonic() + PATIENCE
        while not os.path.exists(uri) and child.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        if os.path.exists(uri):
            with open(uri) as file:
                self.uri = file.read().strip()
            with open(code + ".new", "w") as file:
                file.write(one_time_code(self.uri, self.clock.now()))
            os.rename(code + ".new", code)
        _, err = child.communicate(timeout=PATIENCE)
        if child.returncode != 0:
            raise SystemExit(f"signup ended with {child.returncode}: {err}")
        os.unlink(uri)

    def let_in(self, new, server, email):
        """Makes another home a device of the account, an owner like this one: both compare words."""
        new.uri = self.uri
        status, said = new.run_with_code("--json", "login", "--server", server, "--email", email, "--wait", "0")
        if status != 4 or "six words are: " not in said:
            raise SystemExit(f"{new.name}: login ended with {status}: {said}")
        hints = "\n".join(json.loads(said.strip().splitlines()[-1])["hints"])
        words = hints.split("six words are: ")[1].splitlines()[0].strip('" ')
        device = hints.split("device approve ")[1].split(";")[0]
        approve = ["--json", "device", "approve", device, "--role", "owner", "--fingerprint", words]
        return self.must(*approve, run=self.run_with_code)

    def mount(self, *arguments):
        """Mounts, and waits until the tree answers."""
        self.mounted += 1
        path = os.path.join(self.folder, f"mnt{self.mounted}")
        os.makedirs(path)
        own = f"{path}.log"
        with open(own, "ab") as log:
            command = [self.program, "--log-level", "debug", "--log-file", own, "-q", "mount", path, *arguments]
            child = subprocess.Popen(command, cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL,
                                     stdout=log, stderr=log)
        mount = Mount(child, path, own)
        until = time.monotonic() + PATIENCE
        while not os.path.ismount(path):
            if child.poll() is not None or time.monotonic() > until:
                mount.end()
                return None
            time.sleep(0.02)
        return mount

    def end(self):
        """What still runs, where all of it breaks off."""
        for child in list(self.running):
            child.kill()

    def logged(self, text):
        """How often the logs of this device say this."""
        found = 0
        for path in glob.glob(f"{self.folder}/mnt*.log") + [self.log]:
            if os.path.exists(path):
                with open(path, errors="replace") as file:
                    found += sum(text in line for line in file)
        return found


def tear_down(folder):
    """Whatever is still mounted below the folder is taken away, the deepest first, and then the folder."""
    with open("/proc/self/mounts") as file:
        below = [line.split(" ")[1] for line in file if line.split(" ")[1].startswith(folder + "/")]
    for path in reversed(below):
        subprocess.run(["fusermount3", "-u", "-z", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(0.25)
    print(f"{folder} could not be removed", file=sys.stderr)
