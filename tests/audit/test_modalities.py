from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from clinimm.audit.engine.rows import Coded, Rows
from clinimm.audit.modalities import Coalitions, by_modality
from clinimm.audit.policy import Policy
from clinimm.audit.table.study import Study

RULES = [
    {"id": "missed", "metric": "fnr", "stat": "difference", "attribute": "sex", "margin": 0.1},
    {"id": "rank", "metric": "auroc", "stat": "difference", "attribute": "sex", "margin": 0.1},
]
_SAMPLES = 40
MISSED = Policy.model_validate({"schema": "clinimm.policy/1", "rules": RULES[:1]})
POLICY = Policy.model_validate({"schema": "clinimm.policy/1", "rules": RULES})


def coalitions(n=4000, seed=0, hidden_from="film", both=0.0):
    """Two sources of one signal; women's is weaker in ``hidden_from``, and lost when both are seen."""
    generator = np.random.default_rng(seed)
    label = (generator.random(n) < 0.3).astype(np.uint8)
    female = generator.random(n) < 0.5
    noise = generator.normal(size=(2, n))
    signal = {
        name: 2.0 * (label - 0.3) * np.where(female & (name == hidden_from), 0.2, 1.0) + noise[place]
        for place, name in enumerate(("ehr", "film"))
    }
    logits = [
        np.zeros(n),
        signal["ehr"],
        signal["film"],
        signal["ehr"] + signal["film"] - both * female,
    ]
    sex = {"sex": Coded(female.astype(int), ("male", "female"))}
    studies = [Study(Rows(label, expit(logit - 0.8), sex), 0.3, "subjects") for logit in logits]
    return Coalitions(("ehr", "film"), {"severe": studies})


def row(rows, rule, level):
    return next(one for one in rows if (one["rule"], one["level"]) == (rule, level))


def test_a_gap_that_comes_from_one_source_is_that_sources_share():
    found = by_modality(coalitions(), POLICY)
    share = row(found["shares"], "missed", "female")
    film, ehr = share["of"]["film"], share["of"]["ehr"]
    assert film[1] > 0.1 > abs(ehr[0])
    index = row(found["amplification"], "missed", "female")
    assert index["largest_single"]["modality"] == "film" and index["index"][2] < 0


def test_a_gap_that_only_the_whole_model_has_is_amplified():
    found = by_modality(coalitions(hidden_from="", both=2.0), POLICY)
    index = row(found["amplification"], "missed", "female")
    assert index["fused"][1] > 0.1 and index["index"][1] > 0.1


def test_shares_add_up_to_the_gap_less_that_of_nothing():
    found = by_modality(coalitions(), POLICY)
    for share, index in zip(found["shares"], found["amplification"], strict=True):
        total = sum(one[0] for one in share["of"].values())
        assert total == pytest.approx(share["total"][0], abs=1e-5)
        assert index["fused"][0] - share["nothing"] == pytest.approx(total, abs=1e-5)


def test_less_is_worse_where_the_measure_says_so():
    found = by_modality(coalitions(), POLICY)
    assert row(found["amplification"], "rank", "female")["fused"][0] > 0
    assert row(found["amplification"], "rank", "male")["fused"][0] < 0


def test_every_true_subset_is_audited_by_the_same_rules():
    found = by_modality(coalitions(), POLICY)
    assert [one["modalities"] for one in found["subsets"]] == [["ehr"], ["film"]]
    verdicts = {
        one["modalities"][0]: row(one["findings"], "missed", "female")["verdict"] for one in found["subsets"]
    }
    assert verdicts == {"ehr": "pass", "film": "fail"}


def test_intervals_of_index_and_shares_hold():
    """Samples whose truth is that of a very large one; 200 of 400 rows held it as often as they say."""
    large = by_modality(coalitions(n=100_000, seed=99), MISSED)
    truth_index = row(large["amplification"], "missed", "female")["index"][0]
    truth_share = row(large["shares"], "missed", "female")["of"]["film"][0]
    held = np.zeros(2)
    for seed in range(_SAMPLES):
        found = by_modality(coalitions(n=400, seed=seed), MISSED)
        index = row(found["amplification"], "missed", "female")["index"]
        share = row(found["shares"], "missed", "female")["of"]["film"]
        held += [index[1] <= truth_index <= index[2], share[1] <= truth_share <= share[2]]
    assert (held / _SAMPLES >= 0.94 - 2 * np.sqrt(0.05 * 0.95 / 200)).all(), held / _SAMPLES
