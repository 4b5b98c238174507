import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from clinimm.simulate.bayes import FUSED, VIEWS, bayes_auroc
from clinimm.simulate.scenario import SCENARIOS, Hidden, draw_hidden

_DRAWS = 20_000


def _look(hidden: Hidden, items: tuple[str, ...]) -> tuple[bool, ...]:
    seen = []
    for item in items:
        name, separator, factor = item.partition("?")
        if separator:
            seen.append(hidden.present[name] and hidden.factors[factor])
        elif item.startswith("has "):
            seen.append(hidden.present[item.removeprefix("has ")])
        else:
            seen.append(hidden.factors[item])
    return tuple(seen)


def _empirical(drawn: list[Hidden], items: tuple[str, ...]) -> float:
    """Independent of the enumeration: average drawn patients by look, and rank others with that."""
    half = len(drawn) // 2
    sums: dict[tuple[bool, ...], list[float]] = {}
    for hidden in drawn[:half]:
        sums.setdefault(_look(hidden, items), []).append(hidden.probability)
    mean = {look: sum(chances) / len(chances) for look, chances in sums.items()}
    score = [mean.get(_look(hidden, items), 0.5) for hidden in drawn[half:]]
    return float(roc_auc_score([hidden.label for hidden in drawn[half:]], score))


@pytest.mark.parametrize("name", ["synergy", "redundant", "missing_not_at_random", "subgroup_shift", "mixed"])
def test_the_limit_agrees_with_drawn_patients_and_sklearn(name: str):
    generator = np.random.default_rng(3)
    drawn = [draw_hidden(SCENARIOS[name], generator) for _ in range(_DRAWS)]
    limits = bayes_auroc(SCENARIOS[name])
    fused = tuple(item for view in FUSED for item in VIEWS[view])
    assert limits["fused"] == pytest.approx(_empirical(drawn, fused), abs=0.02)
    for view in VIEWS:
        assert limits[view] == pytest.approx(_empirical(drawn, VIEWS[view]), abs=0.02)


def _best_single(limits: dict[str, float]) -> float:
    return max(limits[view] for view in FUSED)


def test_synergy_is_far_beyond_any_single_modality():
    limits = bayes_auroc(SCENARIOS["synergy"])
    assert limits["fused"] >= 0.93
    assert 0.5 <= _best_single(limits) <= 0.7


def test_redundant_gains_nothing_from_fusion():
    limits = bayes_auroc(SCENARIOS["redundant"])
    assert limits["fused"] == pytest.approx(limits["radiology"])
    assert min(limits[view] for view in FUSED) > 0.8


def test_late_signal_shows_nothing_before_the_index_and_much_after_it():
    limits = bayes_auroc(SCENARIOS["late_signal"])
    assert limits["fused"] == pytest.approx(0.5)
    assert limits["without_guard"] > 0.9


def test_site_shortcut_is_all_metadata():
    limits = bayes_auroc(SCENARIOS["site_shortcut"])
    assert limits["metadata"] == pytest.approx(limits["fused"])
    assert limits["metadata"] > 0.8
    assert limits["notes"] == pytest.approx(0.5)


def test_missing_not_at_random_is_all_missingness():
    limits = bayes_auroc(SCENARIOS["missing_not_at_random"])
    assert limits["missingness"] == pytest.approx(limits["fused"])
    assert limits["missingness"] > 0.85


def test_null_has_nothing_to_find():
    assert list(bayes_auroc(SCENARIOS["null"]).values()) == [pytest.approx(0.5)] * 8


def test_subgroup_shift_works_for_men_and_hardly_for_women():
    generator = np.random.default_rng(4)
    drawn = [draw_hidden(SCENARIOS["subgroup_shift"], generator) for _ in range(_DRAWS)]
    limit = {
        woman: _empirical([h for h in drawn if h.factors["woman"] is woman], ("lesion", "inflamed"))
        for woman in (False, True)
    }
    assert limit[False] > 0.85
    assert limit[True] < 0.6


def test_mixed_rewards_fusion():
    limits = bayes_auroc(SCENARIOS["mixed"])
    assert limits["fused"] - _best_single(limits) > 0.1
