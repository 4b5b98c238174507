"""A FHIR export of a few dozen invented patients, written in a moment, for tests of whole runs."""

from __future__ import annotations

import base64
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

COHORT = """
name: small
question: Will the patient get worse within a week of the first creatinine?
index: {code: LOINC//2160-0, which: first}
label: {task: worse, code: outcome//worse, value: true, window: [0 d, 7 d], absent: unknown}
inputs:
  ehr: {look_back: 365 d}
  notes: {look_back: 365 d}
split: {kind: subject, fractions: {train: 0.5, tuning: 0.2, held_out: 0.3}}
"""

PIPELINE = """
name: small
sources: [{{kind: local, root: {export}}}]
cohort: cohort.yaml
runs_dir: {runs}
ingest: {{workers: 1, validate_fhir: none}}
model: {{width: 16, heads: 2, latents: 2, members: 1}}
train: {{epochs: {epochs}, patience: {epochs}, threads: 1, single_modality: false}}
evaluate: {{bootstraps: 50, minimum_cell: 2}}
explain: {{subjects: 1, steps: 4}}
report: {{patients: 1}}
"""


def write_project(folder: Path, patients: int = 60, epochs: int = 4) -> Path:
    """An export, its cohort file and its pipeline file; the path of the last."""
    write_export(folder / "export", patients)
    (folder / "cohort.yaml").write_text(COHORT)
    file = folder / "small.yaml"
    text = PIPELINE.format(export=folder / "export", runs=folder / "runs", epochs=epochs)
    file.write_text(text)
    return file


def write_export(folder: Path, patients: int, seed: int = 0) -> None:
    """Patients with a creatinine, a temperature, a note and an outcome that follows the creatinine."""
    draw = random.Random(seed)
    resources: dict[str, list[dict[str, Any]]] = {"Patient": [], "Observation": [], "DocumentReference": []}
    for number in range(patients):
        name, time = f"p{seed}-{number}", datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)
        ill = number % 2 == 0
        sex = draw.choice(["female", "male"])
        resources["Patient"].append(
            {
                "resourceType": "Patient",
                "id": name,
                "identifier": [{"value": f"MRN-{name}"}],
                "name": [{"family": f"Quillfeather{number:02}", "given": ["Ottoline"]}],
                "gender": sex,
                "birthDate": f"{draw.randint(1940, 2000)}-03-01",
            }
        )
        creatinine = round(draw.gauss(2.0 if ill else 1.0, 0.3), 2)
        resources["Observation"] += [
            _quantity(name, "2160-0", creatinine, "mg/dL", time),
            _quantity(name, "8310-5", round(draw.gauss(37.5, 0.5), 1), "Cel", time - timedelta(hours=2)),
            _outcome(name, ill, time + timedelta(days=3)),
        ]
        words = "Short of breath since yesterday." if ill else "Feels well and walks."
        resources["DocumentReference"].append(_note(name, words, time - timedelta(hours=1)))
    folder.mkdir(parents=True)
    for kind, items in resources.items():
        (folder / f"{kind}.ndjson").write_text("".join(json.dumps(item) + "\n" for item in items))


def _observation(name: str, system: str, code: str, category: str, time: datetime) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"{name}-{code}",
        "status": "final",
        "category": [{"coding": [{"code": category}]}],
        "code": {"coding": [{"system": system, "code": code}]},
        "subject": {"reference": f"Patient/{name}"},
        "issued": time.isoformat(),
    }


def _quantity(name: str, code: str, value: float, unit: str, time: datetime) -> dict[str, Any]:
    quantity = {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
    return _observation(name, "http://loinc.org", code, "laboratory", time) | {"valueQuantity": quantity}


def _outcome(name: str, ill: bool, time: datetime) -> dict[str, Any]:
    system = "https://clinimm.example/outcome"
    return _observation(name, system, "worse", "outcome", time) | {"valueBoolean": ill}


def _note(name: str, text: str, time: datetime) -> dict[str, Any]:
    data = base64.b64encode(text.encode()).decode()
    return {
        "resourceType": "DocumentReference",
        "id": f"{name}-note",
        "status": "current",
        "type": {"coding": [{"system": "http://loinc.org", "code": "11506-3"}]},
        "subject": {"reference": f"Patient/{name}"},
        "date": time.isoformat(),
        "content": [{"attachment": {"contentType": "text/plain", "data": data}}],
    }
