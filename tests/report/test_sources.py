from __future__ import annotations

import pytest

from clinimm.report.facts import RunFacts
from clinimm.report.sources import sources_of
from clinimm.report.subject import read_subject


def test_what_is_there_is_counted_and_what_is_not_is_named(run) -> None:
    facts = RunFacts(run.workspace)
    found = {one.title: one for one in sources_of(facts, read_subject(facts, run.subject))}
    assert {title: one.amount for title, one in found.items()} == {
        "Health record": "5 entries",
        "Clinical notes": "1 note",
        "Radiology": "1 image",
        "Pathology": "1 slide",
    }
    bare = sources_of(facts, read_subject(facts, run.bare))
    assert [one.title for one in bare if not one.present] == ["Radiology", "Pathology"]


def test_the_cost_of_absence_is_the_measured_one_or_none(run, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = RunFacts(run.workspace)
    cost = {"difference": 0.2, "low": 0.1, "high": 0.3, "n": 80}
    measured = {("ehr", "notes", "pathology"): {"full_less_subset": cost}}
    monkeypatch.setattr(RunFacts, "subset", lambda _, names: measured.get(tuple(sorted(names))))
    found = {one.title: one.cost for one in sources_of(facts, read_subject(facts, run.subject))}
    assert found.pop("Radiology") == cost
    assert set(found.values()) == {None}
