"""The table of results."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from clinimm.staining import table
from clinimm.staining.agreement import Figure
from clinimm.staining.image_metrics import SetDistance
from tests.staining.measured_toy import BASELINES, draw_measured

MEASURED = draw_measured(0, {"model": 0.8, "quadratic": 0.4}, looks={"model": 24.0, "quadratic": 23.0})
RESULT = table.result_table(MEASURED, "model")


def _row(method: str, metric: str) -> dict[str, object]:
    found = RESULT[(RESULT["method"] == method) & (RESULT["metric"] == metric)]
    assert len(found) == 1
    return dict(found.iloc[0])


def test_every_method_has_every_figure_once() -> None:
    assert tuple(RESULT.columns) == table.COLUMNS
    assert not RESULT.duplicated(["method", "stain", "metric"]).any()
    named = {metric.name for metric in table.METRICS}
    for method in (*BASELINES, "model"):
        assert named <= set(RESULT.loc[RESULT["method"] == method, "metric"])


def test_every_figure_has_its_interval_or_a_reason() -> None:
    lacking = RESULT[RESULT["low"].isna() | RESULT["value"].isna()]
    assert (lacking["reason"] != "").all()
    assert (RESULT["n"] > 0).all()


def test_a_paired_difference_is_that_of_a_paired_t_test() -> None:
    images = MEASURED.images
    model, other = (
        images.loc[images["method"] == name, "psnr"].to_numpy() for name in ("model", "quadratic")
    )
    theirs = stats.ttest_rel(model, other).confidence_interval(0.95)
    row = _row("model - quadratic", "psnr")
    assert (row["low"], row["high"]) == pytest.approx((theirs.low, theirs.high))


def test_the_best_baseline_is_the_smallest_where_less_is_better() -> None:
    images = MEASURED.images
    real = images.loc[images["method"] == "real", "h_score"].to_numpy()
    errors = {
        name: np.abs(images.loc[images["method"] == name, "h_score"].to_numpy() - real).mean()
        for name in BASELINES
    }
    best = min(errors, key=lambda name: errors[name])
    assert _row(f"model - {best}", "h_score_error")["value"] == pytest.approx(
        _row("model", "h_score_error")["value"] - errors[best]  # type: ignore[operator]
    )


def test_agreement_limits_stand_in_the_table() -> None:
    low, bias, high = (_row("model", f"positivity_index_{end}") for end in ("lower", "bias", "upper"))
    assert low["value"] < bias["value"] < high["value"]  # type: ignore[operator]
    assert bias["unit"] == "share of nuclei"


def test_region_correlation_takes_content_out() -> None:
    raw, partial = (_row("copy", name)["value"] for name in ("region_correlation_raw", "region_correlation"))
    assert raw > 0.6  # type: ignore[operator]  # copy follows how much tissue there is
    assert abs(partial) < 0.3  # type: ignore[arg-type]


def test_an_image_without_nuclei_counts_as_none_positive() -> None:
    images = MEASURED.images.copy()
    images.loc[images["method"] == "copy", "positivity_index"] = np.nan
    measured = draw_measured(0, {})
    object.__setattr__(measured, "images", images)
    assert (table.totals(measured, "positivity_index", "copy") == 0).all()


def test_set_distances_and_several_stains_join() -> None:
    distance = SetDistance(Figure(1.0, 0.5, 1.5, 40), Figure(0.1, 0.0, 0.2, 40))
    joined = table.join_tables([RESULT, table.result_table(MEASURED, "model", {"model": distance})])
    assert {"fid", "kid"} <= set(joined["metric"])
    assert table.join_tables([]).empty


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(ValueError, match="'mine' is not among"):
        table.result_table(MEASURED, "mine")
