"""On what was measured."""

import hashlib
import os
import platform
import subprocess
import time


def first(path, key):
    try:
        with open(path) as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return value.strip()
    except OSError:
        pass
    return "unknown"


def git(*args):
    done = subprocess.run(["git", *args], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def cpu_model():
    # Where the system does not name it, its numbers do.
    name = first("/proc/cpuinfo", "model name")
    family, model = first("/proc/cpuinfo", "cpu family"), first("/proc/cpuinfo", "model")
    return f"{name} (family {family}, model {model})" if family != "unknown" else name


def describe(binary):
    """The machine and what ran on it, as facts with names."""
    memory_kib = first("/proc/meminfo", "MemTotal").split()[0]
    memory = f"{int(memory_kib) / 1024 / 1024:.1f} GiB" if memory_kib.isdigit() else "unknown"
    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    if git("status", "--porcelain", "--untracked-files=no"):
        commit += ", and changes that are not committed"
    with open(binary, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()[:16]
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    name = version.stdout.partition("\n")[0] or "unknown"
    return {
        "CPU": cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": memory,
        # Without what a distribution or a host has put behind the version.
        "kernel": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "commit": commit,
        "binary": f"{name}, SHA-256 {digest}...",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
