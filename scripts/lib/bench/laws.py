"""How costs grow: with gateways, with subscribers, with what is held in memory, with topic servers.

Invariant: each point has a cluster of its own. Where counts are compared, publishes are so far apart that none shares a
batch with another; where processor time is, they come at a rate that fills batches.
"""

import json
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import bars
import traffic
from bars import say
from clusters import Apart, Failed, bench, command

# So many a second are far longer apart than a publish takes.
RATE = 20
# Long enough for some keep-alives of every connection, one of which is sent a second.
QUIET_S = 5
# Two keep-alives or answers to them (RFC 9113, section 6.7): so far the number of them may be off in any time.
JITTER_BYTES = 2 * 17
LOOKS_MAX = 10
BUSY = {"topics": 200, "subscribers": 5, "publishers": 4, "rate": 2000, "warmup": "2s", "duration": "10s"}
FLAT = 1.01
FLAT_CPU = 1.10


def words(command, flags):
    return [command, *(word for flag, value in flags.items() for word in (f"--{flag}", str(value)))]


class Law:
    """What is varied, and what is measured for each value of it."""

    def __init__(self, key, title, x_name, xs, quick, point, plots, promise=None, logarithmic=False, varied=None, turns=1):
        self.key, self.title, self.x_name, self.point = key, title, x_name, point
        # How often each x has its turn in a round: more where a machine's changing speed is in the figure.
        self.turns = turns
        # What `xs` are, where x is what came of them.
        self.varied = varied or x_name
        self.xs, self.quick = xs, quick
        # (name of the file, title, name of y, {figure: name}, what one y is of the figure)
        self.plots, self.promise, self.logarithmic = plots, promise, logarithmic


