from __future__ import annotations

import numpy as np
import pytest

from clinimm.audit.engine.compare import Contrast, alone
from clinimm.audit.engine.counts import rate, tables_of
from clinimm.audit.engine.intervals import mover_difference
from clinimm.audit.engine.linear import fixed, linear_interval
from clinimm.audit.engine.rows import Rows
from tests.audit.engine.conftest import draw_rows


def rates(rows: Rows) -> Contrast:
    return alone(rate(tables_of(rows.segments(rows.everybody()), 0.3), "fnr"), 0)


def test_a_difference_is_movers_with_the_correlation_of_the_rows() -> None:
    rows = draw_rows(500)
    first = rates(rows)
    noisy = np.clip(rows.probability + np.random.default_rng(1).normal(0, 0.2, 500), 0, 1)
    second = rates(Rows(rows.label, noisy, rows.attributes))
    cases = float(rows.label.sum())
    own, other = (one.influence() for one in (first, second))
    correlation = own @ other / np.sqrt((own @ own) * (other @ other)) * cases / (cases + 2)
    assert 0.1 < correlation < 1
    ends = [(one.value, *one.bounds(0.95)) for one in (first, second)]
    low, high = mover_difference(*[tuple(map(np.asarray, one)) for one in ends], correlation)  # type: ignore[arg-type]
    found = linear_interval((first, second), np.array([1.0, -1.0]), cases, 0.95)
    assert found == pytest.approx((first.value - second.value, float(low), float(high)))


def test_two_parts_that_agree_on_every_row_still_leave_something_open() -> None:
    few = draw_rows(60)
    same = rates(few)
    value, low, high = linear_interval((same, same), np.array([1.0, -1.0]), float(few.label.sum()), 0.95)
    assert value == 0 and -0.3 < low < -0.01 and 0.01 < high < 0.3


def test_a_part_without_weight_does_not_count_and_a_turned_one_turns() -> None:
    part = rates(draw_rows(400))
    ends = part.bounds(0.9)
    assert linear_interval((part, part), np.array([1.0, 0.0]), 99.0, 0.9) == pytest.approx(
        (part.value, *ends)
    )
    turned = linear_interval((part,), np.array([-1.0]), 99.0, 0.9)
    assert turned == pytest.approx((-part.value, -ends[1], -ends[0]))


def test_what_no_row_moves_is_known_without_error() -> None:
    rows = draw_rows(300)
    blind = rates(Rows(rows.label, np.full(300, 0.1), rows.attributes))
    assert blind.value == 1.0 and blind.bounds(0.95)[0] < 1
    assert fixed(blind).bounds(0.95) == (1.0, 1.0)
    seen = rates(rows)
    assert fixed(seen) is seen
