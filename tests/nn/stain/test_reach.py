from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.nn.stain.reach import Span, reach, round_up

STEPS = st.lists(st.sampled_from(["convolve", "pool", "repeat"]), max_size=5)


def influence(steps: list[str], size: int) -> np.ndarray:
    """(output, input) True where an input matters: an independent implementation by matrices."""
    matrix = np.eye(size, dtype=int)
    for step in steps:
        count = len(matrix)
        if step == "convolve":
            layer = sum(np.eye(count, k=shift, dtype=int) for shift in (-1, 0, 1))
        elif step == "pool":
            layer = np.kron(np.eye(count // 2, dtype=int), [[1, 1]])
        else:
            layer = np.kron(np.eye(count, dtype=int), [[1], [1]])
        matrix = np.minimum(layer @ matrix, 1)
    return matrix > 0


@settings(deadline=None, max_examples=30)
@given(STEPS)
def test_spans_are_what_a_brute_force_finds(steps: list[str]) -> None:
    found = influence(steps, size=128)
    middle = len(found) // 2
    span = Span(middle, middle)
    for step in reversed(steps):
        if step == "convolve":
            span = span.convolved(3)
        else:
            span = span.pooled(2) if step == "pool" else span.repeated(2)
    touched = np.flatnonzero(found[middle])
    assert (span.low, span.high) == (touched.min(), touched.max())


def test_reach_takes_the_worst_phase() -> None:
    # A cell of four pixels: its first pixel depends on the one three further on.
    assert reach(lambda span: span.repeated(4).pooled(4), stride=4) == 3


@pytest.mark.parametrize(("pixels", "expected"), [(0, 0), (1, 8), (8, 8), (47, 48)])
def test_margins_are_multiples_of_the_stride(pixels: int, expected: int) -> None:
    assert round_up(pixels, 8) == expected
