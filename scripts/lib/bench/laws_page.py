"""The part of docs/benchmarks.md that says how costs grow."""

import laws
import plots
from bars import short, verdict
from document import FOLDER, machine, rows

HEAD = """## How costs grow

Clusters of separate processes: a coordinator, topic servers and gateways as each table says (2 topic servers where it does
not), all on this machine. Counts are those of the topic servers' metrics, over the publishes they appended meanwhile; bytes
are what went over all connections between nodes, in both directions, as the system counts them, less what goes there when
nothing is published; a connection that is not further off that than two keep-alives, 34 bytes, counts for nothing. {rounds} round{s}; a figure is
their median."""

NAMES = {
    "calls": "calls",
    "entries": "entries",
    "publications": "publications",
    "bytes": "bytes",
    "owner_cpu_us": "topic servers, us",
    "gateway_bytes": "gateway, MiB",
    "topic_server_bytes": "topic server, MiB",
    "history_bytes": "history, MiB",
    "seconds": "seconds until done",
    "pause_ms": "pause, ms",
    "owner_ns": "owner of a topic, ns",
    "walk_ns": "first node on the ring, ns",
    "build_ms": "ring made, ms",
    "publishes_per_s": "publishes/s",
    "publishes_per_cpu_s": "publishes/s of CPU",
    "publishes_per_owner_cpu_s": "publishes/s of CPU of topic servers",
}
MIB = ("gateway_bytes", "topic_server_bytes", "history_bytes")


def of_laws(measured):
    """The section, and its plots."""
    count = measured["rounds"]
    parts = [
        HEAD.format(rounds=count, s="s" if count > 1 else ""),
        "Of less time and fewer values than a promise is for (`--quick`)." if measured["quick"] else "",
        machine(measured["machine"]),
    ]
    drawings = {}
    verdicts = laws.judge(measured["found"])
    for law in laws.LAWS:
        if law.key not in measured["found"]:
            continue  # measured before there was such a law
        at = laws.points(measured["found"][law.key])
        parts.append(f"### {law.title}")
        told = [(what, verdict(met)) for of, what, met in verdicts if of is law]
        if told:
            parts.append(rows(("promise", ""), told))
        if not at:
            continue
        names = [name for name in NAMES if name in at[0]]
        parts.append(rows((law.x_name, *(NAMES[name] for name in names)), [line(point, names) for point in at]))
        for file, y_name, figures, scale in law.plots:
            name = f"law-{law.key}-{file}.svg"
            series = [
                (said, [(point["x"], point[figure] / scale) for point in at if figure in point])
                for figure, said in figures.items()
            ]
            series = [(said, line) for said, line in series if line]
            if series:
                title = f"{law.title}: {y_name}"
                drawings[name] = plots.curves(title, law.x_name, y_name, series, law.logarithmic)
                parts.append(f"![{title}]({FOLDER}/{name})")
        if count > 1:
            parts += ["Every run:", every(law, measured["found"][law.key], names)]
    return "\n\n".join(part for part in parts if part) + "\n", drawings


def line(point, names):
    return [f"{point['x']:,.0f}", *(cell(point.get(name), name) for name in names)]


def cell(value, name):
    if value is None:
        return ""
    return short(value / (1 << 20) if name in MIB else value)


def every(law, runs, names):
    lines = [
        (str(number), *line(figures, names))
        for rounds in runs
        for number, figures in enumerate(rounds, 1)
        if "failed" not in figures
    ]
    return rows(("run", law.x_name, *(NAMES[name] for name in names)), lines)
