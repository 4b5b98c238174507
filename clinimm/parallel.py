"""Independent jobs over processes, in the order in which they were given.

A child that loses its parent (kill -9) ends by itself within a second, so that a killed run leaves
nothing behind that still writes.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(work: Callable[[JobT], ResultT], jobs: Sequence[JobT], processes: int) -> Iterator[ResultT]:
    """Yield ``work(job)`` for each job; in this process where one process is enough.

    Args:
        work: a picklable function (a module's function, or a partial of one).
        jobs: picklable values.
        processes: how many children; each is started anew (``spawn``), so it inherits no lock.
    """
    processes = min(processes, len(jobs))
    if processes <= 1:
        yield from map(work, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _start, (os.getpid(),)) as pool:
        try:
            yield from pool.map(work, jobs)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start(parent: int) -> None:
    """A core a child: libraries that would count all cores for themselves are told so before they load."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _end_with_parent(parent)


def _end_with_parent(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
