"""Batches of files over many processes; one that kills its process is found and refused alone."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from clinimm.config import IngestConfig
from clinimm.core.errors import InputRejected
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.ingest.reading import OnceSource, Reading, read_file, refused
from clinimm.ingest.shard import shard_of
from clinimm.ingest.state import write_shard
from clinimm.modality import Modality
from clinimm.sources.base import Source, SourceFile

_FILES_A_BATCH = 64
_BYTES_A_BATCH = 32 << 20


@dataclass(frozen=True)
class Batch:
    """Files of one source that are read together. ``digests``: what is known of changed ones."""

    source: int
    files: tuple[SourceFile, ...]
    digests: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What became of a batch: its shard's name, and the files whose bytes did not change."""

    batch: Batch
    shard: str | None
    same: tuple[SourceFile, ...] = ()


@dataclass(frozen=True)
class Worker:
    """All that reading a batch needs."""

    sources: Sequence[Source]
    labels: Sequence[str]
    modalities: Mapping[str, Modality]
    rules: IngestConfig
    folder: Path
    pseudonymiser: Pseudonymiser

    def read(self, batch: Batch) -> Result:
        """Read a batch and write its shard."""
        with _no_collection():
            return self._read(batch)

    def _read(self, batch: Batch) -> Result:
        source = OnceSource(self.sources[batch.source], self.rules)
        readings: list[Reading] = []
        same: list[SourceFile] = []
        for file in batch.files:
            if _is_same(source, file, batch.digests.get(file.path)):
                same.append(file)
            else:
                readings.append(read_file(source, file, self.modalities))
        return Result(batch, self._write(batch, readings), tuple(same))

    def refuse(self, batch: Batch) -> Result:
        """Write the shard of a batch whose only file ended the process that read it."""
        scan = refused(
            batch.files[0],
            "reader-crashed",
            "the process that read this file died (crash of a decoder, or out of memory)",
            "report it with the file; the other files were read",
        )
        return Result(batch, self._write(batch, [Reading(batch.files[0], "", scan)]))

    def _write(self, batch: Batch, readings: list[Reading]) -> str | None:
        if not readings:
            return None
        return write_shard(self.folder, shard_of(self.labels[batch.source], readings), self.pseudonymiser)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Hold the cycle collector back: parsed JSON has no cycles, and looking for some doubles the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _is_same(source: OnceSource, file: SourceFile, digest: str | None) -> bool:
    """Whether a file's bytes are those of an earlier reading; what cannot be read is read anew."""
    if digest is None:
        return False
    try:
        return source.head_and_digest(file)[1] == digest
    except (OSError, InputRejected):
        return False


def batches(source: int, files: Sequence[SourceFile], digests: Mapping[str, str | None]) -> Iterator[Batch]:
    """Cut a list of files into batches of up to 64 files or 32 MiB."""
    chosen: list[SourceFile] = []
    size = 0
    for file in files:
        if chosen and (len(chosen) >= _FILES_A_BATCH or size + file.size > _BYTES_A_BATCH):
            yield _batch(source, chosen, digests)
            chosen, size = [], 0
        chosen.append(file)
        size += file.size
    if chosen:
        yield _batch(source, chosen, digests)


def read_all(jobs: Sequence[Batch], worker: Worker, processes: int) -> Iterator[Result]:
    """Read every batch; in this process where ``processes`` is 1, and then without protection."""
    if processes == 1:
        yield from map(worker.read, jobs)
        return
    waiting = deque(jobs)
    while waiting:
        suspects = yield from _pooled(waiting, worker, processes)
        for batch in suspects:
            yield from _singly(batch, worker)


def process_count(rules: IngestConfig) -> int:
    """``ingest.workers``, or one a core that this process may use."""
    if rules.workers:
        return rules.workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pooled(waiting: deque[Batch], worker: Worker, processes: int):  # type: ignore[no-untyped-def]  # a generator that returns
    """Yield results until all are there; returns the batches in the air when a process died."""
    flying: dict[Future[Result], Batch] = {}
    with _executor(worker, processes) as pool:
        try:
            while waiting or flying:
                while waiting and len(flying) < processes + 1:
                    batch = waiting.popleft()
                    flying[pool.submit(_work, batch)] = batch
                done, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    del flying[future]
                    yield result
        except BrokenProcessPool:
            return list(flying.values())
    return []


def _singly(batch: Batch, worker: Worker) -> Iterator[Result]:
    """Read a suspect batch file by file; the file that kills its process is refused."""
    rest = deque(_batch(batch.source, [file], batch.digests) for file in batch.files)
    while rest:
        with _executor(worker, 1) as pool:
            try:
                while rest:
                    result = pool.submit(_work, rest[0]).result()
                    rest.popleft()
                    yield result
            except BrokenProcessPool:
                yield worker.refuse(rest.popleft())


def _batch(source: int, files: Sequence[SourceFile], digests: Mapping[str, str | None]) -> Batch:
    return Batch(
        source, tuple(files), {file.path: digests[file.path] for file in files if file.path in digests}
    )


def _executor(worker: Worker, processes: int) -> ProcessPoolExecutor:
    # A forked worker needs no importable __main__, so ingest also works from a notebook or a plain
    # script; elsewhere than on Linux forking is not safe and the platform's own way is used.
    method = "fork" if sys.platform == "linux" else None
    context = multiprocessing.get_context(method)
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_start, initargs=(worker,))


_worker: Worker | None = None


def _start(worker: Worker) -> None:
    global _worker  # noqa: PLW0603  # a process pool hands its workers state in no other way
    _worker = worker


def _work(batch: Batch) -> Result:
    if _worker is None:
        raise RuntimeError("the worker process was not started by _executor")
    return _worker.read(batch)
