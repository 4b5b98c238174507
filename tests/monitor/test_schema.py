"""``monitor.json`` against its schema: every kind of look, and what the schema must not let pass."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest

import clinimm.monitor
from clinimm.monitor.plan import PACKAGED, MonitoringPlan
from clinimm.monitor.read_table import read_table
from clinimm.monitor.run import content_of, look
from clinimm.monitor.write import JSON_NAME, write_board
from tests.monitor.conftest import draw

SCHEMA = json.loads(Path(clinimm.monitor.__file__).with_name("monitor.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())


def _written(folder: Path, plan: MonitoringPlan, now: pd.DataFrame, feedback: bool = False) -> Any:
    for name, table in (("before", draw(200, 1)), ("now", now)):
        table.to_parquet(folder / f"{name}.parquet", index=False)
    before, after = (read_table(folder / f"{name}.parquet", ["sex"]) for name in ("before", "now"))
    said = pd.DataFrame(
        {
            "time": pd.date_range("2025-05-01", periods=12, tz="UTC"),
            "objects": [1.0, 0.0] * 6,
            "reason": ["wrong side", None] * 6,
            "model_digest": "m",
        }
    )
    looked = look(before, after, plan, said if feedback else None)
    content = content_of(looked, before, after, plan, PACKAGED, folder / "i", None, date(2026, 1, 1))
    write_board(folder, content)
    return json.loads((folder / JSON_NAME).read_text("utf-8"))


@pytest.mark.parametrize("kind", ["quiet", "breach", "no labels", "few"])
def test_what_is_written_fits_the_schema(tmp_path: Path, plan: MonitoringPlan, kind: str) -> None:
    now = {
        "quiet": draw(200, 2, day=90),
        "breach": draw(300, 2, "gap", 90),
        "no labels": draw(200, 2, day=90).assign(label=float("nan")),
        "few": draw(12, 2, day=90),
    }[kind]
    written = _written(tmp_path, plan, now, feedback=kind == "breach")
    VALIDATOR.validate(written)
    assert (written["incident"] is not None) == (kind == "breach")
    wrongs: list[dict[str, Any]] = [{"extra": 1}, {"exit_status": 3}, {"findings": []}, {"false_alarms": {}}]
    for wrong in wrongs:
        assert not VALIDATOR.is_valid({**written, **wrong})


def test_the_schema_is_one_and_knows_every_section() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["required"]) == set(SCHEMA["properties"])