def counted(binary, gateways, with_members, subscribers, brief):
    """Counts and bytes of a publish on one topic, whose members are on the first gateways. It is looked at while publishes
    go on, so that what members take to join and to leave is not among them; nor is what goes between nodes by itself."""
    seconds = 3 if brief else 10
    flags = {"subscribers": subscribers, "rate": RATE, "warmup": "1s", "duration": f"{seconds}s"}
    with Apart(binary, 2, gateways) as cluster, ThreadPoolExecutor(1) as thread:
        by_itself = received_by_itself(cluster)
        running = thread.submit(bench, cluster, words("fanout", flags), cluster.urls[:with_members])
        before = look(cluster, 3, running)
        after = look(cluster, 3 + RATE * seconds * 3 // 4, running)
        checked(running.result())
    publishes = after["publishes"] - before["publishes"]
    of = {"calls": "deliver_calls", "entries": "deliver_entries", "publications": "deliver_publications"}
    figures = {name: (after[counter] - before[counter]) / publishes for name, counter in of.items()}
    return {**figures, "bytes": received_for_publishes(before, after, by_itself) / publishes}


def received_by_itself(cluster):
    """What each end of the nodes' connections receives a second while nothing is published: connections say that they live."""
    ports, began = rpc_ports(cluster), time.monotonic()
    before = traffic.received(ports)
    time.sleep(QUIET_S)
    after, seconds = traffic.received(ports), time.monotonic() - began
    return {end: (count - before.get(end, 0)) / seconds for end, count in after.items()}


def received_for_publishes(before, after, by_itself):
    """What was received between two looks, less what is received in any case. A connection that is hardly off
    that counts for nothing."""
    seconds, total = after["at"] - before["at"], 0
    for end, count in after["received"].items():
        more = count - before["received"].get(end, 0) - by_itself.get(end, 0) * seconds
        total += more if abs(more) > JITTER_BYTES else 0
    return total


def rpc_ports(cluster):
    return {int(address.rpartition(":")[2]) for address in cluster.rpc.values()}


def look(cluster, publishes, running):
    """What was counted after so many publishes, and at a moment between two of them if the machine is fast enough for that."""
    ports = rpc_ports(cluster)
    tries = 0
    while not running.done():
        before, received, after = sums(cluster), traffic.received(ports), sums(cluster)
        if after["publishes"] >= publishes:
            tries += 1
            if before == after or tries == LOOKS_MAX:
                return {**after, "received": received, "at": time.monotonic()}
        time.sleep(0.01)
    checked(running.result())
    raise Failed(f"{publishes} publishes were not seen")


def sums(cluster):
    """Counters of all topic servers together. One that has not counted yet is 0."""
    total = dict.fromkeys(("publishes", "deliver_calls", "deliver_entries", "deliver_publications"), 0.0)
    for process in cluster.of("ts-"):
        metrics = cluster.metrics(process)
        for name in total:
            total[name] += metrics.get(f"ringcast_{name}_total", 0.0)
    return total


def checked(report):
    if not report["clean"]:
        raise Failed("; ".join(report["problems"]))
    return report


def cpu_us(report, prefix):
    servers = [server for server in report["servers"] if server["name"].startswith(prefix)]
    return sum(server["cpu_us"] for server in servers)


def gained(report, prefix):
    servers = [server for server in report["servers"] if server["name"].startswith(prefix)]
    return sum(server["rss_after_bytes"] - server["rss_before_bytes"] for server in servers)


def without_members(binary, gateways, brief):
    return counted(binary, gateways, 1, 100, brief)


def owners_cpu(binary, gateways, brief):
    flags = {**BUSY, **({"duration": "3s"} if brief else {})}
    with Apart(binary, 2, gateways) as cluster:
        report = checked(bench(cluster, words("topics", flags), cluster.urls[:1]))
    return {"owner_cpu_us": cpu_us(report, "ts-") / report["publishes"]}


def with_members(binary, gateways, brief):
    return counted(binary, gateways, gateways, 20 * gateways, brief)


def subscribers(binary, count, brief):
    return counted(binary, 2, 1, count, brief)


def memory_of_connections(binary, connections, brief):
    return idle(binary, connections, 5, brief)


def memory_of_topics(binary, topics, brief):
    """As many connections, and ever more topics they are joined to."""
    connections = 2000 if brief else 10_000
    return idle(binary, connections, connections // topics, brief)


def idle(binary, connections, members, brief):
    with Apart(binary, 1, 1) as cluster:
        flags = {"connections": connections, "members": members, "hold": "1s" if brief else "5s"}
        report = checked(bench(cluster, words("idle", flags)))
    return {"gateway_bytes": gained(report, "gw-"), "topic_server_bytes": gained(report, "ts-")}


def memory_of_history(binary, seconds, brief):
    """Publications of 128 bytes on 1,000 topics, which keep 300 each; the longer it is published, the more there are."""
    topics, kept_max = 1000, 300
    with Apart(binary, 1, 1) as cluster:
        owner = cluster.of("ts-")[0]
        flags = {"topics": topics, "subscribers": 1, "publishers": 16, "warmup": "0s", "duration": f"{seconds}s"}
        before = owner.rss_bytes()
        checked(bench(cluster, words("topics", flags)))
        metrics = cluster.metrics(owner)
        after = owner.rss_bytes()
    published = metrics["ringcast_publishes_total"]
    return {
        "x": min(published, topics * kept_max),
        "topic_server_bytes": after - before,
        "history_bytes": metrics["ringcast_history_bytes"],
    }


def move_of_topics(binary, topics, brief):
    """Every topic with two publications of 128 bytes, all in one slot that goes to the other topic server."""
    seconds = 2 if brief else 4
    flags = {"topics": topics, "subscribers": 1, "publishers": max(16, topics // 100), "rate": topics * 2 // seconds}
    return moved(binary, {**flags, "warmup": "0s", "duration": f"{seconds}s"})


def move_of_history(binary, seconds, brief):
    """1,000 topics, and ever more publications of 128 bytes kept: far fewer a second than one slot takes."""
    flags = {"topics": 1000, "subscribers": 1, "publishers": 16, "rate": 8000, "warmup": "0s", "duration": f"{seconds}s"}
    found = moved(binary, flags)
    return {**found, "x": min(found.pop("publications"), 1000 * 300)}


def moved(binary, flags):
    with Apart(binary, 2, 1, slots=1) as cluster:
        checked(bench(cluster, words("topics", flags)))
        owner = command(cluster, "ring", "owner", "any")["owner"]
        other = "ts-2" if owner == "ts-1" else "ts-1"
        holds = cluster.metrics(next(process for process in cluster.of("ts-") if process.name == owner))
        plan = command(cluster, "ring", "plan", "--pin", f"any={other}")["plan"]
        done = command(cluster, "ring", "commit", plan)
    if done["moves"] != 1 or holds["ringcast_topics"] < flags["topics"]:
        raise Failed(f"{holds['ringcast_topics']} topics were to move, and it was done by {done}")
    return {
        "seconds": done["seconds"],
        "pause_ms": done["longest_pause_ms"],
        "history_bytes": holds["ringcast_history_bytes"],
        "publications": holds["ringcast_publishes_total"],
    }


def lookup(_, nodes, brief):
    """A unit bench: no cluster."""
    words = ["cargo", "bench", "--quiet", "-p", "ringcast-ring", "--bench", "lookup", "--", str(nodes)]
    ended = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ended.returncode != 0:
        raise Failed(f"{' '.join(words)}: {ended.stderr.decode(errors='replace').strip()}")
    found = json.loads(ended.stdout)
    return {name: found[name] for name in ("owner_ns", "walk_ns", "build_ms")}


def throughput(binary, topic_servers, brief):
    flags = {"topics": 2000, "subscribers": 5, "publishers": 32, "warmup": "2s", "duration": "2s" if brief else "10s"}
    with Apart(binary, topic_servers, 2) as cluster:
        report = checked(bench(cluster, words("topics", flags)))
    owners_s = cpu_us(report, "ts-") / 1e6
    servers_s = (cpu_us(report, "ts-") + cpu_us(report, "gw-") + cpu_us(report, "coordinator")) / 1e6
    return {
        "publishes_per_s": report["publishes_per_s"],
        "publishes_per_owner_cpu_s": report["publishes"] / owners_s if owners_s else None,
        "publishes_per_cpu_s": report["publishes"] / servers_s if servers_s else None,
    }


def flat(figure, name, most):
    """A promise: over all x, the greatest is at most so many times the least."""

    def judge(points):
        values = [point[figure] for point in points]
        least, greatest = min(values), max(values)
        met = least > 0 and greatest <= most * least
        return f"{name}: {bars.short(least)} to {bars.short(greatest)}, to be within {(most - 1) * 100:.0f} %", met

    return judge


def one_each(figure, name):
    """A promise: as many as x."""

    def judge(points):
        worst = max(abs(point[figure] / point["x"] - 1) for point in points)
        off = f"at worst {worst * 100:.1f} % off, to be within 1 %"
        return f"{name}: one for each gateway with members, {off}", worst <= 0.01

    return judge


def at_most_one(figure, name):
    """A promise: one, or less where a busy machine made two publishes share one."""

    def judge(points):
        most = max(point[figure] for point in points)
        return f"{name}: {bars.short(most)} at most, to be one within 1 %", most <= 1.01

    return judge


COUNTS = {"calls": "Deliver calls", "entries": "entries"}
BYTES = {"bytes": "bytes between nodes"}
GATEWAYS = (2, 4, 8, 16)
MEMORY = {"gateway_bytes": "gateway", "topic_server_bytes": "topic server"}
LAWS = (
    Law(
        "without-members", "Gateways without members", "gateways, of which one has members", GATEWAYS, (2, 4), without_members,
        [
            ("calls", "a publish", COUNTS, 1),
            ("bytes", "bytes a publish", BYTES, 1),
        ],
        [
            flat("calls", "Deliver calls a publish", FLAT),
            flat("entries", "entries a publish", FLAT),
            flat("bytes", "bytes a publish", FLAT),
        ],
        logarithmic=True,
    ),
    Law(
        "owners-cpu", "Processor time of owners, by gateways without members", "gateways, of which one has members", GATEWAYS,
        (2, 4), owners_cpu,
        [("cpu", "us a publish, at 2,000/s", {"owner_cpu_us": "CPU of the topic servers"}, 1)],
        [flat("owner_cpu_us", "CPU of the topic servers, us a publish", FLAT_CPU)],
        logarithmic=True, turns=3,
    ),
    Law(
        "with-members", "Gateways with members", "gateways, each with 20 members", (1, *GATEWAYS), (1, 3), with_members,
        [("calls", "a publish", COUNTS, 1), ("bytes", "bytes a publish", BYTES, 1)],
        [one_each("calls", "Deliver calls a publish"), one_each("entries", "entries a publish")],
    ),
    Law(
        "subscribers", "Subscribers of one gateway", "subscribers", (1, 10, 100, 1000, 2000), (1, 100), subscribers,
        [("calls", "a publish", COUNTS, 1), ("bytes", "bytes a publish", BYTES, 1)],
        [at_most_one("calls", "Deliver calls a publish"), at_most_one("entries", "entries a publish")],
        logarithmic=True,
    ),
    Law(
        "connections", "Memory of connections", "connections, 5 on a topic", (2500, 5000, 10_000, 15_000), (500, 2000),
        memory_of_connections, [("memory", "MiB gained", MEMORY, 1 << 20)],
    ),
    Law(
        "topics", "Memory of topics", "topics, of 10,000 connections", (100, 1000, 2000, 5000, 10_000), (20, 2000),
        memory_of_topics, [("memory", "MiB gained", MEMORY, 1 << 20)],
    ),
    Law(
        "history", "Memory of history", "publications kept, of 128 bytes", (2, 5, 10, 20), (1, 3), memory_of_history,
        [
            (
                "memory", "MiB",
                {"topic_server_bytes": "gained by the topic server", "history_bytes": "of its budget"}, 1 << 20,
            )
        ],
        varied="seconds of publishing",
    ),
    Law(
        "topic-servers", "Throughput", "topic servers", (1, 2, 3, 4, 5, 6), (1, 2), throughput,
        [
            (
                "throughput", "publishes",
                {
                    "publishes_per_s": "a second",
                    "publishes_per_cpu_s": "a second of CPU of all servers",
                    "publishes_per_owner_cpu_s": "a second of CPU of the topic servers",
                },
                1,
            )
        ],
    ),
    Law(
        "moves-topics", "Moving a slot, by topics", "topics in the slot", (100, 1000, 5000, 10_000), (20, 100), move_of_topics,
        [
            ("time", "seconds until done", {"seconds": "the plan"}, 1),
            ("pause", "ms", {"pause_ms": "pause of the slot"}, 1),
        ],
    ),
    Law(
        "moves-history", "Moving a slot, by history", "publications kept in the slot, on 1,000 topics", (2, 5, 10, 20), (1, 2),
        move_of_history,
        [
            ("time", "seconds until done", {"seconds": "the plan"}, 1),
            ("pause", "ms", {"pause_ms": "pause of the slot"}, 1),
        ],
        varied="seconds of publishing",
    ),
    Law(
        "lookup", "Look-ups (`cargo bench -p ringcast-ring --bench lookup`)", "topic servers", (1, 10, 100, 1000, 10_000), (1, 10),
        lookup,
        [("time", "ns", {"owner_ns": "a topic's owner", "walk_ns": "a slot's first node on the ring"}, 1)],
        logarithmic=True,
    ),
)  # fmt: skip


def measure(binary, rounds, quick):
    """The rounds of every point of every law, in turn."""
    found = {law.key: [] for law in LAWS}
    for number in range(rounds):
        for law in LAWS:
            xs = law.quick if quick else law.xs
            found[law.key] = found[law.key] or [[] for _ in xs]
            for _ in range(1 if quick else law.turns):
                for x, runs in zip(xs, found[law.key], strict=True):
                    say(f"round {number + 1}, {law.title}: {x} {law.varied}")
                    try:
                        figures = law.point(binary, x, quick)
                    except Failed as error:
                        figures = {"failed": str(error)}
                    say(f"    {brief(figures)}")
                    runs.append({"x": x, **figures})
    return found


def brief(figures):
    return ", ".join(f"{name} {value if name == 'failed' else bars.short(value)}" for name, value in figures.items())


def points(runs):
    """The median of every figure, for each x; a point of which a round failed is none."""
    good = [rounds for rounds in runs if not any("failed" in figures for figures in rounds)]
    return [
        {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0] if known(rounds, name)}
        for rounds in good
    ]


def known(rounds, name):
    return all(figures.get(name) is not None for figures in rounds)


def judge(found):
    """(law, what, met) of every promise, and of every point that could not be measured."""
    verdicts = []
    for law in LAWS:
        runs = found.get(law.key, [])  # none: measured before there was such a law
        at = points(runs)
        for rounds in runs:
            for figures in rounds:
                if "failed" in figures:
                    verdicts.append((law, f"{figures['x']} {law.varied}: {figures['failed']}", False))
        if law.promise and at:
            verdicts += [(law, *promise(at)) for promise in law.promise]
    return verdicts


def table(found):
    """For people, on a terminal."""
    lines = [("LAW", "OF", "FIGURES")]
    for law in LAWS:
        for point in points(found.get(law.key, [])):
            figures = ", ".join(f"{name} {bars.short(value)}" for name, value in point.items() if name != "x")
            lines.append((law.title, f"{point['x']:,.0f}", figures))
    promises = [("", "PROMISE", "")] + [(bars.verdict(met), what, law.title) for law, what, met in judge(found)]
    return bars.aligned(lines, (1,)) + "\n\n" + bars.aligned(promises, ())


def missed(found):
    """Promises that were."""
    return [line for line in judge(found) if not line[-1]]


def unclean(found):
    """Runs that failed, a line each."""
    return [
        f"{law.title}, {figures['x']} {law.x_name}: {figures['failed']}"
        for law in LAWS
        for rounds in found.get(law.key, [])
        for figures in rounds
        if "failed" in figures
    ]
