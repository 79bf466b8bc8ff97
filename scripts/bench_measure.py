"""How scripts/bench measures: single loops over files, the kernel's caches, memory of a process."""

import contextlib
import errno
import mmap
import os
import select
import subprocess
import threading
import time

MIB = 1 << 20


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as switch:
        switch.write("3\n")


def in_pieces():
    """Bytes of free memory that lie in pieces of less than 2 MiB."""
    with open("/proc/buddyinfo") as zones:
        pieces = [[int(count) for count in zone.split()[4:]] for zone in zones]
    return sum(count << order for zone in pieces for order, count in enumerate(zone[:9])) * 4096


def free_memory():
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemFree"))


class Cores:
    """What share of all cores has been busy since it was made, whatever ran on them."""

    def __init__(self):
        self.begun = self.ticks()

    @staticmethod
    def ticks():
        with open("/proc/stat") as lines:
            spent = [int(ticks) for ticks in lines.readline().split()[1:9]]
        return sum(spent) - spent[3] - spent[4], sum(spent)  # without idle, and waiting for a disk

    def busy(self):
        (busy, all_of), (before, all_before) = self.ticks(), self.begun
        return (busy - before) / max(all_of - all_before, 1)


@contextlib.contextmanager
def awake():
    """Keeps the cores from sleeping. Whoever waits for a mount is woken on another core each time, and a core of a virtual
    machine that sleeps is woken by its host: what that costs shows beside a run without this."""
    with open("/dev/cpu_dma_latency", "wb", buffering=0) as latency:  # holds for as long as it is open
        latency.write(bytes(4))
        yield


@contextlib.contextmanager
def unbroken_memory():
    """Holds the memory that lies in pieces, so that what is cached now lies together, as on a machine that was just
    started. FUSE's pages are single ones, which the kernel takes from the smallest pieces first: without this their
    places, and with them how fast they are copied, are the machine's past."""
    held, room = [], in_pieces()  # no more than that: what others free meanwhile would be taken without end
    while room > 32 * MIB and (left := in_pieces()) > 32 * MIB and free_memory() > left + 2048 * MIB:
        taken = min(max(left // 2, 32 * MIB), room) // 4096 * 4096
        room -= taken
        piece = mmap.mmap(-1, taken, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        piece.madvise(mmap.MADV_NOHUGEPAGE)
        piece.madvise(23)  # MADV_POPULATE_WRITE, Linux 5.14
        held.append(piece)
    try:
        yield
    finally:
        for piece in held:
            piece.close()


def read_all(folder):
    for inside, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(inside, name), "rb", buffering=0) as file:
                while file.read(MIB):
                    pass


def folder_bytes(folder):
    return sum(os.lstat(os.path.join(d, f)).st_size for d, _, files in os.walk(folder) for f in files)


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def watch_memory(pid, peak, done):
    """Notes the kernel's own high-water mark. (The one that wait4 gives counts this script's memory as well,
    which the child had for a moment before it became the tool.)"""
    while not done.wait(0.02):
        try:
            with open(f"/proc/{pid}/status") as status:
                lines = dict(line.split(":", 1) for line in status)
        except OSError:
            return
        if not lines["Name"].strip().startswith("python") and "VmHWM" in lines:
            peak[0] = max(peak[0], int(lines["VmHWM"].split()[0]) / 1024)


def read_files(paths, readers, box):
    """Opens, reads and closes each path once; files a second, and how many. Stops after `box` seconds."""
    done = [0] * readers
    begun = time.monotonic()

    def work(n):
        for path in paths[n::readers]:
            handle = os.open(path, os.O_RDONLY)
            while os.read(handle, 128 << 10):
                pass
            os.close(handle)
            done[n] += 1
            if time.monotonic() - begun > box:
                return

    threads = [threading.Thread(target=work, args=(n,)) for n in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.monotonic() - begun), sum(done)


def stream(path):
    """Reads front to back in 1 MiB steps; MiB a second."""
    begun, total = time.monotonic(), 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(MIB):
            total += len(block)
    return total / MIB / (time.monotonic() - begun)


def places(path):
    """Offsets of all blocks of 4 KiB that hold data: a read from a hole says nothing."""
    found, end = [], 0
    handle, size = os.open(path, os.O_RDONLY), os.path.getsize(path)
    try:
        while end < size:
            start = os.lseek(handle, end, os.SEEK_DATA)
            end = os.lseek(handle, start, os.SEEK_HOLE)
            found.extend(range(-(-start // 4096) * 4096, end - 4095, 4096))
    except OSError as error:
        if error.errno != errno.ENXIO:  # no more data
            raise
    os.close(handle)
    return found


def random_reads(path, offsets, box):
    """One at a time, 4 KiB at each offset; the seconds of each read, in order. Stops after `box` seconds."""
    took = []
    handle = os.open(path, os.O_RDONLY)
    begun = last = time.monotonic()
    for offset in offsets:
        os.pread(handle, 4096, offset)
        now = time.monotonic()
        took.append(now - last)
        last = now
        if last - begun > box:
            break
    os.close(handle)
    return took


def at(part, values):
    """The value below which that part of them lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def command(words, limit):
    """Seconds that it took, and whether it was stopped at `limit`. Exit status 1 of grep is no failure."""
    begun = time.monotonic()
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    # Told by the kernel: `wait` with a limit looks every 50 ms only, a sixth of what the shortest of these takes.
    ended = os.pidfd_open(child.pid)
    try:
        cut = not select.select([ended], [], [], limit)[0]
        took = time.monotonic() - begun
    finally:
        os.close(ended)
        child.kill()
        child.wait()
    if not cut and child.returncode != 0 and not (words[0] == "grep" and child.returncode == 1):
        raise SystemExit(f"bench: {' '.join(words)} ended with {child.returncode}")
    return took, cut


def same(left, right):
    """A bench of wrong bytes is worth nothing."""
    subprocess.run(["diff", "-r", "--no-dereference", "-q", left, right], check=True, stdout=subprocess.DEVNULL)
