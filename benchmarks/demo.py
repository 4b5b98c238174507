"""What ``make demo`` costs after installation: wall seconds, and peak memory over all its processes together.

    .venv/bin/python benchmarks/demo.py [COMMAND ...]

Runs the demonstration anew in a folder of its own (simulate, then the whole pipeline), or the command that is
given. ``/usr/bin/time -v make demo`` gives the wall time too, but its memory is the largest single process.
Memory is sampled ten times a second: the sum of resident memory (RSS, in which pages that processes share
count once for each) and of proportional memory (PSS, in which they count once) where the system tells it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
CLINIMM = (sys.executable, "-m", "clinimm")
SCENARIO = ("--scenario", "synergy")
_SECONDS = 0.1
_MIB = float(1 << 20)


@dataclass
class Cost:
    """What a command took."""

    wall_seconds: float = 0.0
    rss_mib: float = 0.0
    pss_mib: float = 0.0
    processes: int = 0
    status: int = 0

    def __str__(self) -> str:
        return (
            f"{self.wall_seconds:.1f} s, peak {self.rss_mib:.0f} MiB resident ({self.pss_mib:.0f} MiB "
            f"proportional) over {self.processes} processes, exit status {self.status}"
        )


def measure(command: Sequence[str]) -> Cost:
    """Run a command and watch it and all that it starts."""
    cost = Cost()
    start = time.perf_counter()
    with subprocess.Popen(command) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            _sample(root, cost)
            time.sleep(_SECONDS)
    cost.wall_seconds = time.perf_counter() - start
    cost.status = process.returncode
    return cost


def _sample(root: psutil.Process, cost: Cost) -> None:
    try:
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return  # it ended between the question and the answer
    sizes = [_memory(one) for one in family]
    cost.processes = max(cost.processes, len(family))
    cost.rss_mib = max(cost.rss_mib, sum(rss for rss, _ in sizes) / _MIB)
    cost.pss_mib = max(cost.pss_mib, sum(pss for _, pss in sizes) / _MIB)


def _memory(process: psutil.Process) -> tuple[int, int]:
    try:
        found = process.memory_full_info()
    except psutil.Error:
        return 0, 0
    return found.rss, getattr(found, "pss", 0)


def main() -> int:
    given = sys.argv[1:]
    if given:
        cost = measure(given)
        print(cost)
        return cost.status
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        folder = Path(name)
        hospital = str(folder / "hospital")
        simulated = measure([*CLINIMM, "simulate", hospital, "--subjects", "400", "--seed", "7", *SCENARIO])
        print(f"simulate: {simulated}", flush=True)
        settings = (f"runs_dir={folder}", f"sources=[{{kind: local, root: '{hospital}'}}]")
        options = [part for setting in settings for part in ("--set", setting)]
        run = measure([*CLINIMM, "run", str(ROOT / "pipelines" / "demo.yaml"), *options])
        print(f"run: {run}")
        print(f"together: {simulated.wall_seconds + run.wall_seconds:.1f} s")
    return simulated.status or run.status


if __name__ == "__main__":
    raise SystemExit(main())
