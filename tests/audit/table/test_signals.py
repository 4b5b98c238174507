from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import clinimm.audit
from clinimm.audit.table.read import read_audit_table
from clinimm.audit.table.signals import read_extras, signal_files, table_signals
from clinimm.core.errors import DataError
from tests.audit.table.conftest import draw_table, policy_of, rule

SCHEMA = json.loads(Path(clinimm.audit.__file__).with_name("audit.schema.json").read_text(encoding="utf-8"))


def more_columns(table: pd.DataFrame) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return table.assign(
        admitted=pd.to_datetime("2030-01-01") + pd.to_timedelta(generator.integers(0, 720, len(table)), "D"),
        died=(table["race"] == "b").astype(bool),
        device=np.where(table["label"] == 1, "x<script>", "y"),
        creatinine=np.where(
            generator.random(len(table)) < 0.1, np.nan, generator.lognormal(0, 1, len(table))
        ),
        emb_0=generator.normal(size=len(table)) + 3 * (table["sex"] == "male"),
        emb_1=generator.normal(size=len(table)),
    )


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_the_command_writes_signals_and_keeps_its_exit_status(
    write: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    from clinimm.cli.app import app

    path = write(more_columns(draw_table(3000, bias=2.0)), name)
    start = ["audit-table", str(path), "--attribute", "race", "--attribute", "sex", "--metric", "auroc"]
    start += ["--threshold", "0.3", "--margin", "0.3", "--out", str(tmp_path / "out")]
    plain = CliRunner().invoke(app, start)
    assert not (tmp_path / "out" / "signals.json").exists()
    asked = ["--slices", "--feature", "creatinine", "--outcome", "died", "--time", "admitted"]
    asked += ["--metadata", "device", "--embedding", "emb_"]
    result = CliRunner().invoke(app, [*start, *asked])
    assert result.exit_code == plain.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "signals.json").read_text())
    (only,) = content["classes"]
    assert set(only["raised"]) == {"slices", "label_validity", "metadata", "embedding"}
    told = json.loads((tmp_path / "out" / "audit.json").read_text())["signals"]
    assert (told["asked"], told["raised"]) == (5, 4)
    jsonschema.validate(json.loads((tmp_path / "out" / "audit.json").read_text()), SCHEMA)
    outside = (tmp_path / "out" / "published" / "audit.json").read_text()
    assert json.loads(outside)["signals"] is None and "creatinine" not in outside
    found = only["detectors"]["slices"]["result"]["found"]
    assert ["b", "female"] in [one["levels"] for one in found if one["target"] == "missed"]
    page = (tmp_path / "out" / "signals.html").read_text()
    assert "<script" not in page and "race b × sex female" in page
    assert "signal        slices" in result.output
    again = CliRunner().invoke(app, [*start, *asked, "--check"])
    assert again.exit_code == 0, again.output
    (tmp_path / "out" / "signals.json").write_text("{}")
    assert CliRunner().invoke(app, [*start, *asked, "--check"]).exit_code == 4


def test_numbers_become_fifths_and_days_periods_of_equal_size(write: Callable[..., Path]) -> None:
    path = write(more_columns(draw_table(1000)))
    settings = policy_of(
        rule(), detect={"features": ["creatinine", "sex"], "time": "admitted", "periods": 4}
    ).table
    rows = read_audit_table(path, settings, ["race", "sex"]).rows
    extras = read_extras(path, rows, settings)
    assert list(extras.features) == ["creatinine"]
    counts = np.bincount(extras.features["creatinine"].code)
    assert len(counts) == 6 and np.ptp(counts[:5]) <= 1
    assert extras.features["creatinine"].levels[-1] == "(missing)"
    assert extras.period is not None and len(extras.period.levels) == 4
    assert extras.period.levels[0].startswith("2030-01-01 to 2030-0")
    assert np.ptp(np.bincount(extras.period.code)) < 10


@pytest.mark.parametrize(
    ("detect", "message"),
    [
        ({"outcome": "device"}, "device: expected numbers"),
        ({"outcome": "deaht"}, "no column deaht"),
        ({"embedding": "vector_"}, "no column begins with vector_"),
        ({"time": "died"}, "at least three periods"),
        ({"metadata": ["subject_id"]}, "1000 different values"),
    ],
)
def test_a_wrong_column_is_named(write: Callable[..., Path], detect: dict, message: str) -> None:
    path = write(more_columns(draw_table(1000)))
    settings = policy_of(rule(), detect=detect).table
    rows = read_audit_table(path, settings, ["race", "sex"]).rows
    with pytest.raises(DataError, match=message):
        table_signals(path, rows, settings)


def test_same_table_same_bytes(write: Callable[..., Path]) -> None:
    path = write(more_columns(draw_table(800)))
    settings = policy_of(rule(), detect={"slices": True, "metadata": ["device"], "time": "admitted"}).table
    rows = read_audit_table(path, settings, ["race", "sex"]).rows
    first, second = (
        signal_files({"label": table_signals(path, rows, settings)}, path.name) for _ in range(2)
    )
    assert first == second
