from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clinimm.core.attribution import NEAREST_COLUMNS
from clinimm.progress import QUIET
from clinimm.report.facts import RunFacts
from clinimm.report.many import write_pages
from clinimm.report.nearest import cases_of, kept_cases
from clinimm.report.patient_report import patient_page
from clinimm.report.subject import read_subject
from clinimm.settings import load_run, write_settings
from clinimm.workspace import Workspace

_ROW = {"task": "severe", "class_name": "severe", "model_digest": "d" * 64}


def _table(subject: str, outcomes: list[float], **changed: str) -> pd.DataFrame:
    """The nearest lies at distance 1 and closer than 99 % of pairs, the next at 2 and 98 %, and so on."""
    rows = [
        _ROW
        | {
            "subject_id": subject,
            "rank": rank,
            "case_id": f"TRAINED{rank}",
            "distance": float(rank),
            "percentile": rank / 100,
            "outcome": outcome,
            "sources": json.dumps({"ehr": 0.5, "notes": 0.05, "radiology": 0.051}),
        }
        | changed
        for rank, outcome in enumerate(outcomes, start=1)
    ]
    return pd.DataFrame(rows[::-1], columns=list(NEAREST_COLUMNS))


def _section(page: str) -> str:
    return page[page.index('id="nearest"') : page.index('id="origin"')]


def test_a_page_lists_nobody_unless_asked(run) -> None:
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert 'id="nearest"' not in page


def test_they_stand_after_the_checks_with_the_caveat_and_the_count(run) -> None:
    page = patient_page(RunFacts(run.workspace), run.subject, nearest=_table(run.subject, [1, 0, 1, 0, 1]))
    assert page.index('id="checks"') < page.index('id="nearest"')
    section = _section(page)
    assert section.index("Research use only. Likeness to the model is no evidence.") < section.index("<ol")
    assert "Clinically they may be unlike" in section
    assert re.findall(r"<code>(\w+)</code>", section) == [f"TRAINED{rank}" for rank in range(1, 6)]
    assert "<p>3 of 5 had it. That counts named patients; it is no probability.</p>" in section
    assert "60" not in section, "no share is made of it"
    assert "Distance 1.0, closer than 99\u00a0% of pairs" in section


def test_the_caveat_says_research_use_even_where_the_model_is_released(run, monkeypatch) -> None:
    monkeypatch.setattr(RunFacts, "released", True)
    page = patient_page(RunFacts(run.workspace), run.subject, nearest=_table(run.subject, [1]))
    assert "Research use only" not in page[: page.index('id="nearest"')]
    assert "Research use only" in _section(page)


def test_an_outcome_that_was_not_known_is_said_and_not_counted(run) -> None:
    page = patient_page(RunFacts(run.workspace), run.subject, nearest=_table(run.subject, [1, np.nan, 0]))
    assert "1 of 2 whose outcome was known by then had it." in _section(page)
    assert _section(page).count("outcome not known by then") == 1


def test_sources_come_by_likeness_and_one_that_either_lacks_is_named(run) -> None:
    facts = RunFacts(run.workspace)
    found = cases_of(facts, read_subject(facts, run.subject), _table(run.subject, [1]))
    assert found is not None
    sources = found.rows[0].sources
    assert [(one.title, one.closer_than, one.alike) for one in sources] == [
        (facts.title("notes"), pytest.approx(0.95), True),
        (facts.title("radiology"), pytest.approx(0.949), False),
        (facts.title("ehr"), pytest.approx(0.5), False),
        (facts.title("pathology"), None, False),
    ]


@pytest.mark.parametrize(
    "changed", [{"model_digest": "e" * 64}, {"class_name": "other"}, {"subject_id": "S009"}]
)
def test_rows_about_something_else_are_left_out(run, changed: dict[str, str]) -> None:
    table = _table(run.subject, [1], **changed)
    section = _section(patient_page(RunFacts(run.workspace), run.subject, nearest=table))
    assert "TRAINED" not in section
    assert "No training patient could be compared" in section


def test_hostile_text_in_the_table_stays_text(run) -> None:
    table = _table(run.subject, [1], case_id="<script>alert(1)</script>")
    assert "<code>&lt;script&gt;" in _section(
        patient_page(RunFacts(run.workspace), run.subject, nearest=table)
    )


def test_a_run_that_asks_for_them_has_them_on_its_pages(run, tmp_path: Path) -> None:
    _table(run.subject, [1, 0]).to_parquet(run.workspace.root / "explain" / "nearest.parquet")
    assert kept_cases(RunFacts(run.workspace)) is None, "off unless asked"
    write_settings(run.workspace.config, run.workspace.root)
    asked = Workspace(load_run(run.workspace.root, ["explain.nearest_cases=2"]))
    write_pages(asked, [run.subject], QUIET)
    page = (run.workspace.root / "report" / "patients" / f"{run.subject}.html").read_text()
    assert "1 of 2 had it" in _section(page)
