from __future__ import annotations

import subprocess
import sys

from clinimm.config import PipelineConfig
from clinimm.progress import QUIET
from clinimm.report.stage import run as run_report
from clinimm.workspace import Workspace


def test_it_writes_card_pages_and_the_page_that_links_them(run) -> None:
    notes = run_report(run.workspace, QUIET)
    folder = run.workspace.root / "report"
    assert notes["patients"] == 1
    index = (folder / "index.html").read_text()
    for link in ("model_card.html", f"patients/{run.subject}.html", "../audit/audit.html"):
        assert f'href="{link}"' in index
        assert (folder / link).exists()


def test_no_more_pages_than_asked_for(run) -> None:
    config = run.workspace.config.model_dump(by_alias=True) | {"report": {"patients": 0}}
    notes = run_report(Workspace(PipelineConfig.model_validate(config)), QUIET)
    assert notes["patients"] == 0


def test_two_runs_of_the_stage_write_the_same_bytes(run) -> None:
    folder = run.workspace.root / "report"
    run_report(run.workspace, QUIET)
    first = {path.name: path.read_bytes() for path in folder.rglob("*.html")}
    run_report(run.workspace, QUIET)
    assert first == {path.name: path.read_bytes() for path in folder.rglob("*.html")}


def test_reports_are_written_without_torch() -> None:
    code = "import sys, clinimm.report.stage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
