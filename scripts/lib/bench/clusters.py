"""Clusters of real processes on ports of their own, and what they cost.

Invariant: a cluster's processes are ended by their pid when its `with` is left, however that happens; they have no
settings but those given here, so variables of whoever calls change nothing.
"""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

READY_S = 60
# Below the ports that systems give to connections, of which a run has tens of thousands.
PORTS = range(21_000, 31_000)
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """What was to be measured could not be."""


class Ports:
    """Free ports, each given once in PORTS, so that no connection of an ended cluster is in the way of the next."""

    def __init__(self):
        self.next = 0

    def take(self):
        for _ in PORTS:
            port = PORTS[self.next % len(PORTS)]
            self.next += 1
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return f"127.0.0.1:{port}"
        raise Failed(f"no free port from {PORTS.start} to {PORTS.stop}")


PORT = Ports()


def environment():
    return {key: value for key, value in os.environ.items() if not key.startswith("RINGCAST_")}


class Process:
    """One process of the binary."""

    def __init__(self, name, args, folder, binary):
        self.name = name
        self.log = os.path.join(folder, f"{name}.log")
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                [binary, *args, "--log", "warn", "-o", "json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
            )
        self.pid = self.child.pid

    def ended(self):
        return self.child.poll() is not None

    def end(self):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()

    def failed(self, what):
        with open(self.log, errors="replace") as log:
            said = log.read()[-2000:].strip()
        return Failed(f"{self.name} {what}: {said or 'it said nothing'}")

    def first_line(self):
        """What it prints first, as `dev` does when it is ready."""
        line = []
        reader = threading.Thread(target=lambda: line.append(self.child.stdout.readline()), daemon=True)
        reader.start()
        reader.join(READY_S)
        if not line:
            raise self.failed(f"was not ready within {READY_S} s")
        if not line[0]:
            raise self.failed("ended")
        return json.loads(line[0])

    def wait_ready(self, admin):
        deadline = time.monotonic() + READY_S
        while True:
            if self.ended():
                raise self.failed("ended")
            try:
                with urllib.request.urlopen(f"http://{admin}/readyz", timeout=2):
                    return
            except OSError:
                if time.monotonic() > deadline:
                    raise self.failed(f"was not ready within {READY_S} s") from None
            time.sleep(0.05)

    def cpu_us(self):
        """Processor time so far."""
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1_000_000 // TICKS_PER_S

    def rss_bytes(self):
        """Memory that it has now."""
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise self.failed("ended")


class Cluster:
    """Processes that are ready: use it with `with`."""

    def __init__(self, binary):
        self.binary = binary
        self.processes = []
        self.urls = []
        self.admin = {}
        self.rpc = {}
        self.folder = None

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="ringcast-bench-")
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # Gateways first: a topic server that is gone is nothing they need to look for.
        for process in reversed(self.processes):
            process.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def spawn(self, name, *args):
        process = Process(name, args, self.folder, self.binary)
        self.processes.append(process)
        return process

    def pids(self):
        """As flags of `ringcast bench`."""
        return [flag for process in self.processes for flag in ("--pid", f"{process.name}={process.pid}")]

    def of(self, role):
        """Its processes whose name begins so."""
        return [process for process in self.processes if process.name.startswith(role)]

    def metrics(self, process):
        """Counters and gauges of one process, summed over their labels."""
        sums = {}
        with urllib.request.urlopen(f"http://{self.admin[process.name]}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line and not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    name = name.partition("{")[0]
                    sums[name] = sums.get(name, 0.0) + float(value)
        return sums


class Dev(Cluster):
    """`ringcast dev`: all of it in one process."""

    short = "dev"
    commands = ["ringcast dev --gateways 1 --topic-servers 1"]

    def start(self):
        listen, store, admin = PORT.take(), PORT.take(), PORT.take()
        dev = self.spawn(
            "dev", "dev", "--gateways", "1", "--topic-servers", "1",
            "--listen", listen, "--store-listen", store, "--admin-listen", admin,
        )  # fmt: skip
        self.admin["dev"] = admin
        self.urls = [gateway["socket"] for gateway in dev.first_line()["gateways"]]


class Apart(Cluster):
    """A coordinator, topic servers and gateways, each a process."""

    short = "apart"
    commands = [
        "ringcast coordinator --data-dir DIR",
        "ringcast topic-server --id ts-N --store URL --expect-topic-servers 2 --limits-profile bench    # N: 1, 2",
        "ringcast gateway --id gw-N --store URL --limits-profile bench                                  # N: 1, 2",
    ]

    def __init__(self, binary, topic_servers=2, gateways=2, slots=None):
        super().__init__(binary)
        self.topic_servers, self.gateways, self.slots = topic_servers, gateways, slots

    def start(self):
        store, admin = PORT.take(), PORT.take()
        self.admin["coordinator"] = admin
        data = os.path.join(self.folder, "store")
        coordinator = self.spawn(
            "coordinator", "coordinator", "--listen", store, "--data-dir", data, "--admin-listen", admin
        )
        coordinator.wait_ready(admin)
        self.store = f"http://{store}"
        common = ["--store", self.store, "--limits-profile", "bench"]
        born = ["--expect-topic-servers", str(self.topic_servers)]
        if self.slots:
            born += ["--slots", str(self.slots)]
        for number in range(1, self.topic_servers + 1):
            self.node(f"ts-{number}", "topic-server", *common, *born)
        for number in range(1, self.gateways + 1):
            listen = PORT.take()
            self.urls.append(f"ws://{listen}")
            self.node(f"gw-{number}", "gateway", *common, "--listen", listen)
        for process in self.processes[1:]:
            process.wait_ready(self.admin[process.name])

    def node(self, name, role, *args):
        admin, rpc = PORT.take(), PORT.take()
        self.admin[name], self.rpc[name] = admin, rpc
        self.spawn(name, role, "--id", name, "--rpc-listen", rpc, "--admin-listen", admin, *args)


def bench(cluster, args, urls=None, timeout_s=600):
    """The report of a run of `ringcast bench`. Whether it was clean stands in it."""
    urls = cluster.urls if urls is None else urls
    command = [cluster.binary, "bench", *args, "--quiet", "-o", "json", *cluster.pids()]
    for url in urls:
        command += ["--url", url]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    try:
        answer, said = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(args)}: not done after {timeout_s} s") from None
    finally:
        # Its own processes end with it.
        if child.poll() is None:
            child.kill()
            child.communicate()
    if not answer:
        raise Failed(f"{' '.join(args)}: {said.decode(errors='replace').strip()}")
    return json.loads(answer)


def command(cluster, *args, timeout_s=120):
    """What `ringcast` says to an operator."""
    words = [cluster.binary, *args, "--store", cluster.store, "-o", "json"]
    ended = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, env=environment(), timeout=timeout_s, check=False
    )
    if ended.returncode != 0:
        raise Failed(f"{' '.join(args)}: {ended.stderr.decode(errors='replace').strip()}")
    return json.loads(ended.stdout)


def die_orderly():
    """A SIGTERM ends every `with`, as Ctrl-C does."""

    def told(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, told)


def raise_file_limit(least):
    """A server has a file for each connection, and inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < least:
        raise Failed(f"a process may have {hard} files open, and {least} are needed: ulimit -n")
    if soft < least:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard))
