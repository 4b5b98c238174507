from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from clinimm.core.errors import DataError
from clinimm.evaluate.panel import align, panel_of, tuning_panel_of

LABEL = np.array([1.0, 0.0, 1.0, 0.0])


def test_rows_without_a_label_are_left_out(tables):
    frame = tables.frame([1.0, 0.0, np.nan], [0.9, 0.1, 0.5])
    assert panel_of(frame, ["severe"]).n == 2


def test_order_of_rows_changes_nothing(tables):
    frame = pd.concat([tables.frame(LABEL, LABEL, repeat=r) for r in range(2)])
    shuffled = panel_of(frame.sample(frac=1, random_state=0), ["severe"])
    straight = panel_of(frame, ["severe"])
    assert (shuffled.probability == straight.probability).all()
    assert shuffled.subject_ids.tolist() == straight.subject_ids.tolist()


@pytest.mark.parametrize("value", [1.2, -0.1, float("nan")])
def test_a_probability_outside_0_to_1_is_an_error(tables, value):
    with pytest.raises(DataError, match="outside 0 to 1"):
        panel_of(tables.frame(LABEL, [value, 0.1, 0.2, 0.3]), ["severe"])


def test_a_subject_predicted_twice_in_a_repeat_is_an_error(tables):
    frame = tables.frame(LABEL, LABEL)
    with pytest.raises(DataError, match="predicted twice"):
        panel_of(pd.concat([frame, frame]), ["severe"])


def test_a_label_that_changes_between_repeats_is_an_error(tables):
    with pytest.raises(DataError, match="two labels"):
        panel_of(
            pd.concat([tables.frame(LABEL, LABEL), tables.frame(1 - LABEL, LABEL, repeat=1)]), ["severe"]
        )


def test_no_label_at_all_is_an_error(tables):
    with pytest.raises(DataError, match="nothing to evaluate"):
        panel_of(tables.frame([np.nan] * 4, LABEL), ["severe"])


def test_multiclass_labels_as_class_index_or_as_indicator_are_the_same(tables):
    index = np.array([0, 1, 2, 1, 0, 2])
    names = ["a", "b", "c"]
    by_index = pd.concat([tables.frame(index, np.full(6, 0.3), class_name=name) for name in names])
    by_flag = pd.concat(
        [tables.frame(index == k, np.full(6, 0.3), class_name=name) for k, name in enumerate(names)]
    )
    assert (
        panel_of(by_index, names, "multiclass").label == panel_of(by_flag, names, "multiclass").label
    ).all()


def test_a_control_that_skips_a_subject_answers_with_its_mean(tables):
    fused = panel_of(tables.frame(LABEL, LABEL), ["severe"])
    partial = panel_of(tables.frame(LABEL[:2], [0.8, 0.2]), ["severe"])
    _, other = align(partial, fused)
    assert other.probability[:, 0, 0] == pytest.approx([0.8, 0.2, 0.5, 0.5])


def test_predictors_without_a_common_repeat_cannot_be_compared(tables):
    one = panel_of(tables.frame(LABEL, LABEL), ["severe"])
    with pytest.raises(DataError, match="share no repeat"):
        align(panel_of(tables.frame(LABEL, LABEL, repeat=4), ["severe"]), one)


def test_a_subject_may_tune_two_fits_of_one_repeat(tables):
    rows = pd.concat([tables.frame(LABEL, LABEL, fold=fold) for fold in (0, 1)])
    assert tuning_panel_of(rows, ["severe"]).probability.shape == (4, 2, 1)
    assert tuning_panel_of(rows.assign(label=np.nan), ["severe"]) is None
