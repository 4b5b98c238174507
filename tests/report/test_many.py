from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from clinimm.core.errors import DataError
from clinimm.progress import QUIET
from clinimm.report.many import write_pages


def _pages(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "report" / "patients").glob("*.html")}


@pytest.mark.slow
def test_two_processes_write_the_same_pages_as_one(run) -> None:
    subjects = list(
        pd.read_parquet(run.workspace.root / "predict" / "predictions.parquet")["subject_id"][:12]
    )
    write_pages(run.workspace, subjects, QUIET, processes=1)
    alone = _pages(run.workspace.root)
    for path in (run.workspace.root / "report" / "patients").glob("*.html"):
        path.unlink()
    write_pages(run.workspace, subjects, QUIET, processes=2)
    assert _pages(run.workspace.root) == alone and len(alone) == 12


def test_a_subject_without_a_prediction_is_an_error(run) -> None:
    with pytest.raises(DataError, match="no held-out prediction"):
        write_pages(run.workspace, ["nobody"], QUIET)
