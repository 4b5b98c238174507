from __future__ import annotations

import numpy as np
import pandas as pd

from clinimm.staining.stages.audit import _findings, _status, audit_groups

LEARNABLE = {"stains": {"KI67": {"verdict": {"key": "learnable", "sentence": "It is."}}}}


def _tiles(subjects: int, worse: float = 0.0, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Four tiles a subject; ``worse`` is added to the error of women."""
    draw = np.random.default_rng(seed)
    ids = [f"s{number:03d}" for number in range(subjects)]
    sex = np.where(np.arange(subjects) % 2 == 0, "female", "male")
    cohort = pd.DataFrame({"subject_id": ids, "sex": sex, "site_id": draw.choice(["a", "b"], subjects)})
    rows = pd.DataFrame({"subject_id": np.repeat(ids, 4), "stain": "KI67"})
    own = np.repeat(draw.normal(0.1, 0.02, subjects) + worse * (sex == "female"), 4)
    return rows.assign(
        error=own + draw.normal(0, 0.01, len(rows)), refused=draw.random(len(rows)) < 0.05
    ), cohort


def _verdict(subjects: int, worse: float = 0.0, seed: int = 0) -> int:
    return _status(_findings(LEARNABLE, audit_groups(*_tiles(subjects, worse, seed), seed)))


def test_equal_groups_pass_and_a_group_that_is_served_worse_does_not() -> None:
    assert [_verdict(40, seed=seed) for seed in range(8)].count(1) <= 1  # 5 % of false alarms in all
    assert _verdict(40, worse=0.05) == 1


def test_the_difference_is_that_of_the_means() -> None:
    tiles, cohort = _tiles(40, worse=0.05)
    rows = audit_groups(tiles, cohort)
    women = next(r for r in rows if r["group"] == "female" and r["measure"] == "error")
    own = tiles.merge(cohort).groupby("sex")["error"].mean()
    assert abs(women["difference"]["value"] - (own["female"] - own["male"])) < 1e-9
    assert women["n"] == women["others"] == 20


def test_groups_too_small_to_compare_leave_it_undecided() -> None:
    assert _verdict(6, worse=0.5) == 2
    assert _status(_findings({"stains": {}}, [])) == 1
