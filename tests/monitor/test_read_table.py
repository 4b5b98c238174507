from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from clinimm.core.errors import ConfigError, DataError
from clinimm.monitor.plan import MonitoringPlan
from clinimm.monitor.read_table import read_divided, read_table
from clinimm.monitor.snapshot import labelled, period_of
from tests.monitor.conftest import draw


def _write(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_columns_become_rows_attributes_and_fields_by_modality(tmp_path: Path, name: str) -> None:
    found = read_table(_write(draw(30, 0), tmp_path / name), ["sex"])
    assert found.classes == ["outcome"]
    assert list(found.attributes) == ["sex"]
    assert {name: list(table) for name, table in found.fields.items()} == {
        "ehr": ["lactate", "crp"],
        "image": ["device"],
    }
    assert found.models == []
    assert found.times is not None


def test_a_table_is_divided_by_a_day(tmp_path: Path) -> None:
    path = _write(draw(60, 0), tmp_path / "table.parquet")
    before, now = read_divided(path, pd.Timestamp("2025-02-01", tz="UTC"), ["sex"])
    assert before.times is not None and now.times is not None
    assert before.times[1] < pd.Timestamp("2025-02-01", tz="UTC") <= now.times[0]
    assert len(before.rows) + len(now.rows) == 60
    assert set(now.fields["ehr"].index) == set(now.rows["subject_id"])
    with pytest.raises(ConfigError, match="one side"):
        read_divided(path, pd.Timestamp("2030-01-01", tz="UTC"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop(columns="probability"), "no column probability"),
        (lambda table: table.assign(probability=table["probability"] * 100), "outside 0 to 1"),
        (lambda table: table.assign(label="maybe"), "expected 0, 1 or nothing"),
        (lambda table: table.assign(index_time="yesterday"), "are no times"),
        (lambda table: pd.concat([table, table]), "two rows"),
        (lambda table: table.head(0), "no rows"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_table(_write(change(draw(20, 0)), tmp_path / "table.csv"))  # type: ignore[operator]


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1nothing")
    for name in ("broken.parquet", "nowhere.csv", "table.xlsx"):
        with pytest.raises(DataError, match=name):
            read_table(tmp_path / name)


def test_labels_count_when_they_are_old_enough(plan: MonitoringPlan) -> None:
    rows = pd.DataFrame(
        {
            "index_time": pd.to_datetime(["2025-01-01", "2025-01-20", "2025-01-31"], utc=True),
            "label": [1.0, 0.0, 1.0],
        }
    )
    assert len(labelled(rows, plan)) == 3
    assert len(labelled(rows, plan.model_copy(update={"label_delay_days": 11.0}))) == 2
    later = plan.model_copy(update={"label_delay_days": 11.0, "drawn": date(2025, 2, 11)})
    assert len(labelled(rows, later)) == 3, "their age is counted to the day on which they were drawn"
    assert period_of(rows["index_time"], plan).tolist() == ["2025-01"] * 3
    weekly = plan.model_copy(update={"period": "week"})
    assert period_of(rows["index_time"], weekly)[0] == "2024-12-30 to 2025-01-05"
