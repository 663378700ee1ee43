"""How clusters are loaded, and what is kept of each report.

Invariant: every run has a cluster of its own, to which nothing was done before, so that no run is cheaper or dearer for
what another one left behind.
"""

from clusters import Apart, Dev, Failed, bench

TOPOLOGIES = (Dev, Apart)
ROLES = (("gateway", "gw-"), ("topic_server", "ts-"), ("dev", "dev"))


class Scenario:
    """One run of `ringcast bench`. `flags` may depend on what the same cluster did in the same round."""

    def __init__(self, key, title, command, flags, brief):
        self.key, self.title, self.command, self.flags, self.brief = key, title, command, flags, brief

    def args(self, before, quick):
        flags = self.flags(before) if callable(self.flags) else self.flags
        flags = {**flags, **(self.brief if quick else {})}
        words = [self.command]
        for flag, value in flags.items():
            words.append(f"--{flag}")
            words += [] if value is None else [str(value)]
        return words


def half(before):
    """Of the publishes a second that it took as fast as it could."""
    if "publishes_per_s" not in before["a_max"]:
        raise Failed("its maximum is not known")
    rate = max(before["a_max"]["publishes_per_s"] / 2, 1.0)
    return {**FANOUT, "rate": f"{rate:.1f}", "floor": 16}


LOAD = {"warmup": "2s", "duration": "10s"}
BRIEF = {"warmup": "500ms", "duration": "2s"}
FANOUT = {"subscribers": 1000, **LOAD}
TOPICS = {"topics": 2000, "subscribers": 5, "publishers": 32, **LOAD}
SCENARIOS = (
    Scenario("a_max", "A, as fast as it goes", "fanout", {**FANOUT, "window": 8192, "floor": 8}, BRIEF),
    Scenario("a_20", "A, 20 a second", "fanout", {**FANOUT, "rate": 20, "floor": 1}, BRIEF),
    Scenario("a_half", "A, half of its own maximum", "fanout", half, BRIEF),
    Scenario("b_max", "B, as fast as it goes", "topics", {**TOPICS, "window": 8192, "floor": 1}, BRIEF),
    Scenario("b_2000", "B, 2,000 a second", "topics", {**TOPICS, "rate": 2000, "floor": 1}, BRIEF),
    Scenario(
        "c",
        "C, connections that are quiet",
        "idle",
        {"connections": 15_000, "members": 5, "hold": "5s", "floor": None},
        {"connections": 2000, "hold": "1s"},
    ),
    Scenario(
        "d",
        "D, all at once",
        "storm",
        {"clients": 5000, "members": 5, "hold": "1s", "floor": None},
        {"clients": 1000, "hold": "200ms"},
    ),
    Scenario(
        "resume",
        "5,000 that missed 100 messages each, all back at once",
        "resume",
        {"clients": 5000, "topics": 1000, "missed": 100},
        {"clients": 1000, "topics": 200, "missed": 20},
    ),
)


def run(scenario, topology, binary, before, quick):
    """The figures of one run, and its command; of one that failed, why. The others go on."""
    args = []
    try:
        args = scenario.args(before, quick)
        with topology(binary) as cluster:
            report = bench(cluster, args)
    except Failed as error:
        return {"clean": False, "problems": [str(error)], "command": " ".join(args)}
    figures = OF.get(scenario.command, of_load)(report)
    figures |= {"clean": report["clean"], "problems": report["problems"], "command": " ".join(args)}
    return figures


def of_load(report):
    floor = report["floor"]
    figures = {
        "cpu_us": report["server_cpu_us_per_delivery"],
        "floor_cpu_us": floor["cpu_us_per_delivery"],
        "ratio": floor["ratio"],
        "publishes_per_s": report["publishes_per_s"],
        "deliveries_per_s": report["deliveries_per_s"],
        "floor_deliveries_per_s": floor["deliveries_per_s"],
        "client_busy": report["client_busy"],
    }
    for quantile in ("p50", "p99"):
        above, below = report["latency_us"][quantile], floor["latency_us"][quantile]
        figures |= {
            f"{quantile}_us": above,
            f"floor_{quantile}_us": below,
            f"{quantile}_above_floor_us": above - below,
        }
    return figures


def of_idle(report):
    count = report["connections"]
    figures = {
        "bytes": report["server_bytes_per_connection"],
        "floor_bytes": report["floor"]["bytes_per_connection"],
        "join_cpu_us": report["server_cpu_us_per_join"],
        "floor_join_cpu_us": report["floor"]["cpu_us_per_join"],
        "idle_cpu_us_per_s": report["server_idle_cpu_us_per_s"],
        "join_seconds": report["join_seconds"],
    }
    for role, prefix in ROLES:
        servers = [server for server in report["servers"] if server["name"].startswith(prefix)]
        gained = sum(server["rss_after_bytes"] - server["rss_before_bytes"] for server in servers)
        figures[f"bytes_{role}"] = gained / count if servers else None
    return figures


def of_storm(report):
    return {
        "seconds": max(round["seconds"] for round in report["rounds"]),
        "floor_seconds": max(report["floor"]["seconds"]),
        "p99_join_us": report["join_us"]["p99"],
        "floor_p99_join_us": report["floor"]["join_us"]["p99"],
        "join_cpu_us": report["server_cpu_us_per_join"],
        "floor_join_cpu_us": report["floor"]["cpu_us_per_join"],
        "failed_tries": report["failures"],
    }


def of_resume(report):
    return {
        "seconds": report["seconds"],
        "p99_back_us": report["back_us"]["p99"],
        "resume_cpu_us": report["server_cpu_us_per_client"],
        "recovered": report["recovered"],
        "not_recovered": report["not_recovered"],
        "failed_tries": report["failures"],
    }


OF = {"idle": of_idle, "storm": of_storm, "resume": of_resume}
