"""A small finished run, written straight into the files that the stages would leave."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinimm.audit.stage import run as run_audit
from clinimm.config import PipelineConfig
from clinimm.core.event import EVENT_COLUMNS
from clinimm.core.prediction import PREDICTION_COLUMNS, modality_key
from clinimm.core.pseudonym import load_pseudonymiser
from clinimm.core.record import RunRecord
from clinimm.evaluate.assemble import Tables, Task, evaluate_tables
from clinimm.explain.tables import Explanations
from clinimm.progress import QUIET
from clinimm.sources import build_sources
from clinimm.sources.base import Opener
from clinimm.workspace import Workspace

#: Strings that become script wherever one is written without escaping.
XSS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</title><script>alert(2)</script>",
    "</style><script>alert(3)</script>",
    '" onmouseover="alert(4)" x="',
    "' autofocus onfocus='alert(5)",
    "<svg/onload=alert(6)>",
    "javascript:alert(7)",
    "{{ 7 * 7 }}{% raw %}",
    "<!--<script>alert(8)</script>-->",
    "<a href='javascript:alert(9)'>x</a>",
    "\u202e<iframe srcdoc='&lt;script&gt;alert(10)&lt;/script&gt;'>",
    "]]><script>alert(11)</script>",
)
#: More of them for the patient report: style sheets, other encodings, characters that cannot be seen.
MORE_XSS = (
    "</style><style>body{display:none}</style>",
    "} body { background: url(https://evil.example/a) } .x {",
    "expression(alert(12)) url('javascript:alert(13)') @import 'https://evil.example/b.css';",
    "--></script><script>alert(14)</script><!--",
    "+ADw-script+AD4-alert(15)+ADw-/script+AD4-",
    "\x00<scr\x00ipt>alert(16)</scr\x00ipt>",
    "\u202etxt.exe\u2066 \u200f \ufeff",
    "<math><mtext></p><img src=x onerror=alert(17)>",
    "<details open ontoggle=alert(18)><input autofocus onfocus=alert(19)>",
    "<base href='https://evil.example/'><meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "data:text/html,<script>alert(20)</script>",
    "&lt;img src=x onerror=alert(21)&gt; &#60;script&#62;alert(22)&#60;/script&#62;",
    "${alert(23)} #{alert(24)} <%= alert(25) %> {% include '/etc/passwd' %}",
    "\\u003cscript\\u003ealert(26)\\u003c/script\\u003e",
)
INDEX = pd.Timestamp("2024-03-02T10:00:00Z")
NOTE = (
    "Admitted with three days of cough. Breathing got worse overnight and needs oxygen at 4 litres. "
    "No chest pain. Non-smoker.\nFilm: patchy opacities in the right lower zone. Otherwise unremarkable."
)


SPEC = {
    "name": "mock",
    "question": "Will this patient need intensive care?",
    "index": {"modality": "radiology"},
    "label": {"task": "severe", "code": "outcome//severe", "value": True, "window": ["0 d", "30 d"]},
    "inputs": {
        "ehr": {"look_back": "365 d", "exclude": ["LOINC//barred*"]},
        "notes": {},
        "radiology": {},
        "pathology": {},
    },
}


@dataclass(frozen=True)
class MockRun:
    workspace: Workspace
    subject: str
    bare: str
    hostile: str


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., MockRun]:
    """``make_run(hostile="")``: every string that comes from data holds ``hostile``."""
    return lambda hostile="", subjects=80, root=tmp_path: build_run(root, hostile, subjects)


@pytest.fixture
def run(make_run: Callable[..., MockRun]) -> MockRun:
    return make_run()


def build_run(root: Path, hostile: str = "", subjects: int = 80) -> MockRun:
    data = root / "data"
    data.mkdir(exist_ok=True)
    workspace = Workspace(
        PipelineConfig.model_validate(
            {
                "name": "mock",
                "runs_dir": root / "runs",
                "sources": [{"kind": "local", "root": data}],
                "evaluate": {"bootstraps": 60},
            }
        )
    )
    film = write_film(data / "film.dcm")
    opener = Opener(build_sources(workspace.config), load_pseudonymiser())
    subject, bare = "S000", "S001"
    _write_events(workspace, subject, film, opener.seal(0, "film.dcm"), hostile)
    predictions = _write_predictions(workspace, subjects)
    _write_cohort(workspace, predictions, hostile)
    _write_evaluation(workspace, predictions, hostile)
    run_audit(workspace, QUIET)
    explanations(subject, film, hostile).write(workspace.stage("explain"))
    _write_model(workspace)
    _write_records(workspace)
    return MockRun(workspace, subject, bare, hostile)


def write_film(path: Path) -> str:
    """A 16-bit film of 300 by 400 pixels; gives its digest."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

    down, across = np.mgrid[0:300, 0:400]
    lungs = np.exp(-(((across - 120) / 60) ** 2 + ((down - 150) / 90) ** 2))
    lungs += np.exp(-(((across - 280) / 60) ** 2 + ((down - 150) / 90) ** 2))
    noise = np.random.default_rng(0).normal(0, 40, lungs.shape)
    pixels = np.clip(3000 - 2400 * lungs + noise, 0, 4095).astype("<u2")
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4"
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.Modality, dataset.PatientID, dataset.PatientName = "CR", "MRN1", "Doe^Jane"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 300, 400, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation, dataset.PhotometricInterpretation = 0, "MONOCHROME2"
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _event(subject: str, hours: float, code: str, **fields: Any) -> dict[str, Any]:
    time = INDEX - pd.Timedelta(hours=hours)
    return {"subject_id": subject, "time": time, "code": code, "modality": "ehr", **fields}


