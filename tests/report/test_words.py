from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinimm.report.words import before, natural_frequency, number, percent, plural, signed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.314, "31\u00a0%"),
        (0.0, "0\u00a0%"),
        (0.004, "under 1\u00a0%"),
        (0.998, "over 99\u00a0%"),
        (1.0, "100\u00a0%"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_a_share_is_never_rounded_to_nobody_or_everybody(value: float | None, text: str) -> None:
    assert percent(value) == text


@given(st.floats(0, 1))
def test_a_natural_frequency_is_within_half_a_unit_of_the_probability(probability: float) -> None:
    text = natural_frequency(probability)
    words = text.split()
    if words[0] == "about":
        count, total = int(words[1]), int(words[3])
        assert abs(count / total - probability) <= 0.5 / total + 1e-9
        assert 0 < count < total
    else:
        assert probability <= 0.005 or probability >= 0.995


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0, "at the index time"), (0.5, "30 min before"), (30, "30 h before"), (2160, "90 days before")],
)
def test_times_are_said_in_the_unit_that_fits(hours: float, text: str) -> None:
    assert before(hours) == text


def test_signs_and_counts() -> None:
    assert (signed(0.5), signed(-0.5), signed(-0.001), signed(None)) == ("+0.50", "−0.50", "0.00", "–")
    assert (number(0.12345), plural(1, "film"), plural(1200, "film")) == ("0.123", "1 film", "1,200 films")
