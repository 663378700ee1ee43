"""What Ringcast promises to cost, and whether it keeps that.

Invariant: a bar is held against the median of the rounds; what could not be measured is missed, and never left out.
"""

import statistics
import sys

from scenarios import SCENARIOS, TOPOLOGIES, run


class Bar:
    """A figure of a scenario, in `unit` of `scale` each, and the most it may be on each cluster, if that is fixed."""

    def __init__(self, name, scenario, figure, unit, dev=None, apart=None, scale=1, on=("dev", "apart")):
        self.name, self.scenario, self.figure, self.unit = name, scenario, figure, unit
        self.most = {"dev": dev, "apart": apart}
        self.scale, self.on = scale, on


FLOOR = "x floor"
BARS = (
    Bar("A as fast as it goes, CPU of a delivery", "a_max", "cpu_us", "us"),
    Bar("... over a floor of up to 8 frames a write", "a_max", "ratio", FLOOR, 1.3, 1.6),
    Bar("A at 20/s, CPU of a delivery", "a_20", "cpu_us", "us"),
    Bar("... over a floor of a write a frame", "a_20", "ratio", FLOOR, 1.15, 1.3),
    Bar("A at half of its maximum, p50 above a floor of 16", "a_half", "p50_above_floor_us", "ms", 0.5, 1, 1000),
    Bar("A at half of its maximum, p99 above a floor of 16", "a_half", "p99_above_floor_us", "ms", 3, 6, 1000),
    Bar("B as fast as it goes, CPU of a delivery", "b_max", "cpu_us", "us"),
    Bar("... over a floor of a write a frame", "b_max", "ratio", FLOOR, 1.4, 2.0),
    Bar("B at 2,000/s, CPU of a delivery", "b_2000", "cpu_us", "us", 45),
    Bar("C, memory of a connection, all in one process", "c", "bytes_dev", "bytes", 2900, on=("dev",)),
    Bar("C, memory of a connection, gateways", "c", "bytes_gateway", "bytes", None, 2600, on=("apart",)),
    Bar("C, memory of a connection, topic servers", "c", "bytes_topic_server", "bytes", None, 300, on=("apart",)),
    Bar("C, CPU of a join", "c", "join_cpu_us", "us", 80, 80),
    Bar("D, until all have joined", "d", "seconds", "s", 0.6, 0.8),
    Bar("D, p99 of a join", "d", "p99_join_us", "ms", 600, scale=1000),
    Bar("5,000 that missed 100 each, until all have them", "resume", "seconds", "s"),
    Bar("5,000 that missed 100 each, CPU of a client", "resume", "resume_cpu_us", "us"),
)


def measure(binary, rounds, quick):
    """Every scenario on every cluster, round for round, so that what a machine does for a minute hits one run of each."""
    found = {topology.short: {scenario.key: [] for scenario in SCENARIOS} for topology in TOPOLOGIES}
    total, done = rounds * len(SCENARIOS) * len(TOPOLOGIES), 0
    for number in range(rounds):
        before = {topology.short: {} for topology in TOPOLOGIES}
        for scenario in SCENARIOS:
            # Neither cluster always comes first.
            for topology in TOPOLOGIES if number % 2 == 0 else reversed(TOPOLOGIES):
                done += 1
                say(f"[{done}/{total}] round {number + 1}, {topology.short}: {scenario.title}")
                figures = run(scenario, topology, binary, before[topology.short], quick)
                before[topology.short][scenario.key] = figures
                found[topology.short][scenario.key].append(figures)
                say(f"    {brief(figures)}")
    return found


def brief(figures):
    names = ("cpu_us", "ratio", "p50_us", "p99_us", "bytes", "join_cpu_us", "resume_cpu_us", "seconds")
    parts = [f"{name} {short(figures[name])}" for name in names if figures.get(name) is not None]
    return (", ".join(parts) or "failed") + ("" if figures["clean"] else f"; NOT CLEAN: {'; '.join(figures['problems'])}")


def say(text):
    print(text, file=sys.stderr, flush=True)


def judge(found):
    """Every bar on every cluster it is for: (bar, cluster, figures of the rounds, median, most, met)."""
    rows = []
    for bar in BARS:
        for cluster in bar.on:
            values = [figures.get(bar.figure) for figures in found[cluster].get(bar.scenario, [])]
            known = [value / bar.scale for value in values if value is not None]
            median = statistics.median(known) if known and len(known) == len(values) else None
            most = bar.most[cluster]
            met = None if most is None else median is not None and median <= most
            rows.append((bar, cluster, known, median, most, met))
    return rows


def missed(found):
    """Bars that were."""
    return [row for row in judge(found) if row[-1] is False]


def unclean(found):
    """Runs in which something was not as it should be, a line each."""
    return [
        f"{cluster}, {key}, round {number}: {'; '.join(figures['problems'])}"
        for cluster, scenarios in found.items()
        for key, runs in scenarios.items()
        for number, figures in enumerate(runs, 1)
        if not figures["clean"]
    ]


def verdict(met):
    return {None: "", True: "met", False: "MISSED"}[met]


def short(value):
    """A number with three digits that say something."""
    if value is None:
        return "unknown"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 or value == 0 else f"{value:.3f}"


def table(found):
    """For people, on a terminal."""
    lines = [("WHAT", "CLUSTER", "MEDIAN", "BAR", "")]
    for bar, cluster, _, median, most, met in judge(found):
        limit = "" if most is None else f"<= {short(most)}"
        lines.append((bar.name, cluster, f"{short(median)} {bar.unit}", limit, verdict(met)))
    return aligned(lines, (2, 3))


def aligned(lines, numbers):
    """Columns, those of numbers to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            word.rjust(width) if column in numbers else word.ljust(width)
            for column, (word, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )
