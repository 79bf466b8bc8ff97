"""What scripts/bench measures, what each row has to reach, and the table that says whether it does.

A goal is a ratio to the best peer of the same run, because machines differ: it is the figure aimed at divided by
that of the best peer where the goals were set. A few are absolute, or stand against another row of the same tool.
"""

import collections
import statistics

# kinds of goals
BETTER = "times the best peer"  # how many times better than the best peer
AT_MOST = "at most"  # not above this figure, whatever the peers do
OF_ROW = "of another row"  # so many times as good as another row of ours, or of the disk

Row = collections.namedtuple("Row", "name unit more local far", defaults=(None, None))
OURS, DISK, SOURCE, CEILING = "backupengine", "disk", "source", "ceiling"


def better(aim, peer, more):
    """The figure aimed at, and that of the best peer when it was set."""
    return BETTER, aim / peer if more else peer / aim


def rows(delay):
    """All rows, in the order of the table; `delay` is one way, in milliseconds."""
    trip = 2 * delay
    push = (BETTER, 1 / 0.6)
    as_good = (BETTER, 1.0)
    page_cache = (OF_ROW, 0.8, "the clip from the disk, page cache", DISK)
    unbroken = (OF_ROW, 0.8, "the clip from the disk, memory unbroken", DISK)
    restore = (OF_ROW, 0.8, "full restore of home", OURS)
    memory = (AT_MOST, 256)
    return [
        Row("first push, home", "s", False, push, push),
        Row("unchanged push, home", "s", False, (AT_MOST, 0.3)),
        Row("push after 1 % changed, home", "s", False, as_good, as_good),
        Row("first push, many small files", "s", False, push, push),
        Row("first push, incompressible clips", "s", False, push, push),
        Row("first push, disk image", "s", False, push, push),
        Row("peak memory of a push", "MiB", False, as_good, as_good),
        Row("stored bytes, all sets", "MiB", False, as_good, as_good),
        Row("mount to first listing", "s", False, better(0.10, 0.54, False), better(0.35, 1.0, False)),
        Row("find with lstat, cold", "entries/s", True, better(100_000, 8_200, True), better(60_000, 9_400, True)),
        Row("find with lstat, warm", "entries/s", True),
        Row("1000 small files, one reader, cold", "files/s", True, better(5_000, 833, True), better(1_000, 23, True)),
        Row("the same again, warm", "files/s", True, better(60_000, 2_747, True), better(60_000, 2_663, True)),
        Row("1000 others, 8 readers, cold", "files/s", True, better(15_000, 2_168, True), better(2_000, 119, True)),
        Row("grep -r over a subtree, cold", "s", False, better(0.3, 1.08, False), better(2, 18, False)),
        Row("cat of a clip, cold", "MiB/s", True, better(1_000, 139, True), better(400, 43, True)),
        Row("the clip again, warm", "MiB/s", True, page_cache, page_cache),
        Row("the clip from the disk, page cache", "MiB/s", True),
        Row("the clip again, warm, memory unbroken", "MiB/s", True, unbroken, unbroken),
        Row("the clip from the disk, memory unbroken", "MiB/s", True),
        Row("the clip again, kernel cache dropped", "MiB/s", True, better(1_000, 159, True), better(1_000, 46, True)),
        Row("random 4 KiB in the image, cold", "reads/s", True, better(4_000, 360, True)),
        Row("random 4 KiB, p50", "ms", False, None, (AT_MOST, trip + 5)),
        Row("random 4 KiB, p99", "ms", False, None, (AT_MOST, 2 * trip)),
        Row("fetched for one random 4 KiB", "KiB", False, None, (AT_MOST, 320)),
        Row("cp -a of home from the mount", "s", False, restore, restore),
        Row("full restore of home", "s", False, better(2, 5.1, False), better(2.5, 3.9, False)),
        Row("memory of the mount after all of it", "MiB", False, memory, memory),
    ]