def _write_events(workspace: Workspace, subject: str, film: str, uri: str, hostile: str) -> None:
    note = NOTE + hostile
    reference = json.dumps({"reference_low": 0.6, "reference_high": 1.2, "display": f"Creatinine{hostile}"})
    site = json.dumps({"site": hostile or "north", "view": hostile or "AP", "rows": 300, "columns": 400})
    rows = [
        _event(subject, 20, "DEMOGRAPHIC//sex", text_value=hostile or "female", category="demographic"),
        _event(subject, 30, "LOINC//2160-0", numeric_value=1.9, unit="mg/dL" + hostile, attributes=reference),
        _event(subject, 5, "LOINC//59408-5", numeric_value=88.0, unit="%"),
        _event(subject, 400, "LOINC//8867-4", numeric_value=72.0, unit="/min"),
        _event(subject, 3, "local//" + hostile, text_value="yes" + hostile),
        _event(
            subject, 2, "LOINC//11506-3", modality="notes", text_value=note,
            digest=hashlib.sha256(note.encode()).hexdigest(),
        ),
        _event(subject, 0, "DICOM//CR", modality="radiology", uri=uri, digest=film, attributes=site),
        _event(subject, 0, "SLIDE//HE", modality="pathology", digest="f" * 64),
        _event(subject, -9, "LOINC//2160-0", numeric_value=777.0, unit="mg/dL"),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=list(EVENT_COLUMNS))
    table.to_parquet(workspace.stage("ingest") / "events.parquet")
    refusals = [
        {"file": "a.dcm", "item": "", "code": "truncated", "reason": hostile or "short", "remedy": "resend"}
    ]
    pd.DataFrame(refusals).to_parquet(workspace.stage("ingest") / "refusals.parquet")


def _write_predictions(workspace: Workspace, subjects: int) -> pd.DataFrame:
    random = np.random.default_rng(1)
    label = (random.random(subjects) < 0.4).astype(float)
    logit = 1.6 * (label - 0.5) + random.normal(0, 1, subjects) - 0.4
    everything = modality_key(["ehr", "notes", "radiology", "pathology"])
    table = pd.DataFrame(
        {
            "subject_id": [f"S{number:03d}" for number in range(subjects)],
            "index_time": INDEX,
            "task": "severe",
            "class_name": "severe",
            "probability": 1 / (1 + np.exp(-logit)),
            "label": label,
            "modalities_present": [everything, "ehr+notes", *["ehr+radiology"] * (subjects - 2)],
            "model_digest": "d" * 64,
            "split": "held_out",
            "repeat": 0,
            "fold": [number % 2 for number in range(subjects)],
        },
        columns=list(PREDICTION_COLUMNS),
    )
    table.to_parquet(workspace.stage("predict") / "predictions.parquet")
    return table


