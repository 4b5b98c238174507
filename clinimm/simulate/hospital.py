"""``clinimm simulate``: write a whole hospital, patient by patient, and its ``truth.json``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from clinimm.core.errors import ConfigError
from clinimm.progress import QUIET, Progress
from clinimm.simulate.bundle import ndjson_lines
from clinimm.simulate.demographics import organizations
from clinimm.simulate.patient import make_patient
from clinimm.simulate.scenario import SCENARIOS, Scenario
from clinimm.simulate.truth import hospital_truth, patient_truth

TRUTH_NAME = "truth.json"
_OWN = ("dicom", "fhir", "notes", "slides", "truth", TRUTH_NAME)
_MOST_SUBJECTS = 100_000
_PARALLEL_FROM = 48
_CHUNK = 8


def simulate(
    out: Path,
    subjects: int,
    seed: int,
    scenario: str = "synergy",
    progress: Progress = QUIET,
    workers: int = 0,
) -> None:
    """Write a simulated hospital's export and what was planted in it.

    The same arguments give the same bytes, however many processes are at work, and patient ``i``
    is the same in hospitals of any size. The files appear in ``out`` only when all are written.

    Args:
        out: folder to write; a hospital that was simulated there before is replaced.
        subjects: patients, 1 to 100,000.
        seed: 0 or more.
        scenario: a name in ``SCENARIOS``.
        progress: where to say how far it is.
        workers: processes; 0 is one a core.

    Raises:
        ConfigError: an argument is out of range, or ``out`` holds other people's files.
    """
    knobs = find_scenario(scenario)
    _check(out, subjects, seed)
    partial_folder = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    progress.say(f"simulating {subjects} patients, scenario {knobs.name}, seed {seed}")
    write_hospital(partial_folder, knobs, subjects, seed, progress, workers)
    _move_in(partial_folder, out)
    progress.say(f"wrote {out}")


def find_scenario(name: str) -> Scenario:
    """The scenario of that name.

    Raises:
        ConfigError: there is none; names those that there are.
    """
    if name not in SCENARIOS:
        raise ConfigError(f"unknown scenario {name!r}; known are {', '.join(SCENARIOS)}.")
    return SCENARIOS[name]


def write_hospital(
    folder: Path, scenario: Scenario, subjects: int, seed: int, progress: Progress = QUIET, workers: int = 1
) -> None:
    """Write a hospital of any scenario, also one that is not in the table, into ``folder``."""
    truths: dict[str, dict[str, Any]] = {}
    with _Exports(folder / "fhir") as exports:
        exports.append(ndjson_lines(organizations()))
        written = _written_patients(folder, scenario, subjects, seed, workers)
        for patient in progress.track(written, "patients", subjects):
            exports.append(patient.ndjson)
            truths[patient.patient_id] = patient.truth
    truth = hospital_truth(scenario, seed, truths)
    text = json.dumps(truth, indent=1, ensure_ascii=False)
    (folder / TRUTH_NAME).write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class _Written:
    """What is left to do once a patient's own files are on disk."""

    patient_id: str
    ndjson: dict[str, bytes]
    truth: dict[str, Any]


def _write_patient(folder: Path, scenario: Scenario, seed: int, number: int) -> _Written:
    patient = make_patient(scenario, seed, number)
    for name, content in patient.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return _Written(patient.subject.person.patient_id, patient.ndjson, patient_truth(patient))


def _written_patients(
    folder: Path, scenario: Scenario, subjects: int, seed: int, workers: int
) -> Iterator[_Written]:
    """Write all patients, and yield them in order of their number."""
    write = partial(_write_patient, folder, scenario, seed)
    processes = workers or os.cpu_count() or 1
    if processes == 1 or subjects < _PARALLEL_FROM:
        yield from map(write, range(subjects))
        return
    # A fresh process, since a fork of one that runs torch's threads can hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(write, range(subjects), chunksize=_CHUNK)


class _Exports:
    """The open files of the bulk export, one a resource type."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._streams: dict[str, Any] = {}

    def __enter__(self) -> _Exports:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams.values():
            stream.close()

    def append(self, lines: dict[str, bytes]) -> None:
        for kind, content in lines.items():
            if kind not in self._streams:
                self._streams[kind] = (self._folder / f"{kind}.ndjson").open("wb")
            self._streams[kind].write(content)


def _check(out: Path, subjects: int, seed: int) -> None:
    if not 1 <= subjects <= _MOST_SUBJECTS:
        raise ConfigError(f"{subjects} subjects: expected 1 to {_MOST_SUBJECTS}.")
    if seed < 0:
        raise ConfigError(f"seed {seed}: expected 0 or more.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; name a folder to write the hospital into.")
    if out.is_dir() and any(out.iterdir()) and not (out / TRUTH_NAME).is_file():
        raise ConfigError(f"{out} is not empty and holds no simulated hospital; name a new or empty folder.")


def _move_in(made: Path, out: Path) -> None:
    """Replace an earlier hospital; files that are not the simulator's stay."""
    out.mkdir(parents=True, exist_ok=True)
    (out / TRUTH_NAME).unlink(missing_ok=True)
    for name in _OWN:
        if (out / name).is_dir():
            shutil.rmtree(out / name)
    for child in sorted(made.iterdir(), key=lambda path: path.name == TRUTH_NAME):
        child.replace(out / child.name)
    made.rmdir()
