"""What a stage cost is measured, children included."""

from __future__ import annotations

import subprocess
import sys
import time

from clinimm.cost import measured


def test_wall_time_includes_waiting_and_processor_time_does_not() -> None:
    with measured() as cost:
        time.sleep(0.3)
    assert 0.3 <= cost["wall_seconds"] < 3
    assert cost["cpu_seconds"] < cost["wall_seconds"]


def test_memory_of_a_child_counts() -> None:
    code = "import time; block = bytearray(200_000_000); time.sleep(1.5)"
    with measured() as idle:
        pass
    with measured() as busy:
        subprocess.run([sys.executable, "-c", code], check=True)
    assert busy["peak_rss_mib"] > idle["peak_rss_mib"] + 150


def test_processor_time_of_a_child_counts() -> None:
    code = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    with measured() as cost:
        subprocess.run([sys.executable, "-c", code], check=True)
    assert cost["cpu_seconds"] >= 0.5
