"""Each figure and its interval against the textbook's definition, written out slowly."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.special import expit, logit, xlogy
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from clinimm.audit.engine.figures import Figures
from clinimm.audit.engine.measures import measure
from clinimm.audit.engine.rows import BLOCKS, Coded, Rows

_SEEDS = range(4)


def draw(seed: int, n: int = 90) -> Rows:
    """Two groups, many ties and, in the first group, few positives."""
    generator = np.random.default_rng(seed)
    score = generator.normal(-0.5, 1.2, n)
    label = (generator.random(n) < expit(score)).astype(np.uint8)
    probability = np.round(expit(score), 1 if seed % 2 else 2).clip(0.02, 0.98)
    return Rows(label, probability, {"g": Coded((np.arange(n) >= 30).astype(int), ("a", "b"))})


def parts(rows: Rows) -> list[tuple[np.ndarray, np.ndarray]]:
    """Label and probability of each group."""
    code = rows.attributes["g"].code
    return [(rows.label[code == g].astype(float), rows.probability[code == g]) for g in (0, 1)]


def figures_of(rows: Rows, name: str) -> Figures:
    return measure(rows.segments(rows.grouping(["g"])), 0.3, [name])[name]


@pytest.mark.parametrize("seed", _SEEDS)
def test_auroc_and_delong_by_comparing_every_pair(seed: int) -> None:
    found = figures_of(draw(seed), "auroc")
    for group, (label, probability) in enumerate(parts(draw(seed))):
        high, low = probability[label == 1], probability[label == 0]
        kernel = np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in low] for x in high])
        m, n = kernel.shape
        variances = np.var(kernel.mean(1), ddof=1) / m, np.var(kernel.mean(0), ddof=1) / n
        value, variance = kernel.mean(), sum(variances)
        assert found.value[group] == pytest.approx(value, abs=1e-12)
        assert found.standard_error[group] == pytest.approx(np.sqrt(variance), abs=1e-12)
        freedom = variance**2 / (variances[0] ** 2 / (m - 1) + variances[1] ** 2 / (n - 1))
        half = student.ppf(0.975, freedom) * np.sqrt(variance) / (value * (1 - value))
        ends = expit(logit(value) - half), expit(logit(value) + half)
        # Few of a class: never inside Newcombe's score interval.
        assert found.bounds(0.95)[0][group] <= ends[0] + 1e-12
        assert found.bounds(0.95)[1][group] >= ends[1] - 1e-12
        score = score_ends(value, m, n)
        assert found.bounds(0.95)[0][group] == pytest.approx(min(ends[0], score[0]), abs=1e-9)
        assert found.bounds(0.95)[1][group] == pytest.approx(max(ends[1], score[1]), abs=1e-9)


def score_ends(value: float, m: int, n: int) -> tuple[float, float]:
    """Newcombe's method 5 (Stat Med 2006) by a root finder."""
    z, middle = norm.ppf(0.975), (m + n) / 2 - 1

    def off(true: float) -> float:
        pull = 1 + middle * ((1 - true) / (2 - true) + true / (1 + true))
        return float((true - value) ** 2 - z**2 * true * (1 - true) * pull / (m * n))

    return brentq(off, 1e-12, value), brentq(off, value, 1 - 1e-12)


@pytest.mark.parametrize("seed", _SEEDS)
def test_average_precision_threshold_by_threshold(seed: int) -> None:
    found = figures_of(draw(seed), "auprc")
    for group, (label, probability) in enumerate(parts(draw(seed))):
        value, before = 0.0, 0.0
        for cut in sorted(set(probability), reverse=True):
            flagged = probability >= cut
            recall = label[flagged].sum() / label.sum()
            value += (recall - before) * label[flagged].mean()
            before = recall
        assert found.value[group] == pytest.approx(value, abs=1e-12)
        error = found.standard_error[group]
        half = student.ppf(0.975, label.sum() - 1) * error / (value * (1 - value))
        assert found.bounds(0.95)[0][group] == pytest.approx(expit(logit(value) - half), abs=1e-9)
        # Never below Boyd's share among the positives.
        assert error >= np.sqrt(value * (1 - value) / label.sum()) - 1e-12


