"""Whether an explanation has earned a place on the page: every check of a map, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from clinimm.explain.attribute import Explanation, attribute, explain_problem
from clinimm.explain.check import Check
from clinimm.explain.curves import Curves, Effort, all_curves, curves
from clinimm.explain.hide import ALL, Hider
from clinimm.explain.infidelity import all_infidelities
from clinimm.explain.methods import get_method
from clinimm.explain.problem import DEFAULT, Explainable, Problem, Setting, pose
from clinimm.explain.promise import LOGIT
from clinimm.explain.stability import member_agreement, repeatability, sensitivity
from clinimm.nn.tokens import Batch

_REFINEMENTS = (1, 2, 4, 8, 16)
_SMALL_DELTA = 0.01  # share of the logit's change that may be left over
_SMALLEST_CHANGE = 1e-3
#: Nodes of the path where a map is made many times and only its change counts.
_COARSE_STEPS = 16


@dataclass(frozen=True)
class Deletion:
    """How fast the logit falls as tokens are taken away, most supporting first.

    Attributes:
        auc: area under logit against share of tokens removed (0 to 1), in logits; **lower is
            better**: a faithful order finds what holds the logit up.
        auc_random: the same for random orders, averaged.
    """

    auc: float
    auc_random: float


def relative_delta(explanation: Explanation) -> np.ndarray:
    """(batch,) size of the residual as a share of ``logit - baseline_logit``; NaN for shares.

    Changes smaller than 0.001 logits count as 0.001, so that a subject about whom the model says
    nothing does not look like a failure.
    """
    change = np.abs(explanation.logit - explanation.baseline_logit)
    return np.abs(explanation.delta) / np.maximum(change, _SMALLEST_CHANGE)


def attribute_fully(
    model: Explainable,
    batch: Batch,
    target_class: int,
    method: str = "integrated_gradients",
    steps: int = 32,
    setting: Setting = DEFAULT,
) -> Explanation:
    """``attribute`` with twice the steps, and twice again, until the parts sum to the whole.

    The model bends most near the baseline, where a token's normalisation sets in, so some subjects
    need a finer path than others. After 16 times ``steps`` the last answer is given as it is; its
    ``delta`` says what is missing. Methods whose parts do not sum up are asked once.

    Raises:
        ConfigError: the method is unknown, or cannot do what the setting asks.
        DataError: nobody in the batch has a token.
    """
    factors = _REFINEMENTS if get_method(method).sums else _REFINEMENTS[:1]
    for factor in factors:
        found = attribute(model, batch, target_class, method, factor * steps, setting)
        if (relative_delta(found) <= _SMALL_DELTA).all():
            break
    return found


def deletion(
    model: Explainable,
    batch: Batch,
    explanation: Explanation,
    target_class: int,
    seed: int = 0,
    points: int = 16,
    random_orders: int = 50,
) -> Deletion:
    """Deletion curve of one subject over the tokens of all modalities together; see ``curves``.

    Args:
        model: the model that was explained.
        batch: raw tokens of one subject.
        explanation: its attribution.
        target_class: which logit.
        seed: of the random orders.
        points: how many removals the curve has; fewer where there are fewer tokens.
        random_orders: how many random orders, with their reverses, are averaged.

    Raises:
        DataError: the batch holds more than one subject.
    """
    hider = Hider(pose(model, batch, target_class))
    scores = hider.real(explanation.scores)
    every = np.ones(len(scores), dtype=bool)
    found = curves(hider, scores, every, seed=seed, effort=Effort(points, random_orders))
    return Deletion(found.deletion, found.random)


def check_maps(
    problem: Problem, explanation: Explanation, edges: Mapping[str, np.ndarray] | None = None
) -> list[Check]:
    """What every map of a subject is checked for: completeness, curves and infidelity.

    Args:
        problem: of one subject; its setting's seed draws orders and sets.
        explanation: its maps.
        edges: modality -> an edge detector's score of that modality's real tokens.

    Raises:
        DataError: the problem is of more than one subject.
    """
    hider, seed = Hider(problem), problem.setting.seed
    scores = hider.real(explanation.scores)
    found = []
    if get_method(explanation.method).sums:
        found.append(Check("completeness", ALL, float(relative_delta(explanation)[0])))
    for name, one in all_curves(hider, scores, edges, seed).items():
        found += _of_curves(name, one)
    for name, (plain, scaled) in all_infidelities(hider, scores, seed=seed).items():
        if get_method(explanation.method).unit == LOGIT:
            found.append(Check("infidelity", name, plain))
        found.append(Check("infidelity_scaled", name, scaled))
    return found


def check_stability(problem: Problem, batch: Batch, method: str, steps: int | None = None) -> list[Check]:
    """What costs as much as the map itself, several times: sensitivity, seeds, members.

    Args:
        problem: of one subject.
        batch: its raw tokens.
        method: a name in ``METHODS``.
        steps: those that the shown map was made with, where refinement took more than the setting's:
            another seed must draw as much as it did.
    """
    shown = replace(problem, setting=replace(problem.setting, steps=steps or problem.setting.steps))
    problem = replace(problem, setting=replace(problem.setting, steps=_COARSE_STEPS))
    moved = sensitivity(problem, lambda one: explain_problem(one, method))
    found = [Check("sensitivity", name, value) for name, value in moved.items() if np.isfinite(value)]
    chosen = get_method(method)
    if chosen.drawn(chosen.baseline(problem.setting.baseline)):
        repeated = repeatability(shown, method)
        found += [Check("repeatability", name, value) for name, value in repeated.items()]
    agreed = member_agreement(problem, batch, method)
    return found + [Check("member_agreement", name, value) for name, value in agreed.items()]


def _of_curves(name: str, found: Curves) -> Iterator[Check]:
    yield Check("deletion", name, found.deletion, found.random)
    yield Check("insertion", name, found.insertion, found.random)
    yield Check("random_orders", name, found.beaten)
    if found.edges_deletion is not None and found.edges_insertion is not None:
        yield Check("deletion_edges", name, found.deletion, found.edges_deletion)
        yield Check("insertion_edges", name, found.insertion, found.edges_insertion)
