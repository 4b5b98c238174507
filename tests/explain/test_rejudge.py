from __future__ import annotations

import pandas as pd
import pytest

from clinimm.audit.explanation_policy import ExplanationPolicy
from clinimm.core.attribution import LOCALISATION_COLUMNS
from clinimm.explain.check import Check
from clinimm.explain.rejudge import judged_again, localisation_checks
from clinimm.explain.tables import Explanations


def _located(hits: int, pictures: int) -> pd.DataFrame:
    rows = [
        {
            "modality": "radiology",
            "digest": f"d{n}",
            "hit": n < hits,
            "mass_inside": n / pictures,
            "iou": 0.25,
        }
        for n in range(pictures)
    ]
    return pd.DataFrame(rows, columns=list(LOCALISATION_COLUMNS))


def _found() -> Explanations:
    named = {"subject_id": "s", "task": "t", "class_name": "c", "method": "m", "model_digest": "d"}
    check = {"check": "deletion", "value": -0.2, "against": 0.3, "judged": 0.5}
    return Explanations.from_rows(
        {
            "checks": [named | check | {"modality": name} for name in ("radiology", "notes")],
            "standings": [
                named | {"modality": name, "state": "shown", "failed": "[]", "sentence": "All 1 checks hold."}
                for name in ("radiology", "notes")
            ],
        }
    )


def test_the_figures_are_means_over_pictures() -> None:
    found = {one.name: one.value for one in localisation_checks(_located(9, 12))["radiology"]}
    assert found == pytest.approx({"pointing_game": 0.75, "mass_inside": 5.5 / 12, "iou": 0.25})


def test_a_few_pictures_are_no_figure() -> None:
    assert localisation_checks(_located(0, 9)) == {}
    assert localisation_checks(pd.DataFrame(columns=list(LOCALISATION_COLUMNS))) == {}


@pytest.mark.parametrize(("hits", "state"), [(11, "shown"), (6, "hidden")])
def test_maps_of_a_release_that_miss_known_findings_stand_as_the_policy_says(hits: int, state: str) -> None:
    rules = [
        {"check": "deletion", "limit": 0},
        {"check": "pointing_game", "limit": 0.9, "fails": "hidden"},
    ]
    policy = ExplanationPolicy.model_validate({"rules": rules})
    again = judged_again(_found(), localisation_checks(_located(hits, 12)), policy).set_index("modality")
    assert again.loc["radiology", "state"] == state
    assert again.loc["notes", "state"] == "shown", "nobody marked findings in notes"
    if state == "hidden":
        assert "known finding is 0.50, at least 0.9 is asked" in again.loc["radiology", "sentence"]


def test_without_figures_of_the_release_standings_stay_as_the_maps_own_checks_say() -> None:
    policy = ExplanationPolicy.model_validate({"rules": [{"check": "deletion", "limit": 0}]})
    found = _found()
    pd.testing.assert_frame_equal(judged_again(found, {}, policy), found.standings)
    assert (
        judged_again(found, {"notes": [Check("randomisation", "notes", 0.9)]}, policy)["state"]
        .eq("shown")
        .all()
    )
