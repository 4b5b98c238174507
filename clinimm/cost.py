"""What a stage cost: wall seconds, processor seconds and peak memory."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SAMPLE_SECONDS = 0.5
_MIB = float(1 << 20)


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Fill the yielded mapping when the block ends.

    Keys: ``wall_seconds``, ``cpu_seconds`` (this process and its finished children) and
    ``peak_rss_mib`` (this process and its living children together, sampled twice a second;
    pages that processes share count once for each).
    """
    cost: dict[str, float] = {}
    wall, cpu = time.perf_counter(), _cpu_seconds()
    with _PeakMemory() as memory:
        yield cost
    cost["wall_seconds"] = round(time.perf_counter() - wall, 3)
    cost["cpu_seconds"] = round(_cpu_seconds() - cpu, 3)
    cost["peak_rss_mib"] = round(memory.peak_bytes / _MIB, 1)


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class _PeakMemory:
    """Samples resident memory in a thread until it is left."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="clinimm-memory", daemon=True)

    def __enter__(self) -> _PeakMemory:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        import psutil

        own = psutil.Process()
        total = own.memory_info().rss
        for child in own.children(recursive=True):
            try:
                total += child.memory_info().rss
            except psutil.Error:
                continue  # the child ended between the listing and the reading
        self.peak_bytes = max(self.peak_bytes, total)
