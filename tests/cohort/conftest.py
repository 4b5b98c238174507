"""Tiny tables of events, built in code."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clinimm.cohort.spec import CohortSpec
from clinimm.core.event import EVENT_COLUMNS
from clinimm.core.pseudonym import Pseudonymiser

INDEX = datetime(2024, 3, 1, 12, tzinfo=UTC)
_TEXT = [name for name, kind in EVENT_COLUMNS.items() if kind == "string"]
KEY = b"0123456789abcdef-test"


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(EVENT_COLUMNS))
    table = table.astype({name: "str" for name in _TEXT})
    table["time"] = pd.to_datetime(table["time"], utc=True).astype("datetime64[us, UTC]")
    table["until"] = pd.to_datetime(table["until"], utc=True).astype("datetime64[us, UTC]")
    table["numeric_value"] = table["numeric_value"].astype("float64")
    return table.sort_values(["subject_id", "time", "code"], kind="stable", ignore_index=True)


@pytest.fixture(scope="session")
def index() -> datetime:
    """The index time of every subject that has a film at offset zero."""
    return INDEX


@pytest.fixture(scope="session")
def event() -> Callable[..., dict[str, Any]]:
    """One row of events: subject, offset from ``INDEX``, code and what else is given."""

    def build(subject: str, offset: timedelta | float, code: str, **fields: Any) -> dict[str, Any]:
        days = offset if isinstance(offset, timedelta) else timedelta(days=offset)
        row = {"modality": "ehr", "category": "laboratory", **fields}
        return {"subject_id": subject, "time": INDEX + days, "code": code, **row}

    return build


@pytest.fixture(scope="session")
def film(event: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A radiograph, by default at the index time."""

    def build(subject: str, offset: timedelta | float = 0, **fields: Any) -> dict[str, Any]:
        row = {"modality": "radiology", "category": "CR", **fields}
        return event(subject, offset, "DICOM//CR", **row)

    return build


@pytest.fixture(scope="session")
def table() -> Callable[[list[dict[str, Any]]], pd.DataFrame]:
    """Rows as ``ingest`` would write them: typed and sorted."""
    return _table


@pytest.fixture(scope="session")
def spec() -> Callable[..., CohortSpec]:
    """A small cohort file with some parts replaced."""

    def build(**parts: Any) -> CohortSpec:
        content: dict[str, Any] = {
            "name": "tiny",
            "question": "Will it happen?",
            "index": {"modality": "radiology", "which": "first"},
            "label": {"task": "sick", "code": "outcome//sick", "value": True, "window": ["0 d", "30 d"]},
            "inputs": {"ehr": {"look_back": "30 d"}, "radiology": {}},
        }
        return CohortSpec.model_validate(content | parts)

    return build


@pytest.fixture(scope="session")
def export_tables() -> Callable[[Path], tuple[pd.DataFrame, pd.DataFrame]]:
    """Events and subjects of a FHIR export, by a reader of a few lines that is not CliniMM's."""

    def read(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
        pseudonymiser = Pseudonymiser(KEY)
        rows: list[dict[str, Any]] = []
        for name in ("ImagingStudy", "Observation"):
            for line in (root / "fhir" / f"{name}.ndjson").read_text(encoding="utf-8").splitlines():
                rows.append(_row(json.loads(line), pseudonymiser))
        lines = (root / "fhir" / "Patient.ndjson").read_text(encoding="utf-8").splitlines()
        ids = [json.loads(line)["id"] for line in lines]
        subjects = pd.DataFrame(
            {
                "subject_id": [pseudonymiser.subject(None, one) for one in ids],
                "identifier_hash": [pseudonymiser.identifier(one) for one in ids],
            }
        )
        return _table(rows), subjects

    return read


def _row(resource: dict[str, Any], pseudonymiser: Pseudonymiser) -> dict[str, Any]:
    patient = resource["subject"]["reference"].removeprefix("Patient/")
    row: dict[str, Any] = {"subject_id": pseudonymiser.subject(None, patient)}
    if resource["resourceType"] == "ImagingStudy":
        film = {"code": "DICOM//CR", "modality": "radiology", "category": "CR"}
        return row | film | {"time": resource["started"]}
    coding = resource["code"]["coding"][0]
    system = "LOINC" if coding["system"] == "http://loinc.org" else coding["system"].rsplit("/", 1)[1]
    value = resource.get("valueQuantity", {}).get("value", resource.get("valueBoolean"))
    return row | {
        "time": resource["issued"],
        "code": f"{system}//{coding['code']}",
        "modality": "ehr",
        "category": resource["category"][0]["coding"][0]["code"],
        "numeric_value": None if value is None else float(value),
        "text_value": resource.get("valueString"),
    }
