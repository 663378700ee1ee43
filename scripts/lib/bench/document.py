"""docs/benchmarks.md out of what was measured.

Invariant: it is made of docs/benchmarks/*.json alone, so the page can be made again without measuring, and a part that was
measured another day says on what.
"""

import json
import os

import bars
import plots
from bars import short, verdict
from scenarios import SCENARIOS, TOPOLOGIES

FOLDER = "benchmarks"
# Of each figure: what it is, its unit, and how many of these one is.
COLUMNS = {
    "cpu_us": ("CPU, us a delivery", 1),
    "floor_cpu_us": ("floor", 1),
    "ratio": ("over floor", 1),
    "publishes_per_s": ("publishes/s", 1),
    "deliveries_per_s": ("deliveries/s", 1),
    "floor_deliveries_per_s": ("floor", 1),
    "p50_us": ("p50, ms", 1000),
    "floor_p50_us": ("floor", 1000),
    "p99_us": ("p99, ms", 1000),
    "floor_p99_us": ("floor", 1000),
    "client_busy": ("client, cores", 1),
    "bytes": ("bytes a connection", 1),
    "bytes_gateway": ("of gateways", 1),
    "bytes_topic_server": ("of topic servers", 1),
    "floor_bytes": ("floor", 1),
    "join_cpu_us": ("CPU, us a join", 1),
    "floor_join_cpu_us": ("floor", 1),
    "idle_cpu_us_per_s": ("idle, us a second", 1),
    "join_seconds": ("joined in, s", 1),
    "seconds": ("all in after, s", 1),
    "floor_seconds": ("floor", 1),
    "p99_join_us": ("p99 of a join, ms", 1000),
    "floor_p99_join_us": ("floor", 1000),
    "resume_cpu_us": ("CPU, us a client", 1),
    "p99_back_us": ("p99 until back, ms", 1000),
    "recovered": ("recovered", 1),
    "not_recovered": ("not recovered", 1),
    "failed_tries": ("failed tries", 1),
}

INTRO = """# What Ringcast costs

Written by `scripts/bench`; the figures are in `benchmarks/*.json`, and `scripts/bench --render` makes this page of them
again.

The load generator is `ringcast bench` (docs/bench.md), which shares the machine with what it loads and accounts for every
message; its own processor time is none of the figures but `client`. The *floor* is a bare server of one thread that does the
same work under the same load, in the same run. Processor time is that of all processes of a cluster together, payloads have
128 bytes, and the figure held against a bar is the median of the rounds.
"""

CLUSTERS = """*dev* is one gateway and one topic server in one process, *apart* a coordinator, 2 topic servers and 2 gateways, a
process each; clients are spread over both gateways. Every run has a cluster of its own, and memory is what it gained."""


def store(folder, part, measured):
    """Keeps the figures of one part: `bars` or `laws`."""
    os.makedirs(os.path.join(folder, FOLDER), exist_ok=True)
    with open(os.path.join(folder, FOLDER, f"{part}.json"), "w") as file:
        json.dump(measured, file, indent=1)
        file.write("\n")


def load(folder, part):
    try:
        with open(os.path.join(folder, FOLDER, f"{part}.json")) as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def render(folder, parts):
    """Writes the page and its plots; `parts` are functions of what was stored, by name. Returns where it is."""
    sections = [INTRO]
    for name, make in parts.items():
        measured = load(folder, name)
        if measured is None:
            continue
        written, drawings = make(measured)
        sections.append(written)
        for file, drawing in drawings.items():
            with open(os.path.join(folder, FOLDER, file), "w") as out:
                out.write(drawing)
    page = os.path.join(folder, "benchmarks.md")
    with open(page, "w") as out:
        out.write("\n".join(sections))
    return page


def rows(header, lines):
    out = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    out += ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join(out)


def machine(facts):
    return rows(("", ""), list(facts.items()))


def of_bars(measured):
    found, count = measured["found"], measured["rounds"]
    judged = bars.judge(found)
    table = rows(
        ("what", "cluster", "median", "bar", "", "rounds"),
        [
            (
                bar.name,
                cluster,
                f"{short(median)} {bar.unit}",
                "" if most is None else f"<= {short(most)}",
                verdict(met),
                " / ".join(short(value) for value in values),
            )
            for bar, cluster, values, median, most, met in judged
        ],
    )
    shares = [
        (
            label(bar),
            ("dev", "apart").index(cluster),
            [value / most for value in values],
            None if median is None else median / most,
        )
        for bar, cluster, values, median, most, _ in judged
        if most is not None
    ]
    note = "full: the median; hollow: the rounds. Left of the bar is better."
    drawing = plots.against("Figures over their bars", note, shares, ("dev", "apart"))
    parts = [
        f"## Against the bars: {count} round{'s' if count > 1 else ''}",
        "Of less time and fewer clients than bars are for (`--quick`)." if measured["quick"] else "",
        machine(measured["machine"]),
        CLUSTERS,
        table,
        f"![Figures over their bars]({FOLDER}/bars.svg)",
        wrong(found),
        "### Commands",
        commands(measured),
        "### Every round",
        *raw(found),
    ]
    return "\n\n".join(part for part in parts if part) + "\n", {"bars.svg": drawing}


def label(bar):
    """A bar's name that can stand alone."""
    if not bar.name.startswith("... "):
        return bar.name
    earlier = [other.name for other in bars.BARS[: bars.BARS.index(bar)] if not other.name.startswith("... ")]
    return f"{earlier[-1].partition(',')[0]}, over the floor"


def wrong(found):
    lines = [f"- {line}" for line in bars.unclean(found)]
    if not lines:
        return "Every message of every run arrived once and in order, and no connection was closed."
    return "Not everything was as it should be:\n\n" + "\n".join(lines)


def commands(measured):
    lines = []
    for topology in TOPOLOGIES:
        lines += [f"# {topology.short}", *topology.commands, ""]
    lines.append("# each with --pid NAME=PID of every process, --url of every gateway, --quiet -o json")
    for scenario in SCENARIOS:
        for cluster, scenarios in measured["found"].items():
            if not scenarios.get(scenario.key):
                continue
            command = f"ringcast bench {scenarios[scenario.key][0]['command']}"
            if command not in lines:
                lines.append(command if scenario.key != "a_half" else f"{command}   # {cluster}, round 1")
    return "```\n" + "\n".join(lines) + "\n```"


def raw(found):
    for scenario in SCENARIOS:
        runs = [
            (cluster, number, figures)
            for cluster, scenarios in found.items()
            for number, figures in enumerate(scenarios.get(scenario.key, []), 1)
        ]
        if not runs:
            continue  # measured before there was such a scenario
        names = [name for name in COLUMNS if any(figures.get(name) is not None for _, _, figures in runs)]
        lines = [
            (cluster, str(number), *(cell(figures.get(name), COLUMNS[name][1]) for name in names))
            for cluster, number, figures in runs
        ]
        yield f"**{scenario.title}**\n\n" + rows(("cluster", "round", *(COLUMNS[name][0] for name in names)), lines)


def cell(value, scale):
    return "" if value is None else short(value / scale)