def _write_cohort(workspace: Workspace, predictions: pd.DataFrame, hostile: str) -> None:
    folder = workspace.stage("cohort")
    task = {"name": "severe", "kind": "binary", "classes": ["severe"]}
    (folder / "task.json").write_text(json.dumps(task))
    count = len(predictions)
    flow = {
        "cohort": "mock" + hostile,
        "question": "Will this patient need intensive care?" + hostile,
        "subjects": count + 10,
        "events": 12345,
        "steps": [
            {"name": "first film" + hostile, "kind": "index", "before": count + 10, "left": 10,
             "reasons": {"no such event" + hostile: 10}, "after": count},
        ],
        "label": {"task": "severe", "kind": "binary", "labelled": count, "unlabelled": 0,
                  "classes": {"yes": int(predictions["label"].sum())}},
        "inputs": {"ehr": {"subjects": count, "events": 900}},
        "split": {"kind": "subject", "repeats": 1, "folds": 2, "parts": []},
        "warnings": ["Only a few positives." + hostile],
    }  # fmt: skip
    (folder / "flow.json").write_text(json.dumps(flow))
    (folder / "spec.json").write_text(json.dumps(SPEC))
    pd.DataFrame(
        {
            "subject_id": predictions["subject_id"],
            "index_time": INDEX,
            "label": predictions["label"],
            "labelled": True,
            "split": "cross_validation",
            "site_id": hostile or "north",
            "sex": [hostile or "female" if number % 2 == 0 else "male" for number in range(count)],
            "age_years": 61.0,
            "age_band": ["40-64" if number % 3 else "65+" for number in range(count)],
            "race": None,
            "ethnicity": None,
        }
    ).to_parquet(folder / "cohort.parquet")


def _write_evaluation(workspace: Workspace, predictions: pd.DataFrame, hostile: str) -> None:
    random = np.random.default_rng(2)
    parts = ("ehr", "notes", "ehr+notes", "ehr+notes+pathology+radiology")
    noisy = {
        name: predictions.assign(
            probability=np.clip(
                predictions["probability"] + random.normal(0, 0.2, len(predictions)), 0.01, 0.99
            )
        )
        for name in (*parts, "single:ehr", "missingness_only", "gradient_boosting", "late_fusion")
    }
    subsets = pd.concat([noisy[name].assign(subset=name) for name in parts])
    controls = pd.concat([noisy[name].assign(control=name) for name in noisy if name not in parts])
    tables = Tables(predictions, predictions.assign(split="tuning"), subsets, controls)
    task = Task("severe", "binary", ("severe",))
    found = evaluate_tables(tables, task, workspace.config.evaluate, 0, "mock")
    folder = workspace.stage("evaluate")
    metrics = found.metrics
    metrics["verdict"]["sentence"] += hostile
    (folder / "metrics.json").write_text(json.dumps(metrics))
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    for name in ("roc", "calibration", "subsets"):
        words = hostile.replace("&", "&amp;").replace("<", "&lt;").replace("\x00", "")
        (figures / f"{name}.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200" viewBox="0 0 300 200">'
            f'<text x="10" y="20" style="fill: #444444">{name} {words}</text></svg>'
        )


