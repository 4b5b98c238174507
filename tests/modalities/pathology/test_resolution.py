"""Micrometres a pixel as a type: what is impossible is refused, what differs little is the same."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinimm.modalities.pathology.resolution import Resolution, believable

_POSSIBLE = st.floats(0.01, 100)


@pytest.mark.parametrize("value", [0.0, -0.5, 101.0, math.nan, math.inf])
def test_what_is_impossible_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="at most 100"):
        Resolution(value, 0.5)
    with pytest.raises(ValueError, match="at most 100"):
        Resolution(0.5, value)


@given(fine=_POSSIBLE, coarse=_POSSIBLE)
def test_a_downsample_and_its_reverse_cancel(fine: float, coarse: float) -> None:
    a, b = Resolution.of(fine), Resolution.of(coarse)
    assert a.downsample_to(b) * b.downsample_to(a) == pytest.approx(1)
    assert (a.downsample_to(b) > 1) == (coarse > fine)


def test_scaling_and_sameness() -> None:
    assert Resolution(0.25, 0.5).scaled(4, 2) == Resolution.of(1.0)
    assert Resolution(0.25, 0.5).um_per_pixel == 0.375
    assert Resolution.of(0.499).is_same_as(Resolution.of(0.5))
    assert not Resolution.of(0.48).is_same_as(Resolution.of(0.5))
    assert not Resolution(0.5, 0.6).is_same_as(Resolution.of(0.5))


@pytest.mark.parametrize("dots_per_inch", [72, 96, 150, 300, 600])
def test_the_dpi_of_a_printer_is_no_resolution(dots_per_inch: int) -> None:
    um = 25_400 / dots_per_inch
    assert believable(um, um) is None
