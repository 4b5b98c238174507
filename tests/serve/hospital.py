"""A small finished, signed run with a film, a series of five slices, and a slide; and a way in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from fastapi.testclient import TestClient

from clinimm.core.pseudonym import load_pseudonymiser
from clinimm.core.record import RunRecord, digest_tree
from clinimm.register.manifest import write_manifest
from clinimm.report.facts import RunFacts
from clinimm.serve.app import create_app, open_office
from clinimm.serve.identity import Role, User
from clinimm.serve.office import Office
from clinimm.serve.settings import ServeSettings
from clinimm.settings import write_settings
from clinimm.sources import build_sources
from clinimm.sources.base import Opener
from clinimm.workspace import Workspace
from tests.modalities.pathology.made_slides import textured, write_svs
from tests.report.conftest import INDEX, build_run

SUBJECT, OTHER = "S000", "S002"
SERIES_UID = "1.2.826.0.1.9"
SLICES = 5
ORIGIN = "http://127.0.0.1:8000"
#: Runs that nobody approved, and those that the audit blocks, are shown as research.
RESEARCH = {"blocked_runs": "show", "unapproved_runs": "research"}
SHOW = {"public_url": ORIGIN, **RESEARCH}


@dataclass(frozen=True)
class Hospital:
    """Where the run lies, and what was put into it."""

    runs: Path
    workspace: Workspace
    slide: Path
    pixels: np.ndarray
    slices: tuple[int, ...]

    @property
    def run(self) -> Path:
        return self.workspace.root


def build_hospital(root: Path, hostile: str = "", subjects: int = 60) -> Hospital:
    mock = build_run(root, hostile, subjects)
    workspace, data = mock.workspace, root / "data"
    pixels = textured(700, 520)
    slide = write_svs(data / "slide.svs", pixels)
    greys = tuple(range(40, 40 + 30 * SLICES, 30))
    files = [write_slice(data / f"{place}.dcm", place, grey) for place, grey in enumerate(greys)]
    _add_pictures(workspace, slide, files)
    (workspace.root / "train" / "model" / "model.safetensors").write_bytes(b"weights")
    write_settings(workspace.config, workspace.root)
    _refuse_one(workspace)
    _record_outputs(workspace.root)
    write_manifest(workspace, str(RunFacts(workspace).model_digest), None)
    return Hospital(root / "runs", workspace, slide, pixels, greys)


def write_slice(path: Path, place: int, grey: int) -> Path:
    """A CT slice of one grey; instance numbers run against the positions."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CTImageStorage
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = f"1.2.3.{place + 1}"
    one.SeriesInstanceUID, one.Modality, one.PatientID = SERIES_UID, "CT", "MRN1"
    one.InstanceNumber = str(SLICES - place)
    one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 5.0 * place], [1, 0, 0, 0, 1, 0]
    one.Rows, one.Columns, one.SamplesPerPixel = 32, 48, 1
    one.BitsAllocated, one.BitsStored, one.HighBit = 16, 12, 11
    one.PixelRepresentation, one.PhotometricInterpretation = 0, "MONOCHROME2"
    one.WindowCenter, one.WindowWidth = "127.5", "255"
    one.PixelData = np.full((32, 48), grey, "<u2").tobytes()
    one.save_as(path, enforce_file_format=True)
    return path


def _add_pictures(workspace: Workspace, slide: Path, slices: list[Path]) -> None:
    path = workspace.root / "ingest" / "events.parquet"
    events = pd.read_parquet(path)
    opener = Opener(build_sources(workspace.config), load_pseudonymiser())
    known = {"dicom_modality": "CT", "body_part": "CHEST", "frames": 1, "rows": 32, "columns": 48}
    rows = [
        _picture("radiology", "DICOM//CT", file, opener, known)
        for file in (slices[2], *slices[:2], *slices[3:])
    ]
    rows.append(_picture("pathology", "SLIDE//HE", slide, opener, {"mpp_um": 0.5}))
    late = _picture("radiology", "DICOM//CT", slices[0], opener, known)
    rows.append({**late, "time": INDEX + pd.Timedelta(hours=5), "digest": "9" * 64})
    pd.concat([events, pd.DataFrame(rows, columns=events.columns)], ignore_index=True).to_parquet(path)


def _picture(
    modality: str, code: str, file: Path, opener: Opener, known: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "subject_id": SUBJECT,
        "time": INDEX - pd.Timedelta(hours=1),
        "code": code,
        "modality": modality,
        "uri": opener.seal(0, file.name),
        "digest": hashlib.sha256(file.read_bytes()).hexdigest(),
        "attributes": json.dumps(dict(known)),
    }


def _refuse_one(workspace: Workspace) -> None:
    row = {"modality": "radiology", "file": "f" * 64, "item": "", "code": "truncated", "reason": "short"}
    pd.DataFrame([{**row, "remedy": "resend"}]).to_parquet(workspace.stage("encode") / "refusals.parquet")


def _record_outputs(root: Path) -> None:
    for stage in ("ingest", "cohort", "encode", "train", "predict", "evaluate", "explain", "audit"):
        RunRecord(
            stage, {}, digest_tree(root / stage), {}, "0.1.0+abc", 0, "2026-01-01T00:00:00+00:00",
            "2026-01-01T00:00:07+00:00", {"wall_seconds": 7.0}, {},
        ).write(root / stage)  # fmt: skip


def make_office(hospital: Hospital, **settings: Any) -> Office:
    return open_office(hospital.runs, ServeSettings.model_validate(SHOW | settings))


def make_client(office: Office) -> TestClient:
    return TestClient(
        create_app(office), base_url=ORIGIN, follow_redirects=False, raise_server_exceptions=False
    )


def person(*roles: Role, subject: str = "p1") -> User:
    return User("https://id.example", subject, f"Dr {subject}", f"Practitioner/{subject}", frozenset(roles))


def sign_again(hospital: Hospital) -> None:
    """After a test changed a run on purpose: its stages' records and its signature as if it had been so."""
    _record_outputs(hospital.run)
    write_manifest(hospital.workspace, str(RunFacts(hospital.workspace).model_digest), None)


def sign_in(
    client: TestClient,
    office: Office,
    *roles: Role,
    subject: str = "p1",
    sites: frozenset[str] | None = None,
) -> dict[str, str]:
    """Open a session as the provider would; gives the headers that a write needs."""
    name, session = office.sessions.open(replace(person(*roles, subject=subject), sites=sites))
    client.cookies.set(office.cookie, name)
    return {"X-CSRF-Token": session.csrf, "Origin": office.settings.origin}


def form(headers: Mapping[str, str], **fields: Any) -> dict[str, Any]:
    """Fields and headers of a form that one of our pages sends."""
    return {"data": {key: str(value) for key, value in fields.items()}, "headers": dict(headers)}
