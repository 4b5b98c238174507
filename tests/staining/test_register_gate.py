from dataclasses import replace

import pytest
from scipy.stats import binomtest

from clinimm.staining.deformation import IDENTITY, Affine
from clinimm.staining.register_gate import ErrorEstimate, Findings, refusal_of

GOOD = Findings(IDENTITY, 0.9, 0.8, ErrorEstimate("cell", 40, 36, 0.4, 1.2), None)


def test_a_good_pair_passes() -> None:
    assert refusal_of(GOOD) is None


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"overlap_share": 0.1}, "no-overlap"),
        ({"affine": Affine(((2.0, 0.0), (0.0, 1.0)), (0.0, 0.0))}, "registration-failed"),
        ({"affine": Affine(((1.0, 0.0), (0.0, 0.5)), (0.0, 0.0))}, "registration-failed"),
        ({"affine": Affine(((-1.0, 0.0), (0.0, 1.0)), (0.0, 0.0))}, "registration-failed"),
        ({"error": ErrorEstimate("cell", 40, 3, None, None)}, "registration-failed"),
        ({"error": ErrorEstimate("cell", 7, 7, 0.4, 1.2)}, "registration-failed"),
        ({"error": ErrorEstimate("cell", 15, 5, 0.4, 1.2)}, "registration-failed"),
        ({"error": ErrorEstimate("cell", 0, 0, None, None)}, "registration-failed"),
        ({"least_jacobian": -0.1}, "registration-folded"),
        ({"least_jacobian": 0.1}, "registration-folded"),
        ({"error": ErrorEstimate("cell", 40, 36, 0.4, 3.1)}, "registration-poor"),
        ({"error": ErrorEstimate("tissue", 40, 36, 6.0, 20.0)}, "registration-poor"),
        ({"landmarks": ErrorEstimate("landmarks", 8, 8, 2.0, 7.0)}, "registration-poor"),
    ],
)
def test_each_fault_has_its_reason(changed: dict[str, object], code: str) -> None:
    refusal = refusal_of(replace(GOOD, **changed))  # type: ignore[arg-type]
    assert refusal is not None
    assert refusal.code == code
    assert refusal.remedy


def test_the_limit_is_the_callers() -> None:
    poor = replace(GOOD, error=ErrorEstimate("cell", 40, 36, 2.0, 5.0))
    assert refusal_of(poor, max_error_um=6.0) is None
    assert refusal_of(GOOD, max_error_um=1.0) is not None


def test_landmarks_that_are_bad_outweigh_a_good_own_estimate_and_say_so() -> None:
    refusal = refusal_of(replace(GOOD, landmarks=ErrorEstimate("landmarks", 8, 8, 2.0, 7.0)))
    assert refusal is not None
    assert "landmarks" in refusal.reason
    assert "7.0 µm" in refusal.reason


@pytest.mark.parametrize(
    ("places", "judged", "sure"), [(9, 5, False), (15, 8, True), (60, 20, False), (150, 50, True)]
)
def test_a_share_counts_by_what_it_surely_is(places: int, judged: int, sure: bool) -> None:
    error = ErrorEstimate("cell", places, judged, 0.4, 1.2)
    low = binomtest(judged, places).proportion_ci(method="wilson").low
    assert error.surely_judged == pytest.approx(low)
    assert error.is_sure is sure


def test_a_refusal_for_too_few_matches_says_what_the_places_show() -> None:
    refusal = refusal_of(replace(GOOD, error=ErrorEstimate("cell", 15, 5, 0.4, 1.2)))
    assert refusal is not None
    assert "5 of 15 places" in refusal.reason
    assert "15 % or more" in refusal.reason
