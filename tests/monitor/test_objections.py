from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clinimm.core.errors import DataError
from clinimm.monitor.finding import BREACH, CANNOT_TELL, QUIET
from clinimm.monitor.objections import check_objections, read_feedback
from clinimm.monitor.plan import MonitoringPlan
from clinimm.serve.feedback import Feedback
from clinimm.serve.proposals import proposals


def _verdicts(objects: list[bool], model: str = "m") -> list[Feedback]:
    return [
        Feedback(
            "object" if one else "agree",
            "demo",
            f"S{place}",
            "severe",
            model,
            0.4,
            "dr",
            None,
            "wrong-answer" if one else None,
            "Mrs Doe was not ill",
            None,
            f"2026-01-{place % 28 + 1:02d}T10:00:00+00:00",
        )
        for place, one in enumerate(objects)
    ]


def _file(tmp_path: Path, rows: list[Feedback]) -> pd.DataFrame:
    path = tmp_path / "proposals.parquet"
    proposals(rows, with_comments=True).to_parquet(path, index=False)
    return read_feedback(path)


def test_the_exported_table_is_read_without_comments_or_people(tmp_path: Path) -> None:
    found = _file(tmp_path, [*_verdicts([True, False]), *_verdicts([True], "other")])
    assert list(found) == ["time", "objects", "reason", "model_digest"]
    assert found["time"].is_monotonic_increasing
    assert found["objects"].sum() == 2


def test_many_objections_alarm_and_few_do_not(tmp_path: Path, plan: MonitoringPlan) -> None:
    generator = np.random.default_rng(0)
    for share, verdict in ((0.6, BREACH), (0.1, QUIET)):
        table = _file(tmp_path, _verdicts((generator.random(60) < share).tolist()))
        (finding,), board = check_objections(table, ["m"], plan)
        assert finding.verdict == verdict
        assert board["reasons"] == {"wrong-answer": round(60 * (finding.value or 0))}
        assert [row["period"] for row in board["periods"]] == ["2026-01"]
    (none,), board = check_objections(table, ["other"], plan)
    assert (none.verdict, board["other_models"]) == (CANNOT_TELL, 60)


def test_another_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(DataError, match="feedback export"):
        read_feedback(path)
    pd.DataFrame({"code": ["FEEDBACK//agree"]}).to_parquet(path)
    with pytest.raises(DataError, match="no column subject_id"):
        read_feedback(path)