def explanations(subject: str, film: str, hostile: str) -> Explanations:
    """Attributions of all kinds for one subject; their sum and the Shapley values fit its logit."""
    note = NOTE + hostile
    digest = hashlib.sha256(note.encode()).hexdigest()
    start = note.index("needs oxygen")
    calm = note.index("No chest pain")
    common = {
        "subject_id": subject, "index_time": INDEX, "task": "severe", "class_name": "severe",
        "method": "integrated_gradients", "baseline": "uninformative token", "model_digest": "d" * 64,
    }  # fmt: skip
    random = np.random.default_rng(4)
    places: list[dict[str, Any]] = [
        _place("ehr", 0.41, "event", None, (), f"LOINC//2160-0 = 1.9 mg/dL{hostile}", 30),
        _place("ehr", 0.63, "event", None, (), "LOINC//59408-5 = 88 %", 5),
        _place("ehr", -0.22, "event", None, (), "LOINC//8867-4 = 72 /min", 400),
        _place("ehr", -0.11, "event", None, (), f"DEMOGRAPHIC//sex = {hostile or 'female'}", 20),
        _place("ehr", 0.05, "event", None, (), f"local//{hostile} = yes{hostile}", 3),
        _place("notes", 0.52, "characters", digest, (start, start + 28), note[start : start + 28], 2),
        _place("notes", -0.18, "characters", digest, (calm, calm + 13), note[calm : calm + 13], 2),
    ]
    places += [
        _place("radiology", score, "pixels", film, box, "cell", 0)
        for box, score in _grid(400, 300, 7, random.normal(0, 0.03, 49) + _spot(7))
    ]
    places += [
        _place("pathology", score, "tile", "f" * 64, box, "tile", 0)
        for box, score in _grid(4000, 3000, 4, random.normal(0, 0.02, 16))
    ]
    total = sum(place["score"] for place in places)
    values = {"ehr": 0.9, "notes": 0.3, "radiology": 0.5, "pathology": -0.15}
    summary = {
        key: common[key] for key in ("subject_id", "task", "class_name", "method", "model_digest")
    } | {
        "logit": total - 0.7, "baseline_logit": -0.7, "attribution_sum": total,
        "empty_logit": total - 0.7 - sum(values.values()),
        "convergence_delta": 0.0004, "deletion_auc": -0.21, "deletion_auc_random": 0.35,
    }  # fmt: skip
    contributions = [
        {key: common[key] for key in ("subject_id", "task", "class_name", "model_digest")}
        | {"modality": name, "shapley": value}
        for name, value in values.items()
    ]
    named = {key: common[key] for key in ("subject_id", "task", "class_name", "method", "model_digest")}
    checks = [
        named | {"modality": name, "check": "deletion", "value": -0.2, "against": 0.3, "judged": 0.5}
        for name in (*values, "all")
    ]
    standings = [
        named
        | {"modality": name, "state": "shown", "failed": "[]", "sentence": "All 1 checks hold." + hostile}
        for name in (*values, "all")
    ]
    interactions = [named | {"modality": "ehr", "other": "radiology", "interaction": -0.4}]
    return Explanations.from_rows(
        {
            "attributions": [common | place for place in places],
            "summary": [summary],
            "contributions": contributions,
            "interactions": interactions,
            "checks": checks,
            "standings": standings,
        }
    )


def _place(
    modality: str,
    score: float,
    kind: str,
    digest: str | None,
    box: tuple[float, ...],
    text: str,
    hours: float,
) -> dict[str, Any]:
    return {
        "modality": modality, "score": float(score), "kind": kind, "digest": digest,
        "box": json.dumps([float(edge) for edge in box]), "text": text, "time_hours": float(hours),
    }  # fmt: skip


def _grid(width: int, height: int, cells: int, scores: np.ndarray) -> list[tuple[tuple[float, ...], float]]:
    across, down = width / cells, height / cells
    return [
        (
            (column * across, row * down, (column + 1) * across, (row + 1) * down),
            float(scores[row * cells + column]),
        )
        for row in range(cells)
        for column in range(cells)
    ]


def _spot(cells: int) -> np.ndarray:
    found = np.zeros((cells, cells))
    found[3:5, 1:3] = 0.12
    return found.ravel()


def _write_model(workspace: Workspace) -> None:
    folder = workspace.stage("train") / "model"
    folder.mkdir(exist_ok=True)
    default = {
        "enabled": True,
        "encoder": {"name": None, "fine_tune_blocks": 0, "options": {}},
        "max_tokens": 512,
    }
    config = {
        "format": "clinimm.model/2",
        "task": {"name": "severe", "kind": "binary", "classes": ["severe"]},
        "model": {"fusion": "mid", "width": 64, "layers": 2, "members": 1},
        "modalities": {name: default for name in ("ehr", "notes", "radiology", "pathology")},
        "statistics": {},
        "plugins": [],
        "provenance": {"seed": 0, "subjects": 56},
    }
    (folder / "config.json").write_text(json.dumps(config))


def _write_records(workspace: Workspace) -> None:
    for stage in ("ingest", "cohort", "encode", "train", "predict", "evaluate", "explain"):
        RunRecord(
            stage, {}, {}, {"seed": 0}, "0.1.0+abc", 0, "2026-01-01T00:00:00+00:00",
            "2026-01-01T00:00:07+00:00", {"wall_seconds": 7.0}, {},
        ).write(workspace.stage(stage))  # fmt: skip


@pytest.fixture
def xss() -> tuple[str, ...]:
    return XSS + MORE_XSS
