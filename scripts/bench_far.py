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
import tempfile
import sys
import time
import urllib.parse

TOP = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
PASSWORD = "a bench of three horses"
# What is far away takes nothing of this machine: memory for each answer is not mapped and given back anew.
KEEPS = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=1073741824:glibc.malloc.arena_max=2"
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
                env={**os.environ, "GLIBC_TUNABLES": KEEPS},
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

    def plain(self, total, part=8 << 20, at_once=8):
        """Bytes a second of plain reads of the store, in parts, so many at once: what the link and the store give anybody
        who does nothing with what comes."""
        found = (os.path.join(inside, name) for inside, _, names in os.walk(self.buckets) for name in names)
        large = sorted(path for path in found if os.path.getsize(path) >= 4 * part)[: -(-total // (4 * part))]
        asked = []
        for path in large:
            address = self.presigned(os.path.relpath(path, self.buckets))
            asked += [f'url = "{address}"\nrange = "{at}-{at + part - 1}"\noutput = "/dev/null"'
                      for at in range(0, 4 * part, part)]
        with tempfile.NamedTemporaryFile("w") as config:  # addresses are secrets, and no arguments
            config.write("\nnext\n".join(asked))
            config.flush()
            begun = time.monotonic()
            subprocess.run(["curl", "-sS", "--fail-early", "--parallel", "--parallel-immediate", "--parallel-max",
                            str(at_once), "-K", config.name], check=True, stderr=subprocess.DEVNULL)
            return len(asked) * part / (time.monotonic() - begun)

    def presigned(self, name):
        """An address to read an object by, for a quarter of an hour: AWS Signature Version 4 in the query."""
        now = time.gmtime()
        day, moment = time.strftime("%Y%m%d", now), time.strftime("%Y%m%dT%H%M%SZ", now)
        scope = f"{day}/{self.region}/s3/aws4_request"
        fields = {"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{self.access_key}/{scope}",
                  "X-Amz-Date": moment, "X-Amz-Expires": "900", "X-Amz-SignedHeaders": "host"}
        query = "&".join(f"{key}={urllib.parse.quote(value, safe='')}" for key, value in sorted(fields.items()))
        path = "/" + urllib.parse.quote(name)
        asked = f"GET\n{path}\n{query}\nhost:{self.store.split('//')[1]}\n\nhost\nUNSIGNED-PAYLOAD"
        key = ("AWS4" + self.secret_key).encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return f"{self.store}{path}?{query}&X-Amz-Signature={signature}"

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
