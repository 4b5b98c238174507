"""Broken input: dates that cannot be, months without anybody, parts that are gone, labels that are late."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from clinimm.core.errors import DataError
from clinimm.monitor.arrival import check_arrival, without_future
from clinimm.monitor.charts import periods_of
from clinimm.monitor.finding import BREACH, QUIET, Finding
from clinimm.monitor.performance import check_performance
from clinimm.monitor.plan import PACKAGED, MonitoringPlan
from clinimm.monitor.read_table import read_table
from clinimm.monitor.run import content_of, look
from clinimm.monitor.snapshot import Snapshot, labelled
from tests.monitor.conftest import START, draw

DAY = date(2025, 12, 1)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Snapshot]:
    def write(table: pd.DataFrame, attributes: tuple[str, ...] = ("sex",)) -> Snapshot:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
        table.to_parquet(path, index=False)
        return read_table(path, attributes)

    return write


def _found(reference: Snapshot, now: Snapshot, plan: MonitoringPlan) -> dict[str, Finding]:
    kept, future = without_future(now, DAY)
    return {one.about: one for one in check_arrival(reference, kept, plan, future)}


def test_one_date_in_the_future_does_not_make_every_label_final(
    read: Callable[..., Snapshot], plan: MonitoringPlan
) -> None:
    plan = plan.model_copy(update={"label_delay_days": 30.0})
    reference, table = read(draw(120, 1)), draw(120, 2, day=90)
    good = read(table)
    table.loc[3, "index_time"] = pd.Timestamp("2031-01-01", tz="UTC")
    bad = read(table)
    assert len(labelled(bad.rows, plan)) == 119
    kept, future = without_future(bad, DAY)
    assert future == 1 and len(labelled(kept.rows, plan)) <= len(labelled(good.rows, plan)) < 100
    told = _found(reference, bad, plan)["dates"]
    assert told.verdict == BREACH and "1 prediction dated in the future" in told.sentence
    assert _found(reference, good, plan)["dates"].verdict == QUIET
    content = content_of(look(reference, bad, plan, day=DAY), reference, bad, plan, PACKAGED, None, None, DAY)
    assert content["now"]["predictions"] == 119 and content["now"]["to"] < "2026"
    with pytest.raises(DataError, match="dated after"):
        look(reference, read(table.assign(index_time=pd.Timestamp("2031-01-01", tz="UTC"))), plan, day=DAY)


def test_an_empty_month_is_told_and_shown_but_not_where_few_come(
    read: Callable[..., Snapshot], plan: MonitoringPlan
) -> None:
    def without_may(n: int) -> Snapshot:
        table = draw(n, 3, day=90)
        return read(table[table["index_time"].dt.month != 5])

    reference = read(draw(120, 1))
    many, few = (_found(reference, without_may(n), plan)["dates"] for n in (200, 30))
    assert many.verdict == BREACH and "Nobody came in 2025-05" in many.sentence
    assert few.verdict == QUIET
    row = {"period": "2025-04", "auroc": {"value": 0.8, "low": 0.7, "high": 0.9}}
    shown = periods_of("auroc", [row], [], ["2025-04", "2025-05"])
    assert [(name, one is None) for name, one, _ in shown] == [("2025-04", False), ("2025-05", True)]


def test_rows_without_a_date_and_parts_that_are_gone_are_told(
    read: Callable[..., Snapshot], plan: MonitoringPlan
) -> None:
    reference, table = read(draw(120, 1)), draw(120, 2, day=90)
    table.loc[:4, "index_time"] = pd.NaT
    found = _found(reference, read(table.drop(columns=["ehr.lactate", "ehr.crp", "sex"]), ()), plan)
    assert "5 predictions without an index time" in found["dates"].sentence
    assert found["parts"].verdict == BREACH
    assert "modality ehr" in found["parts"].sentence and "attribute sex" in found["parts"].sentence
    assert _found(reference, read(draw(120, 4)), plan)["parts"].verdict == QUIET


def test_duplicates_are_refused_with_their_number_and_place(read: Callable[..., Snapshot]) -> None:
    table = draw(60, 2)
    with pytest.raises(DataError, match="2 rows repeat an earlier one, first row 61 below the header"):
        read(pd.concat([table, table.head(2)]))


def test_labels_that_are_late_are_counted(plan: MonitoringPlan) -> None:
    plan = plan.model_copy(update={"label_delay_days": 30.0})
    before, now = draw(120, 1), draw(100, 2, days=100)
    (finding,), _ = check_performance("x", before, now.assign(label=float("nan")), 0.4, plan, 3)
    due = int((now["index_time"] <= now["index_time"].max() - pd.Timedelta(days=30)).sum())
    assert f"{due} of {due} that are old enough have no label" in finding.sentence
    assert "say --drawn DATE" in finding.sentence
    plan = plan.model_copy(update={"drawn": (now["index_time"].max() + pd.Timedelta(days=31)).date()})
    (finding,), _ = check_performance("x", before, now.assign(label=float("nan")), 0.4, plan, 3)
    assert "100 of 100 that are old enough have no label." in finding.sentence
    assert now["index_time"].min() > START
