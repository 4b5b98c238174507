from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from clinimm.progress import QUIET
from clinimm.report.many import write_pages
from clinimm.report.stage import run as run_stage


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


def test_a_subject_that_is_refused_stops_nobody_and_is_named(run) -> None:
    stale = run.workspace.stage("report") / "patients" / "nobody.html"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.write_text("of an older run")
    found = write_pages(run.workspace, ["nobody", run.subject], QUIET)
    assert [page.subject_id for page in found] == ["nobody", run.subject]
    assert "no held-out prediction" in (found[0].reason or "") and found[1].reason is None
    assert list(_pages(run.workspace.root)) == [f"{run.subject}.html"]


def test_the_stage_lists_whose_page_is_missing_and_links_only_the_others(run) -> None:
    path = run.workspace.root / "explain" / "summary.parquet"
    table = pd.read_parquet(path)
    pd.concat([table, table.assign(subject_id="nobody")]).to_parquet(path)
    notes = run_stage(run.workspace, QUIET)
    assert (notes["patients"], notes["refused"]) == (len(table), 1)
    listed = pd.read_parquet(run.workspace.root / "report" / "refused.parquet")
    assert listed["subject_id"].tolist() == ["nobody"] and "held-out" in listed["reason"][0]
    index = (run.workspace.root / "report" / "index.html").read_text()
    assert run.subject in index and "nobody" not in index
