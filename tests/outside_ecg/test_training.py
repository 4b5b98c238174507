"""An outside modality, added by its module name, is ingested, encoded, trained on and explained."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from clinimm.config import load_pipeline
from clinimm.model import FusionModel
from clinimm.pipeline import run_pipeline
from clinimm.progress import QUIET
from tests.outside_ecg.samples import recording

PATIENTS = 48
COHORT = """
name: outside
question: Does a tall beat foretell the outcome?
index: {modality: ecg, which: first}
label: {task: tall, code: outcome//tall, value: true, window: [0 d, 7 d], absent: unknown}
inputs: {ecg: {look_back: 1 d}}
split: {kind: subject, fractions: {train: 0.5, tuning: 0.2, held_out: 0.3}}
"""


def _export(folder: Path) -> None:
    """Recordings whose beats are tall in every second patient, and outcomes that follow."""
    folder.mkdir()
    lines = []
    for number in range(PATIENTS):
        name, time = f"E{number:03d}", datetime(2024, 5, 1, tzinfo=UTC) + timedelta(days=number)
        tall = number % 2 == 0
        (folder / f"{name}.ecg").write_bytes(recording(name, time.isoformat(), number, 1.6 if tall else 0.8))
        lines += [
            {"resourceType": "Patient", "id": name, "identifier": [{"value": name}]},
            {
                "resourceType": "Observation",
                "id": f"o-{name}",
                "status": "final",
                "category": [{"coding": [{"code": "outcome"}]}],
                "code": {"coding": [{"system": "https://clinimm.example/outcome", "code": "tall"}]},
                "subject": {"reference": f"Patient/{name}"},
                "issued": (time + timedelta(days=2)).isoformat(),
                "valueBoolean": tall,
            },
        ]
    (folder / "records.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.slow
def test_a_modality_of_another_package_is_trained_with(tmp_path: Path) -> None:
    _export(tmp_path / "export")
    (tmp_path / "cohort.yaml").write_text(COHORT)
    (tmp_path / "outside.yaml").write_text(
        f"""
name: outside
runs_dir: {tmp_path / "runs"}
sources: [{{kind: local, root: {tmp_path / "export"}}}]
cohort: cohort.yaml
plugins: [tests.outside_ecg]
ingest: {{workers: 1, validate_fhir: none}}
model: {{width: 16, layers: 1, heads: 2, latents: 2}}
train: {{epochs: 40, patience: 40, workers: 1, learning_rate: 0.003}}
evaluate: {{bootstraps: 50, minimum_cell: 2}}
explain: {{subjects: 2, steps: 8}}
"""
    )
    config = load_pipeline(tmp_path / "outside.yaml")

    run_pipeline(config, until_stage="explain", progress=QUIET)

    run = tmp_path / "runs" / "outside"
    predictions = pd.read_parquet(run / "predict" / "predictions.parquet")
    assert set(predictions["modalities_present"]) == {"ecg"}
    assert roc_auc_score(predictions["label"], predictions["probability"]) > 0.9
    assert FusionModel.from_pretrained(run / "train" / "model").modalities == ("ecg",)
    attributions = pd.read_parquet(run / "explain" / "attributions.parquet")
    assert set(attributions["modality"]) == {"ecg"}
    assert attributions["text"].str.len().gt(0).all()
