"""The far place of scripts/bench: a control plane and an object store behind a link with a delay.

`tests/far` is the program: it runs both, carries every byte late, and counts. Here it is built, started, asked and
ended. Run by itself this file prints the one-time code of an otpauth address that it is given on standard input.
"""

import base64
import hashlib
import hmac
import json
import os
import select
import struct
import subprocess
import sys
import time
import urllib.parse

TOP = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
PASSWORD = "a bench of three horses"
PATIENCE = 120  # seconds for PostgreSQL to be made and started


def build():
    """Builds the program optimised; gives its path."""
    words = ["cargo", "build", "--release", "-q", "-p", "backupengine-tests", "--bench", "far", "--message-format", "json"]
    built = subprocess.run(words, cwd=TOP, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in built.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "far":
            return message["executable"]
    raise SystemExit("bench: cargo built nothing for the far place")


class Far:
    """Runs while it is used in `with`. Its data, and the port that devices remember, stay in `folder`."""

    def __init__(self, program, folder, delay, rate=0):
        self.program, self.folder, self.delay, self.rate = program, folder, delay, rate
        self.data = os.path.join(folder, "data")
        self.child = None

    def __enter__(self):
        os.makedirs(self.folder, exist_ok=True)
        os.chmod(self.folder, 0o711)  # PostgreSQL does not run as root
        kept = os.path.join(self.folder, "port")
        port = open(kept).read() if os.path.exists(kept) else "0"
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.child = subprocess.Popen(
                [self.program, self.data, "--delay", str(self.delay), "--rate", str(self.rate), "--port", port],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1,
            )
        try:
            said = self.answer(PATIENCE)
            for name, value in said.items():
                setattr(self, name, value)
            with open(kept, "w") as file:
                file.write(self.server.rsplit(":", 1)[1])
            with open(os.path.join(self.data, "secrets.json")) as file:
                self.secret_key = json.load(file)["storage_key"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.child is None:
            return
        self.child.stdin.close()  # it ends with its input, and takes PostgreSQL with it
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()
        self.child = None

    def answer(self, seconds):
        ready, _, _ = select.select([self.child.stdout], [], [], seconds)
        line = self.child.stdout.readline() if ready else ""
        if not line:
            raise SystemExit(f"bench: the far place says nothing; see {self.folder}/log")
        return json.loads(line)

    def ask(self, line):
        self.child.stdin.write(line + "\n")
        return self.answer(10)

    def fetched(self):
        """Bytes that came from the store until now."""
        return self.ask("counts")["store"]["down"]

    def trip(self):
        """Milliseconds of the fastest of some round trips on one connection: what the link really costs."""
        import http.client

        host = self.store.split("//")[1]
        connection, took = http.client.HTTPConnection(host, timeout=30), []
        for _ in range(6):
            begun = time.monotonic()
            connection.request("GET", "/")
            connection.getresponse().read()
            took.append(time.monotonic() - begun)
        connection.close()
        return min(took) * 1000


def one_time_code(address, now):
    """Of an otpauth address: RFC 6238 with what the address says."""
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(address).query)
    secret = asked["secret"][0]
    key = base64.b32decode(secret + "=" * (-len(secret) % 8), casefold=True)
    name = asked.get("algorithm", ["SHA1"])[0].lower()
    step = int(now) // int(asked.get("period", ["30"])[0])
    digest = hmac.new(key, struct.pack(">Q", step), getattr(hashlib, name)).digest()
    start = digest[-1] & 15
    number = struct.unpack(">I", digest[start : start + 4])[0] & 0x7FFFFFFF
    digits = int(asked.get("digits", ["6"])[0])
    return str(number % 10**digits).zfill(digits)


if __name__ == "__main__":
    print(one_time_code(sys.stdin.read().strip(), time.time()))