class Figures:
    """What was measured: by row and tool, one value a round."""

    def __init__(self):
        self.values, self.cut, self.shares = {}, set(), {}

    def note(self, row, tool, value, cut=False, busy=None):
        """`cut`: it was stopped there, the true figure is worse. `busy`: share of all cores meanwhile, if known."""
        self.values.setdefault(row, {}).setdefault(tool, []).append(value)
        if busy is not None:
            self.shares.setdefault((row, tool), []).append(busy)
        if cut:
            self.cut.add((row, tool))

    def median(self, row, tool):
        values = self.values.get(row, {}).get(tool)
        return statistics.median(values) if values else None

    def busy(self, row, tool):
        shares = self.shares.get((row, tool))
        return f"{100 * statistics.median(shares):.0f} %" if shares else "–"

    def cell(self, row, tool):
        value = self.median(row, tool)
        if value is None:
            return "–"
        return ("worse than " if (row, tool) in self.cut else "") + f"{value:,.2f}"


def goodness(more, ours, theirs):
    """How many times better ours is; None where that says nothing."""
    if not ours or not theirs:
        return None
    return ours / theirs if more else theirs / ours


def both(row, figures):
    """What would come of the cold disk and the way through FUSE one after the other, with nothing in between."""
    parts = [figures.median(row.name, limit) for limit in (SOURCE, CEILING)]
    if None in parts or "cold" not in row.name:
        return None
    return 1 / sum(1 / part for part in parts) if row.more else sum(parts)


def verdict(figures, by_name, row, goal, ours, ratio):
    """The goal in words, and whether it is met."""
    if goal is None or ours is None:
        return "–", "–"
    kind, amount = goal[0], goal[1]
    if kind == BETTER:
        met = None if ratio is None else ratio >= amount
        return f"{amount:.2f} times the best peer", met
    if kind == AT_MOST:
        return f"at most {amount:g} {row.unit}", ours <= amount
    other, tool = goal[2], goal[3]
    reached = goodness(by_name[other].more, ours, figures.median(other, tool))
    text = f"{amount:g} of “{other}”" + ("" if reached is None else f" (is {reached:.2f})")
    return text, None if reached is None else reached >= amount


def table(figures, tools, place, delay):
    """Prints it; gives how many goals were met, missed, and left open for want of a peer."""
    listed = rows(delay)
    by_name = {row.name: row for row in listed}
    peers = [tool for tool in tools if tool not in (OURS, SOURCE, CEILING)]
    limits = CEILING in tools
    tally = {True: 0, False: 0, None: 0}
    print(f"\n### {place}" + (f", {delay} ms each way" if place == "far" else ""))
    print("| measure | unit | " + " | ".join(tools) + " | times the best peer | goal | met |"
          + (" of the ceiling | of disk and ceiling | cores busy |" if limits else ""))
    print("|---|---|" + "---:|" * (len(tools) + 1) + "---|---|" + ("---:|---:|---:|" if limits else ""))
    for row in listed:
        if row.name not in figures.values:
            continue
        ours = figures.median(row.name, OURS)
        rivals = {peer: figures.median(row.name, peer) for peer in peers}
        rivals = {peer: value for peer, value in rivals.items() if value is not None}
        best = (max if row.more else min)(rivals, key=rivals.get) if rivals else None
        ratio = goodness(row.more, ours, rivals[best]) if rivals else None
        goal, met = verdict(figures, by_name, row, row.far if place == "far" else row.local, ours, ratio)
        at_least = (row.name, best) in figures.cut  # the peer was stopped, and would have been slower still
        if at_least and met is False and goal.endswith("best peer"):
            met = None
        if goal != "–":
            tally[met] += 1
        cells = [figures.cell(row.name, tool) for tool in tools]
        if DISK in figures.values[row.name]:
            cells[0] = figures.cell(row.name, DISK) + " (no tool)"
        said = {True: "yes", False: "**no**", None: "open"}.get(met, met)
        times = "–" if ratio is None else f"{'over ' if at_least else ''}{ratio:.2f}"
        limit = ""
        if limits:
            alone = figures.median(row.name, CEILING)
            shares = [goodness(row.more, ours, limit) for limit in (alone, both(row, figures))]
            limit = "".join(" – |" if share is None else f" {share:.2f} |" for share in shares)
            limit += f" {figures.busy(row.name, OURS)} |"
        print(f"| {row.name} | {row.unit} | " + " | ".join(cells) + f" | {times} | {goal} | {said} |{limit}")
    print(f"\n{tally[True]} goals met, {tally[False]} not, {tally[None]} open for want of a peer, or of patience with one")
    return tally
