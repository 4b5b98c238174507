from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from clinimm.monitor.betting import bet, wealth_of


def test_no_betting_scheme_gains_at_the_bound() -> None:
    """The exact expectation of the wealth after three events: at most 1 at the bound and below it."""
    paths = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)], float)
    wealth = wealth_of(paths, 0.3)
    for share in (0.3, 0.2, 0.05):
        chance = np.prod(np.where(paths == 1, share, 1 - share), axis=1)
        for event in range(3):
            assert (chance * wealth[:, event]).sum() == pytest.approx(1.0, abs=1e-12) or share < 0.3
            assert (chance * wealth[:, event]).sum() <= 1 + 1e-12


@pytest.mark.parametrize(("bound", "alpha"), [(0.2, 0.05), (0.5, 0.05), (0.05, 0.1)])
def test_false_alarms_over_a_long_stream_looked_at_each_time_are_at_most_alpha(
    bound: float, alpha: float
) -> None:
    streams = 1000
    generator = np.random.default_rng(1)
    events = (generator.random((streams, 3000)) < bound).astype(float)
    alarms = int((wealth_of(events, bound).max(axis=1) >= 1 / alpha).sum())
    assert alarms <= binom.ppf(0.999, streams, alpha)


def test_a_share_that_drifts_below_the_bound_makes_no_more_alarms() -> None:
    generator = np.random.default_rng(2)
    share = 0.15 + 0.05 * np.sin(np.arange(2000) / 50)
    events = (generator.random((500, 2000)) < share).astype(float)
    assert (wealth_of(events, 0.2).max(axis=1) >= 20).sum() <= binom.ppf(0.999, 500, 0.05)


def test_the_delay_after_a_planted_fault_is_short_also_after_quiet_years() -> None:
    """0.2 becomes 0.5: the log growth a patient is KL(0.5 || 0.2) = 0.223; after 1000 quiet ones to begin
    costs log(1000 * 1001), so about (log 100 + 13.8) / 0.223 = 83 patients."""
    generator = np.random.default_rng(3)
    for quiet, longest in ((0, 60), (1000, 130)):
        before = (generator.random((200, quiet)) < 0.2).astype(float)
        after = (generator.random((200, 400)) < 0.5).astype(float)
        wealth = wealth_of(np.concatenate([before, after], axis=1), 0.2)
        late = wealth[:, quiet:] >= 100
        assert late.any(axis=1).all()
        assert np.median(late.argmax(axis=1)) <= longest


def test_the_alarm_is_the_first_event_over_the_limit_and_stays() -> None:
    one = bet(np.ones(20), 0.2, 0.01)
    assert one.alarm is not None
    assert one.wealth[one.alarm] >= 100 > one.wealth[one.alarm - 1]
    assert one.p_value <= 0.01
    quiet = bet(np.zeros(20), 0.2, 0.01)
    assert (quiet.alarm, quiet.highest) == (None, 1.0)
    assert bet(np.zeros(0), 0.2, 0.01).highest == 1.0
