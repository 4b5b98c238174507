from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from clinimm.report.facts import RunFacts
from clinimm.report.model_card import model_card


def _figures(page: str) -> list[str]:
    return [base64.b64decode(text).decode() for text in re.findall(r"image/svg\+xml;base64,([^\"]+)", page)]


def test_every_metric_stands_beside_its_n_and_interval(run) -> None:
    facts = RunFacts(run.workspace)
    page = model_card(facts)
    for name in ("auroc", "auprc", "brier", "calibration_slope", "sensitivity"):
        figure = facts.metrics["fused"][name]
        cell = f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
        assert re.search(re.escape(cell) + rf'</td><td class="figure">{figure["n"]}</td>', page), name


def test_it_holds_flow_verdicts_controls_subsets_groups_and_figures(run) -> None:
    page = model_card(RunFacts(run.workspace))
    for words in (
        "Fusion helps", "Audit: inconclusive", "Not registered", "missingness only", "gradient boosting",
        "Health record + Clinical notes", "sex: male", "too few patients to show", "truncated", "first film",
    ):  # fmt: skip
        assert words in page
    figures = _figures(page)
    assert len(figures) == 4, "the flow of patients and three figures"
    assert figures[0].startswith("<svg")


def test_limitations_are_written_from_the_runs_own_figures(run) -> None:
    page = model_card(RunFacts(run.workspace))
    limits = page[page.index('id="limits"') : page.index('id="model"')]
    assert "Only 80 labelled held-out patients" in limits
    assert "cross-validation" in limits
    assert "All data come from one site" in limits
    assert "Only a few positives." in limits, "the cohort's own warning"
    assert "Race is unknown for 100" in limits
    assert "1 item of the export could not be read" in limits
    assert "Pathology is there for a few held-out patients only" in limits


def test_limitations_tell_no_share_from_which_a_small_count_follows(run) -> None:
    """Of 80 patients 3 lack their sex, or all but 3 do."""
    cohort = run.workspace.root / "cohort" / "cohort.parquet"
    table = pd.read_parquet(cohort)
    for known, words in ((3, "Sex is unknown for nearly all patients"), (40, "Sex is unknown for 50% of")):
        table["sex"] = [*["male"] * known, *[None] * (len(table) - known)]
        table.to_parquet(cohort)
        assert words in model_card(RunFacts(run.workspace)).replace("\N{NO-BREAK SPACE}", "")


def test_hostile_text_stays_text(make_run: Callable, xss: tuple[str, ...]) -> None:
    page = model_card(RunFacts(make_run(hostile=" ".join(xss)).workspace))
    assert not any(text in page for text in xss if "<" in text)
    assert "<script" not in page and "onerror=alert(1)&gt;" in page
    assert all("<script" not in figure for figure in _figures(page))


def test_it_is_the_same_every_time_and_names_no_folder(run) -> None:
    page = model_card(RunFacts(run.workspace))
    assert page == model_card(RunFacts(run.workspace))
    assert str(run.workspace.root) not in page


def test_intended_use_is_quoted_with_its_digest(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "No text under governance/intended-use.md" in model_card(RunFacts(run.workspace))
    (tmp_path / "governance").mkdir()
    (tmp_path / "governance" / "intended-use.md").write_text("# Use\n\nFor **research** <b>only</b>.\n")
    page = model_card(RunFacts(run.workspace))
    assert "<h3>Use</h3>" in page and "For <strong>research</strong> &lt;b&gt;only&lt;/b&gt;." in page


def test_an_unfinished_run_gets_a_card_that_says_what_is_missing(run) -> None:
    for stage in ("evaluate", "audit", "train", "ingest"):
        shutil.rmtree(run.workspace.root / stage)
    (run.workspace.root / "cohort" / "flow.json").unlink()
    page = model_card(RunFacts(run.workspace))
    assert "This run was not evaluated" in page and "nobody looked at whom it serves worse" in page
    assert "no model was saved" in page