@pytest.mark.parametrize(
    ("name", "weighted"),
    [("auroc", roc_auc_score), ("auprc", average_precision_score), ("brier", brier_score_loss)],
)
@pytest.mark.parametrize("seed", _SEEDS)
def test_influence_is_how_a_figure_moves_with_the_weight_of_a_row(
    name: str, weighted: Callable[..., float], seed: int
) -> None:
    rows = draw(seed, 60)
    part = rows.segments(rows.everybody())
    moved = np.zeros(60)
    for row in range(60):
        step = 1e-6 * (np.arange(60) == row)
        up, down = (weighted(part.label, part.probability, sample_weight=1 + sign * step) for sign in (1, -1))
        moved[row] = (up - down) / 2e-6
    figure = measure(part, 0.3, [name])[name]
    assert np.allclose(figure.by_block[:, 0], np.bincount(part.block, moved, minlength=BLOCKS), atol=1e-7)
    if name == "auprc":
        positives = part.label.sum()
        boyd = figure.value[0] * (1 - figure.value[0]) / positives
        assert figure.standard_error[0] == pytest.approx(np.sqrt(max(np.sum(moved**2), boyd)), rel=1e-6)


@pytest.mark.parametrize("seed", _SEEDS)
def test_slope_is_where_the_likelihood_is_largest_and_its_error_the_larger_of_two(seed: int) -> None:
    found = figures_of(draw(seed), "calibration_slope")
    for group, (label, probability) in enumerate(parts(draw(seed))):
        design = np.stack([np.ones(len(label)), logit(probability)], axis=1)

        def lost(beta: np.ndarray, label: np.ndarray = label, design: np.ndarray = design) -> float:
            risk = expit(design @ beta)
            return -float(np.sum(xlogy(label, risk) + xlogy(1 - label, 1 - risk)))

        beta = minimize(lost, [0.0, 1.0], method="BFGS", options={"gtol": 1e-10}).x
        assert found.value[group] == pytest.approx(beta[1], abs=1e-4)
        risk = expit(design @ beta)
        inverse = np.linalg.inv(design.T @ (design * (risk * (1 - risk))[:, None]))
        pulls = design * (label - risk)[:, None]
        model, robust = inverse[1, 1], (inverse @ pulls.T @ pulls @ inverse)[1, 1]
        # Taken at the maximum over logit bins: half a percent off in a group of thirty rows.
        assert found.standard_error[group] == pytest.approx(np.sqrt(max(model, robust)), rel=0.01)
        half = student.ppf(0.975, min(label.sum(), len(label) - label.sum()) - 1)
        low, high = (end[group] for end in found.bounds(0.95))
        error = found.standard_error[group]
        assert (low, high) == pytest.approx((beta[1] - half * error, beta[1] + half * error), abs=2e-3)


@pytest.mark.parametrize("seed", _SEEDS)
def test_intercept_and_the_ends_of_its_score_test_by_a_root_finder(seed: int) -> None:
    found = figures_of(draw(seed), "calibration_intercept")
    for group, (label, probability) in enumerate(parts(draw(seed))):
        score, events = logit(probability), label.sum()
        value = brentq(more_than, -9, 9, args=(score, events))
        risk = expit(value + score)
        information = np.sum(risk * (1 - risk))
        wider = max(1.0, np.sum((label - risk) ** 2) / information)
        assert found.value[group] == pytest.approx(value, abs=1e-6)
        assert found.standard_error[group] == pytest.approx(np.sqrt(wider / information), rel=1e-5)
        ends = (
            brentq(far, value - 12, value, args=(score, events, wider, -1.0)),
            brentq(far, value, value + 12, args=(score, events, wider, 1.0)),
        )
        assert [end[group] for end in found.bounds(0.95)] == pytest.approx(ends, abs=2e-3)


def more_than(shift: float, score: np.ndarray, events: float) -> float:
    """Events expected above those seen."""
    return float(np.sum(expit(shift + score)) - events)


