import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest

from clinimm.simulate.scenario import FACTORS, SCENARIOS, Scenario, Term, draw_hidden

_ISSUE_2 = {
    "synergy",
    "redundant",
    "late_signal",
    "site_shortcut",
    "missing_not_at_random",
    "subgroup_shift",
    "null",
}


def _factors(**known: bool) -> dict[str, bool]:
    return {name: known.get(name, False) for name in FACTORS}


def test_every_scenario_of_the_issue_is_there_with_a_sentence():
    assert set(SCENARIOS) >= _ISSUE_2
    assert all(scenario.sentence.endswith(".") for scenario in SCENARIOS.values())


def test_terms_name_known_factors_and_probabilities_are_valid():
    for scenario in SCENARIOS.values():
        assert {name for term in scenario.terms for name in term.factors} <= set(FACTORS)
        assert {name for pair in scenario.copies for name in pair} <= set(FACTORS)


def test_probability_is_the_logistic_of_signed_products():
    scenario = Scenario(
        "s", "S.", terms=(Term(("lesion", "inflamed"), 2.0), Term(("dense",), 0.5)), intercept=-0.3
    )
    assert scenario.probability(_factors(lesion=True)) == pytest.approx(expit(-0.3 - 2.0 - 0.5))
    assert scenario.probability(_factors(lesion=True, inflamed=True, dense=True)) == pytest.approx(expit(2.2))


def test_the_signal_is_scaled_in_women_only():
    scenario = Scenario("s", "S.", terms=(Term(("lesion",), 2.0),), women_scale=0.0)
    assert scenario.probability(_factors(lesion=True, woman=True)) == pytest.approx(0.5)
    assert scenario.probability(_factors(lesion=True)) == pytest.approx(expit(2.0))


def test_copies_equal_their_original():
    generator = np.random.default_rng(0)
    drawn = [draw_hidden(SCENARIOS["synergy"], generator) for _ in range(200)]
    assert all(hidden.factors["distress"] == hidden.factors["inflamed"] for hidden in drawn)
    assert any(hidden.factors["lesion"] != hidden.factors["inflamed"] for hidden in drawn)


def test_labels_follow_their_probability():
    generator = np.random.default_rng(1)
    drawn = [draw_hidden(SCENARIOS["mixed"], generator) for _ in range(4000)]
    expected = float(np.mean([hidden.probability for hidden in drawn]))
    assert binomtest(sum(hidden.label for hidden in drawn), len(drawn), expected).pvalue > 0.001


def test_missing_not_at_random_measures_the_sick_more_often():
    generator = np.random.default_rng(2)
    drawn = [draw_hidden(SCENARIOS["missing_not_at_random"], generator) for _ in range(2000)]
    share = {
        sick: np.mean([hidden.present["slide"] for hidden in drawn if hidden.factors["sick"] is sick])
        for sick in (False, True)
    }
    assert share[True] > 0.85
    assert share[False] < 0.2
