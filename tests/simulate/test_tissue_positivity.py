import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clinimm.simulate.tissue_cells import CELL_TYPES, GLAND, TUMOUR, Nuclei
from clinimm.simulate.tissue_layout import draw_layout
from clinimm.simulate.tissue_nuclei import place_nuclei, propose_nuclei
from clinimm.simulate.tissue_plan import MARKERS, Rule, StainPlan, plan_tissue
from clinimm.simulate.tissue_positivity import (
    INTENSITY_STEPS,
    Positivity,
    decide_positivity,
    h_score,
    positivity_index,
)

_SLIDES = 48
_UM = 0.5


@pytest.fixture(scope="module")
def slides() -> list[tuple[Nuclei, float]]:
    """Nuclei of many small blocks, and their canvas's side in micrometres."""
    found = []
    for number in range(_SLIDES):
        plan = plan_tissue(np.random.default_rng(number), 320, ())
        generator = np.random.default_rng(plan.seed)
        layout = draw_layout(plan, generator)
        drawn = place_nuclei(propose_nuclei(plan, layout, generator), layout.side, _UM, generator)
        found.append((drawn.table, layout.side * _UM))
    return found


def _decide(slides, marker: str, rule: Rule, facts: list[bool] | None = None) -> list[Positivity]:
    facts = facts or [False] * len(slides)
    return [
        decide_positivity(
            nuclei, StainPlan(marker, rule, fact), extent, _UM, np.random.default_rng(900 + number)
        )
        for number, ((nuclei, extent), fact) in enumerate(zip(slides, facts, strict=True))
    ]


def _seen(nuclei: Nuclei) -> np.ndarray:
    """All that H&E could show of a nucleus."""
    kinds = np.eye(len(CELL_TYPES))[nuclei.kind]
    own = np.column_stack([nuclei.radius_um, nuclei.chromatin, nuclei.elongation])
    return np.concatenate([kinds, own, kinds * own[:, :1], kinds * own[:, 1:2]], axis=1)


def _auroc(slides, decided: list[Positivity], facts: list[bool] | None = None) -> tuple[float, list[float]]:
    """Of a logistic regression that was fitted to the other half of the slides: pooled, and by slide."""
    inputs = [_seen(nuclei) for nuclei, _ in slides]
    if facts is not None:
        tumour = [nuclei.of_kind(TUMOUR)[:, None] for nuclei, _ in slides]
        inputs = [np.hstack([x, t * fact]) for x, t, fact in zip(inputs, tumour, facts, strict=True)]
    labels = [one.positive for one in decided]
    scores = []
    for fitted, asked in ((slice(1, None, 2), slice(0, None, 2)), (slice(0, None, 2), slice(1, None, 2))):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        model.fit(np.concatenate(inputs[fitted]), np.concatenate(labels[fitted]))
        scores += [(labels[asked][i], model.decision_function(part)) for i, part in enumerate(inputs[asked])]
    pooled = roc_auc_score(*(np.concatenate(part) for part in zip(*scores, strict=True)))
    return float(pooled), [roc_auc_score(told, score) for told, score in scores if 0 < told.sum() < len(told)]


@pytest.mark.parametrize("marker", sorted(MARKERS))
def test_the_usual_rate_is_the_same_for_either_rule(slides, marker):
    usual = MARKERS[marker].usual_rate
    for rule in ("determined", "undetermined"):
        rates = [positivity_index(one) for one in _decide(slides, marker, rule)]
        error = np.std(rates) / np.sqrt(len(rates))
        assert np.mean(rates) == pytest.approx(usual, abs=max(3 * error, 0.02)), rule
        assert np.std(rates) > 0.05


@pytest.mark.parametrize("marker", sorted(MARKERS))
def test_undetermined_has_no_association_with_what_can_be_seen(slides, marker):
    pooled, by_slide = _auroc(slides, _decide(slides, marker, "undetermined"))
    error = np.std(by_slide) / np.sqrt(len(by_slide))
    assert abs(np.mean(by_slide) - 0.5) < 3 * error
    assert error < 0.022
    assert pooled == pytest.approx(0.5, abs=0.07)


def test_undetermined_rates_do_not_follow_the_slide(slides):
    """Nor does a whole slide's index follow from its cell types, chromatin and density."""
    rates = [positivity_index(one) for one in _decide(slides, "KI67", "undetermined")]
    for seen in (
        [nuclei.of_kind(TUMOUR).mean() for nuclei, _ in slides],
        [nuclei.chromatin.mean() for nuclei, _ in slides],
        [len(nuclei) for nuclei, _ in slides],
    ):
        assert abs(np.corrcoef(rates, seen)[0, 1]) < 3 / np.sqrt(_SLIDES)
    determined = [positivity_index(one) for one in _decide(slides, "PANCK", "determined")]
    epithelium = [nuclei.of_kind(TUMOUR, GLAND).mean() for nuclei, _ in slides]
    assert np.corrcoef(determined, epithelium)[0, 1] > 0.95


def test_undetermined_comes_in_regions(slides):
    """Neighbours are more alike than nuclei far from each other: a trap for a shortcut by place."""
    near = far = 0.0
    for (nuclei, _), decided in zip(slides, _decide(slides, "KI67", "undetermined"), strict=True):
        place = np.stack([nuclei.column, nuclei.row], axis=1) * _UM
        apart = np.hypot(*(place[:, None] - place[None]).transpose(2, 0, 1))
        sign = decided.positive - decided.positive.mean()
        alike = sign[:, None] * sign[None]
        near += alike[(apart > 0) & (apart < 20)].mean()
        far += alike[apart > 90].mean()
    assert near / _SLIDES > far / _SLIDES + 0.01


@pytest.mark.parametrize("marker", sorted(MARKERS))
def test_determined_follows_from_what_can_be_seen(slides, marker):
    pooled, by_slide = _auroc(slides, _decide(slides, marker, "determined"))
    assert pooled > 0.93
    assert np.mean(by_slide) > 0.88


def test_by_record_needs_the_fact(slides):
    facts = [bool(number % 3 % 2) for number in range(_SLIDES)]
    decided = _decide(slides, "KI67", "by_record", facts)
    blind, told = _auroc(slides, decided)[0], _auroc(slides, decided, facts)[0]
    assert told > 0.93
    assert blind < told - 0.05
    rate = {
        fact: np.mean([positivity_index(o) for o, f in zip(decided, facts, strict=True) if f is fact])
        for fact in (False, True)
    }
    assert rate[True] > 3 * rate[False]


def test_only_positive_nuclei_have_intensity_and_it_counts():
    for decided in (
        Positivity(np.array([True, False, True, True]), np.array([0.3, 0, 0.5, 0.9], np.float32)),
        Positivity(np.array([], bool), np.array([], np.float32)),
    ):
        grades = np.sum([decided.intensity >= step for step in INTENSITY_STEPS], axis=0)
        by_hand = (
            sum(grade * 100 * np.mean(grades == grade) for grade in (1, 2, 3)) if len(grades) else np.nan
        )
        assert h_score(decided) == pytest.approx(by_hand, nan_ok=True)
    assert positivity_index(Positivity(np.array([True, False]), np.zeros(2, np.float32))) == 0.5


def test_intensity_goes_with_positivity(slides):
    for decided in _decide(slides[:8], "HER2", "determined"):
        assert np.array_equal(decided.intensity > 0, decided.positive)
        assert (decided.intensity[decided.positive] >= INTENSITY_STEPS[0]).all()
