from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.core.errors import DataError
from clinimm.staining.refusal import LEAST_DAMAGE, Thresholds, TileScores, fit_thresholds, refusal_curve


def _scores(count: int, seed: int = 0) -> list[TileScores]:
    generator = np.random.default_rng(seed)
    return [TileScores(*generator.gamma(2, size=3), quality=0.0) for _ in range(count)]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.floats(0.01, 0.5), st.integers(0, 5))
def test_never_more_tuning_tiles_than_the_share_are_refused(count: int, share: float, seed: int) -> None:
    scores = _scores(count, seed)
    found = fit_thresholds(scores, share)
    refused = sum(bool(found.reasons(one)) for one in scores)
    assert refused == found.refused <= share * count + 1e-9


def test_the_share_is_used_up() -> None:
    assert fit_thresholds(_scores(400), 0.05).refused >= 19


def test_each_reason_is_named() -> None:
    limits = Thresholds(1.0, 0.1, 1.5, 0.25, 10, 0)
    assert limits.reasons(TileScores(0.9, 0.05, 1.0, 0.1)) == ()
    assert limits.reasons(TileScores(1.1, 0.05, 1.0, 0.1)) == ("outside",)
    assert limits.reasons(TileScores(1.1, 0.2, 1.6, 0.3)) == (
        "outside",
        "uncertain",
        "hallucination",
        "quality",
    )
    assert limits.reasons(TileScores(float("nan"), 0.05, 1.0, 0.1)) == ("outside",)


def test_risk_is_above_one_exactly_where_a_tile_is_refused() -> None:
    limits = fit_thresholds(_scores(50), 0.1)
    for one in _scores(200, seed=9):
        assert (limits.risk(one) > 1) == bool(limits.reasons(one))


def test_slight_damage_never_refuses() -> None:
    limits = fit_thresholds([TileScores(0.1, 0.1, 0.1, 0.0)] * 100, 0.05)
    assert limits.quality == LEAST_DAMAGE


def test_json_keeps_the_thresholds() -> None:
    limits = fit_thresholds(_scores(30), 0.1)
    assert Thresholds.from_json(json.loads(json.dumps(limits.to_json()))) == limits


def _tiles(seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    error = generator.gamma(2, size=60)
    return error + generator.normal(0, 1, 60), error, [f"s{n % 12:02d}" for n in range(60)]


def test_the_area_is_the_mean_over_every_number_of_kept_tiles() -> None:
    risk, error, subjects = _tiles()
    found = refusal_curve(risk, error, subjects)
    ordered = error[np.argsort(risk)]
    assert found.area.value == pytest.approx(np.mean([ordered[:kept].mean() for kept in range(1, 61)]))
    assert found.random.value == pytest.approx(error.mean())
    oracle = np.sort(error)
    assert found.oracle.value == pytest.approx(np.mean([oracle[:kept].mean() for kept in range(1, 61)]))
    assert found.kept_error[0] == pytest.approx(error.mean())
    assert found.kept_error[10] == pytest.approx(ordered[:30].mean())
    json.dumps(found.to_json(), allow_nan=False)


def test_the_oracle_gains_one_chance_nothing_and_the_wrong_way_round_less_than_nothing() -> None:
    _, error, subjects = _tiles()
    assert refusal_curve(error, error, subjects).gain.value == pytest.approx(1)
    assert refusal_curve(np.zeros(60), error, subjects).gain.value == pytest.approx(0)
    assert refusal_curve(-error, error, subjects).gain.high < 0


def test_a_useful_risk_gains_with_its_interval_above_zero() -> None:
    found = refusal_curve(*_tiles())
    assert found.gain.low > 0
    assert found.area.high < found.random.value
    assert found.area.n == 12


def test_what_cannot_be_judged_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="0 tuning tiles"):
        fit_thresholds([], 0.1)
    with pytest.raises(DataError, match="no number"):
        fit_thresholds([TileScores(float("nan"), 0, 0, 0)], 0.1)
    with pytest.raises(DataError, match="finite risk"):
        refusal_curve(np.array([np.nan]), np.array([1.0]), ["a"])
