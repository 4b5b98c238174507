"""Whose slide is it? What a run's ingest knows of a file: by its content, its place, or its patient."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from clinimm.core.errors import DataError
from clinimm.core.pseudonym import KEY_VARIABLE, Pseudonymiser, default_key_file, load_pseudonymiser
from clinimm.core.record import digest_file
from clinimm.settings import PIPELINE_COPY, load_run
from clinimm.sources.base import Opener
from clinimm.staining.dicom_source import read_dicom_source, source_files

_EVENTS, _SUBJECTS = "ingest/events.parquet", "ingest/subjects.parquet"


def run_key(run: Path) -> Pseudonymiser | None:
    """The key of a run's pseudonyms where this machine has it; none is made."""
    if not (run / PIPELINE_COPY).is_file():
        return None
    file = load_run(run).ingest.pseudonym_key_file
    known = file.is_file() if file else KEY_VARIABLE in os.environ or default_key_file().is_file()
    return load_pseudonymiser(file) if known else None


def owners(run: Path, slide: Path, key: Pseudonymiser | None) -> frozenset[str]:
    """The subjects of a run that a slide belongs to; empty where the run does not know it.

    A slide is known by the digest of a file of it or, with the key, by where it lies and by the patient
    identifier in its DICOM header.

    Args:
        run: its folder.
        slide: a file or a folder of one slide.
        key: see ``run_key``.
    """
    if not (run / _EVENTS).is_file():
        return frozenset()
    files = source_files(slide)
    events = pd.read_parquet(run / _EVENTS, columns=["subject_id", "modality", "digest", "uri"])
    events = events[(events["modality"] == "pathology").to_numpy(dtype=bool)]
    known = events["digest"].isin([digest_file(file) for file in files])
    if key is not None:
        known |= events["uri"].isin(_uris(run, files, key))
    found = set(events.loc[known, "subject_id"])
    return frozenset(found or (set() if key is None else _by_patient(run, slide, key)))


def check_subject(subject_id: str | None, known: frozenset[str]) -> None:
    """Make sure that a record is not read for somebody else's slide.

    Raises:
        DataError: the slide is known, and of another subject.
    """
    if subject_id is not None and known and subject_id not in known:
        raise DataError(
            "--subject: this slide was ingested as another subject's; give that one, or leave the option out."
        )


def _uris(run: Path, files: list[Path], key: Pseudonymiser) -> set[str]:
    """The sealed locators that ingest gives to files at these places."""
    found = set()
    opener = Opener((), key)
    for index, source in enumerate(load_run(run).sources):
        root = source.root.expanduser().resolve()
        inside = [file.resolve() for file in files if file.resolve().is_relative_to(root)]
        found |= {opener.seal(index, file.relative_to(root).as_posix()) for file in inside}
    return found


def _by_patient(run: Path, slide: Path, key: Pseudonymiser) -> set[str]:
    """Who has the patient identifier of a DICOM slide, whoever issued it."""
    source = read_dicom_source(slide)
    identifier = source.value("PatientID") if source is not None else None
    if identifier is None or not (run / _SUBJECTS).is_file():
        return set()
    table = pd.read_parquet(run / _SUBJECTS)
    return set(table.loc[table["identifier_hash"] == key.identifier(str(identifier)), "subject_id"])
