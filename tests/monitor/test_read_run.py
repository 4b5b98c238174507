"""A run's files, written as the stages leave them, and what changes in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinimm.core.errors import DataError, MissingStageError
from clinimm.core.event import EVENT_COLUMNS
from clinimm.monitor.drift import check_drift, check_embeddings
from clinimm.monitor.finding import BREACH, Finding
from clinimm.monitor.plan import MonitoringPlan
from clinimm.monitor.quality import check_quality
from clinimm.monitor.read_run import is_run, read_run

N = 120
INDEX = pd.Timestamp("2025-03-01T10:00:00Z")
LACTATE = "LOINC//2524-7"


def write_run(  # what can be planted
    folder: Path,
    seed: int,
    unit: str = "mmol/L",
    factor: float = 1.0,
    device: str = "A",
    refused: int = 2,
    films: int = N,
    shift: float = 0.0,
    lactate: bool = True,
) -> Path:
    generator = np.random.default_rng(seed)
    subjects = [f"S{seed}{number:04d}" for number in range(N)]
    label = (generator.random(N) < 0.4).astype(float)
    with_film = subjects[:films]
    pattern = ["ehr+radiology" if subject in with_film else "ehr" for subject in subjects]
    _parquet(
        folder / "predict" / "predictions.parquet",
        {
            "subject_id": subjects,
            "index_time": INDEX,
            "task": "severe",
            "class_name": "severe",
            "probability": np.clip(0.3 * label + generator.random(N) * 0.6, 0, 1),
            "label": label,
            "modalities_present": pattern,
            "model_digest": "m" * 64,
            "split": ["trained_on"] * 5 + ["held_out"] * (N - 5),
            "repeat": 0,
            "fold": 0,
        },
    )
    _parquet(
        folder / "cohort" / "cohort.parquet",
        {
            "subject_id": subjects,
            "index_time": INDEX,
            "label": label,
            "labelled": True,
            "split": "held_out",
            "site_id": generator.choice(["North", "South"], N),
            "sex": generator.choice(["female", "male"], N),
            "age_years": generator.normal(60, 10, N),
        },
    )
    values = generator.normal(2, 0.5, N) * factor
    events = pd.DataFrame({"subject_id": subjects, "code": LACTATE, "numeric_value": values, "unit": unit})
    events = events if lactate else events.head(0)
    pulse = pd.DataFrame(
        {
            "subject_id": subjects,
            "code": "LOINC//8867-4",
            "numeric_value": generator.normal(80, 9, N),
            "unit": "/min",
        }
    )
    header = json.dumps({"device": device, "view": "PA"})
    film = pd.DataFrame(
        {
            "subject_id": with_film,
            "code": "DICOM//DX",
            "modality": "radiology",
            "uri": "sealed:x",
            "attributes": header,
        }
    )
    record = pd.concat([events, pulse]).assign(modality="ehr", time_hours=3.0)
    table = pd.concat([record, film]).assign(time=INDEX - pd.Timedelta(hours=3))
    _parquet(folder / "ingest" / "events.parquet", table.reindex(columns=list(EVENT_COLUMNS)))
    notes = {
        "files": 100,
        "refusals_by_code": {"truncated": refused},
        "events_by_modality": {"ehr": len(record), "radiology": films},
        "flags": {"future": 1},
    }
    (folder / "ingest" / "record.json").write_text(json.dumps({"notes": notes}))
    _tokens(
        folder / "encode" / "ehr", record[["subject_id", "time_hours", "code", "numeric_value"]], 0, 0.0, seed
    )
    _tokens(folder / "encode" / "radiology", film[["subject_id"]].assign(time_hours=0.0), 6, shift, seed)
    point = {"class_name": "severe", "operating_point": {"threshold": 0.45}}
    (folder / "evaluate").mkdir(exist_ok=True)
    (folder / "evaluate" / "metrics.json").write_text(json.dumps({"classes": [point]}))
    return folder


def _tokens(folder: Path, rows: pd.DataFrame, width: int, shift: float, seed: int) -> None:
    _parquet(folder / "tokens.parquet", rows.sort_values("subject_id"))
    values = np.random.default_rng(seed).normal(shift, 1, (len(rows), width)).astype(np.float16)
    np.save(folder / "values.npy", values)


def _parquet(path: Path, columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_parquet(path, index=False)


def _breaches(findings: list[Finding]) -> dict[str, str]:
    return {one.about: one.sentence for one in findings if one.verdict == BREACH}


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return write_run(tmp_path / "before", 1)


def test_a_run_is_read_without_those_whom_the_model_was_fitted_to(reference: Path) -> None:
    assert is_run(reference) and not is_run(reference / "predict")
    found = read_run(reference)
    assert len(found.rows) == N - 5
    assert found.threshold == {"severe": 0.45}
    assert found.models == ["m" * 64]
    assert list(found.attributes) == ["site", "sex", "modalities_present"]
    assert set(found.fields) == {"ehr", "radiology", "people"}
    assert {LACTATE, "number of tokens"} <= set(found.fields["ehr"])
    assert {"device", "view"} <= set(found.fields["radiology"])
    assert found.vectors["radiology"].shape == (N, 6) and "ehr" not in found.vectors
    assert found.intake is not None and (found.intake.files, found.intake.refused) == (100, 2)
    assert found.intake.independent == pytest.approx(N)  # three events of each subject


def test_many_events_of_one_subject_are_nearly_one(reference: Path) -> None:
    path = reference / "ingest" / "events.parquet"
    events = pd.read_parquet(path)
    own = events[events["subject_id"] == events["subject_id"].iloc[0]]
    pd.concat([events, *[own] * 999]).to_parquet(path, index=False)
    found = read_run(reference).intake
    assert found is not None and found.independent == pytest.approx((3000 + 357) ** 2 / (3000**2 + 119 * 9))


def test_the_vectors_are_the_means_of_a_subject_s_tokens(reference: Path) -> None:
    folder = reference / "encode" / "radiology"
    rows = pd.read_parquet(folder / "tokens.parquet")
    doubled = pd.concat([rows, rows.head(1)]).sort_values("subject_id", kind="stable")
    doubled.to_parquet(folder / "tokens.parquet", index=False)
    values = np.arange(6 * len(doubled), dtype=float).reshape(-1, 6)
    np.save(folder / "values.npy", values)
    assert read_run(reference).vectors["radiology"][0] == pytest.approx(values[:2].mean(axis=0))


def test_feature_maps_of_a_fine_tuned_encoder_are_read_and_compared(
    reference: Path, tmp_path: Path, plan: MonitoringPlan
) -> None:
    sides = reference, write_run(tmp_path / "now", 2)
    for place, seed in zip(sides, (1, 2), strict=True):
        path = place / "encode" / "radiology" / "values.npy"
        maps = np.random.default_rng(seed).normal(seed, 1, (len(np.load(path)), 2, 6, 3, 3))
        np.save(path, maps.astype(np.float16))
    before, now = map(read_run, sides)
    assert before.vectors["radiology"].shape == (N, 6)
    assert list(_breaches(check_embeddings(before, now, plan))) == ["radiology"]


def test_the_same_input_is_quiet(reference: Path, tmp_path: Path, plan: MonitoringPlan) -> None:
    sides = read_run(reference), read_run(write_run(tmp_path / "now", 2))
    assert not _breaches(check_quality(*sides, plan, "m" * 64))
    assert not _breaches(check_drift(*sides, plan)[0])
    assert not _breaches(check_embeddings(*sides, plan))


@pytest.mark.parametrize(
    ("planted", "about", "said"),
    [
        ({"unit": "mg/dL"}, f"unit of {LACTATE}", "mg/dL; the reference had mmol/L"),
        ({"factor": 9.0}, f"scale of {LACTATE}", "another unit under the same name"),
        ({"refused": 30}, "refused files", "truncated"),
        ({"lactate": False}, "codes", LACTATE),
    ],
)
def test_what_arrives_is_watched(
    reference: Path, tmp_path: Path, plan: MonitoringPlan, planted: dict, about: str, said: str
) -> None:
    found = check_quality(
        read_run(reference), read_run(write_run(tmp_path / "now", 2, **planted)), plan, None
    )
    assert said in _breaches(found)[about]


def test_fields_patterns_and_embeddings_that_moved_are_named(
    reference: Path, tmp_path: Path, plan: MonitoringPlan
) -> None:
    now = read_run(write_run(tmp_path / "now", 2, device="B", films=40 + 30, shift=1.0))
    found, rows = check_drift(read_run(reference), now, plan)
    assert set(_breaches(found)) == {"radiology", "which modalities"}
    assert "device" in _breaches(found)["radiology"]
    assert {row["field"] for row in rows if row["moved"]} == {"device", "pattern", "has radiology"}
    assert set(_breaches(check_embeddings(read_run(reference), now, plan))) == {"radiology"}
    missing = [one for one in check_quality(read_run(reference), now, plan, None) if "missing" in one.about]
    assert {one.about for one in missing if one.verdict == BREACH} == {"radiology: missing fields"}


def test_what_is_not_there_is_named(tmp_path: Path, reference: Path) -> None:
    with pytest.raises(MissingStageError, match=r"clinimm predict"):
        read_run(tmp_path)
    path = reference / "predict" / "predictions.parquet"
    pd.read_parquet(path).assign(split="trained_on").to_parquet(path)
    with pytest.raises(DataError, match="not fitted to"):
        read_run(reference)