def far(shift: float, score: np.ndarray, events: float, wider: float, side: float) -> float:
    """Above 0 where the events seen lie out of reach, with the correction for whole numbers."""
    risk = expit(shift + score)
    reach = norm.ppf(0.975) * np.sqrt(np.sum(risk * (1 - risk)) * wider)
    return float(side * more_than(shift, score, events) - 0.5 * wider - reach)


@pytest.mark.parametrize("seed", _SEEDS)
def test_brier_score_and_its_interval_by_hand(seed: int) -> None:
    found = figures_of(draw(seed), "brier")
    for group, (label, probability) in enumerate(parts(draw(seed))):
        squares = (label - probability) ** 2
        value, error = squares.mean(), squares.std(ddof=1) / np.sqrt(len(label))
        assert found.value[group] == pytest.approx(value, abs=1e-12)
        assert found.standard_error[group] == pytest.approx(error, abs=1e-12)
        freedom = min(label.sum(), len(label) - label.sum()) - 1
        half = student.ppf(0.975, freedom) * error / (value * (1 - value))
        ends = expit(logit(value) - half), expit(logit(value) + half)
        assert [end[group] for end in found.bounds(0.95)] == pytest.approx(ends, abs=1e-9)


@pytest.mark.parametrize("seed", _SEEDS)
def test_calibration_error_bin_by_bin(seed: int) -> None:
    found = figures_of(draw(seed), "ece")
    for group, (label, probability) in enumerate(parts(draw(seed))):
        n, bins = len(label), min(max(len(label) // 10, 2), 10)
        cuts = np.quantile(probability, np.arange(1, bins) / bins, method="higher")
        of = np.searchsorted(cuts, probability, side="right")
        value, errors = 0.0, []
        for place in range(bins):
            inside = of == place
            value += abs(np.sum(label[inside] - probability[inside])) / n
            share = (label[inside].sum() + 2) / (inside.sum() + 4)
            errors.append(np.sqrt(inside.sum() * share * (1 - share)) / n)
        reach = np.sqrt(2 / np.pi) * np.sum(errors)
        reach += norm.ppf(0.95) * np.sqrt(np.sum(np.square(errors)) * (1 - 2 / np.pi))
        assert found.value[group] == pytest.approx(value, abs=1e-12)
        ends = max(value - reach, 0.0), min(value + reach, 1.0)
        assert [end[group] for end in found.bounds(0.95)] == pytest.approx(ends, abs=1e-9)


@pytest.mark.parametrize("name", ["net_benefit", "net_benefit_less_treat_all"])
@pytest.mark.parametrize("seed", _SEEDS)
def test_net_benefit_row_by_row(name: str, seed: int) -> None:
    found = figures_of(draw(seed), name)
    odds = 0.3 / 0.7
    for group, (label, probability) in enumerate(parts(draw(seed))):
        worth = np.where(label == 1, 1.0, -odds)
        gained = worth * (probability >= 0.3) - (worth if "all" in name else 0.0)
        assert found.value[group] == pytest.approx(gained.mean(), abs=1e-12)
        assert found.standard_error[group] == pytest.approx(gained.std() / np.sqrt(len(label)), abs=1e-12)
        low, high = (end[group] for end in found.bounds(0.95))
        assert low < gained.mean() < high


@pytest.mark.parametrize(("few", "kind"), list(itertools.product((0, 1, 4), (0, 1))))
def test_a_group_with_too_few_of_a_class_has_no_interval_for_its_scores(few: int, kind: int) -> None:
    label = np.full(60, 1 - kind, dtype=np.uint8)
    label[:few] = kind
    probability = np.random.default_rng(few).uniform(0.05, 0.95, 60)
    rows = Rows(label, probability, {})
    figures = measure(rows.segments(rows.everybody()), 0.3)
    for name in ("auprc", "brier", "ece", "calibration_intercept", "calibration_slope"):
        assert np.isnan(figures[name].bounds(0.95)).all(), name
    assert np.isnan(figures["auroc"].bounds(0.95)).all() == (few < 2)
    assert not np.isnan(figures["selection_rate"].bounds(0.95)).any()
