from __future__ import annotations

import numpy as np
import pytest

from clinimm.audit.engine.measures import measure
from clinimm.audit.policy import PACKAGED, load_policy
from clinimm.audit.run_rows import attributes_of, rows_of
from clinimm.audit.table.study import Study
from clinimm.evaluate.operating import OperatingPoint
from clinimm.evaluate.panel import panel_of


@pytest.fixture(scope="module")
def policy():
    return load_policy(PACKAGED)


def study_of(tables, predictions, point, sex):
    panel = panel_of(predictions, ["severe"])
    return Study(rows_of(panel, point, {"sex": np.array(sex, dtype=object)}, 0), point.threshold, "subjects")


def test_availability_of_each_modality_is_an_attribute_where_it_varies(tables, policy):
    predictions = tables.run_tables(n=60).predictions
    predictions.loc[predictions.index[:20], "modalities_present"] = "ehr"
    found = attributes_of(tables.cohort(60), predictions, sorted(predictions["subject_id"].unique()), policy)
    assert set(found["has notes"]) == {"yes", "no"} and (found["has notes"] == "no").sum() == 20
    assert "has ehr" not in found
    assert set(found["modalities_present"]) == {"ehr", "ehr+notes"}


def test_the_policys_attributes_limit_what_is_shown_but_not_what_is_ruled(tables, policy):
    predictions = tables.run_tables(n=60).predictions
    narrow = policy.model_copy(update={"attributes": ("site",)})
    found = attributes_of(tables.cohort(60), predictions, sorted(predictions["subject_id"].unique()), narrow)
    assert set(found) == {"site", "sex", "age_band"}


def test_each_fold_has_its_own_threshold(tables):
    label = np.r_[np.ones(20), np.zeros(20)]
    predictions = tables.frame(label, np.full(40, 0.5))
    predictions["fold"] = np.arange(40) % 2
    point = OperatingPoint(0.9, "", fits={(0, 0): 0.4, (0, 1): 0.6})
    study = study_of(tables, predictions, point, ["f"] * 40)
    assert study.tables(study.grouping("")).counts[0].tolist() == [[10, 10], [10, 10]]


def test_repeats_are_averaged_and_the_subject_stays_the_unit(tables):
    import pandas as pd

    generator = np.random.default_rng(0)
    label = np.r_[np.ones(40), np.zeros(60)]
    sex = np.where(generator.random(100) < 0.5, "f", "m").tolist()
    once = tables.frame(label, tables.scores(generator, label, 1.0))
    often = pd.concat([once.assign(repeat=repeat) for repeat in range(5)])
    point = OperatingPoint(0.5, "")
    alone, repeated = (study_of(tables, table, point, sex) for table in (once, often))
    for attribute in ("", "sex"):
        for name in ("auroc", "fnr", "fpr", "ppv", "brier", "observed_less_predicted"):
            first, second = (one.figures(one.grouping(attribute), name) for one in (alone, repeated))
            assert second.value == pytest.approx(first.value), name
            ends, others = first.bounds(0.95), second.bounds(0.95)
            for one, other in zip(ends, others, strict=True):
                # the design effect of five equal rows is 5 n/(n-1): a shade wider, never narrower
                assert other == pytest.approx(one, abs=0.02), name
            assert repeated.cases(name, 1.0) * second.n == pytest.approx(first.n), name


def test_auroc_over_repeats_is_the_mean_and_its_variance_that_of_mean_placements(tables):
    from clinimm.evaluate.metrics import auroc, delong_variance, placements

    table = tables.run_tables(n=80, repeats=3).predictions
    panel = panel_of(table, ["severe"])
    sex = np.where(np.arange(80) % 3 == 0, "f", "m")
    study = study_of(tables, table, OperatingPoint(0.5, ""), sex.tolist())
    figures = study.figures(study.grouping("sex"), "auroc")
    for place, level in enumerate("fm"):
        member = sex == level
        label, score = panel.label[member, 0], panel.probability[member, :, 0]
        parts = [placements(label, score[:, column]) for column in range(3)]
        means = [np.mean([part[side] for part in parts], axis=0) for side in (0, 1)]
        assert figures.value[place] == pytest.approx(
            np.mean([auroc(label, score[:, column]) for column in range(3)])
        )
        assert figures.standard_error[place] ** 2 == pytest.approx(delong_variance(*means))
    rest = study.reference(study.places(_rule())[0], "auroc", "rest")
    assert rest[0].value[rest[1]] == pytest.approx(figures.value[1])


def test_without_repeats_nothing_is_clustered(tables):
    panel = panel_of(tables.run_tables(n=40).predictions, ["severe"])
    rows = rows_of(panel, OperatingPoint(0.5, ""), {"sex": np.array(["f", "m"] * 20, dtype=object)}, 0)
    assert rows.cluster is None and rows.repeats == 1
    assert measure(rows.segments(rows.everybody()), 0.5, ["fnr"])["fnr"].n[0] == panel.positives


def _rule():
    from clinimm.audit.policy import Rule

    return Rule(id="r", metric="auroc", stat="difference", attribute="sex", margin=0.1)
