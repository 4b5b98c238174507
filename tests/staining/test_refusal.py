from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.core.errors import DataError
from clinimm.staining.refusal import MOST_DAMAGE, Thresholds, TileScores, fit_thresholds, refusal_curve


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
    assert limits.reasons(TileScores(1.1, 0.2, 1.6, 0.3, "bubble")) == (
        "outside",
        "uncertain",
        "hallucination",
        "bubble",
    )
    assert limits.reasons(TileScores(float("nan"), 0.05, 1.0, 0.1)) == ("outside",)


def test_risk_is_above_one_exactly_where_a_tile_is_refused() -> None:
    limits = fit_thresholds(_scores(50), 0.1)
    for one in _scores(200, seed=9):
        assert (limits.risk(one) > 1) == bool(limits.reasons(one))


def test_damaged_tuning_tiles_say_nothing_of_what_sound_ones_score() -> None:
    sound = _scores(100)
    damaged = [TileScores(9e9, 9e9, 9e9, MOST_DAMAGE + 0.01, "pen")] * 30
    alone, both = (fit_thresholds(one, 0.05) for one in (sound, [*sound, *damaged]))
    assert (both.outside, both.uncertain, both.hallucination) == (
        alone.outside,
        alone.uncertain,
        alone.hallucination,
    )
    assert (both.quality, both.tiles, both.damaged) == (MOST_DAMAGE, 100, 30)
    assert fit_thresholds(damaged, 0.05).damaged == 30  # there is no other, and every one is refused


def test_the_share_of_a_left_out_subject_is_what_new_subjects_lose() -> None:
    # Tiles of a subject resemble each other, so a new subject loses more than the share.
    def person(seed: int) -> list[TileScores]:
        generator = np.random.default_rng(seed)
        level = generator.lognormal(0, 0.6, size=3)
        return [TileScores(*(level * generator.lognormal(0, 0.2, size=3)), quality=0.0) for _ in range(6)]

    subjects = [f"s{n}" for n in range(10) for _ in range(6)]
    expected, real = [], []
    for trial in range(40):
        scores = [one for n in range(10) for one in person(1000 * trial + n)]
        limits = fit_thresholds(scores, 0.05, subjects)
        assert limits.left_out is not None
        expected.append(limits.left_out.share)
        others = [one for n in range(500, 540) for one in person(1000 * trial + n)]
        real.append(np.mean([bool(limits.reasons(one)) for one in others]))
        assert limits.left_out.promised == pytest.approx(1 / 11)
    assert np.mean(real) > 0.08  # above the share of 0.05
    # One subject fewer, so somewhat more is refused; nearer to the truth than the share all the same.
    assert np.mean(real) - 0.01 < np.mean(expected) < np.mean(real) + 0.06


def test_one_subject_says_nothing_of_others() -> None:
    assert fit_thresholds(_scores(10), 0.05, ["a"] * 10).left_out is None
    assert fit_thresholds(_scores(10), 0.05).left_out is None


def test_thresholds_of_the_older_form_are_read() -> None:
    old = {"outside": 1.0, "uncertain": 0.1, "hallucination": 1.5, "quality": 0.25, "tiles": 9, "refused": 0}
    assert Thresholds.from_json(old).aim is None


def test_json_keeps_the_thresholds() -> None:
    limits = fit_thresholds(_scores(30), 0.1, [f"s{n % 7}" for n in range(30)])
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
