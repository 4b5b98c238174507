"""The best AUROC that anybody could reach in a scenario, by adding up every possible patient.

Each hidden factor and each optional input is a yes/no draw, so all kinds of patients can be
listed with their weight and their chance of the outcome. Whoever sees only a part of them cannot
do better than rank by the average chance among patients that look the same: that ranking's AUROC
is the limit (the Bayes rule; Neyman and Pearson 1933).
"""

from __future__ import annotations

from itertools import product

import numpy as np

from clinimm.simulate.scenario import FACTORS, OPTIONAL, Scenario

#: View -> what it shows. ``a?b`` is factor ``b`` where the optional input ``a`` is present.
VIEWS: dict[str, tuple[str, ...]] = {
    "radiology": ("lesion", "main_site"),
    "ehr": ("woman", "has crp", "crp?inflamed", "has lactate"),
    "notes": ("has note", "note?distress"),
    "pathology": ("has slide", "slide?dense"),
    "missingness": ("has crp", "has lactate", "has note", "has slide"),
    "metadata": ("main_site",),
}
FUSED = ("radiology", "ehr", "notes", "pathology")


def bayes_auroc(scenario: Scenario) -> dict[str, float]:
    """The limit of every single view, of all modalities fused, and of breaking the law of time.

    Returns:
        View -> AUROC; ``fused`` sees all four modalities at the index time, ``without_guard``
        also sees what becomes available later.
    """
    cells, weight, chance = _patients(scenario)
    views = dict(VIEWS)
    views["fused"] = tuple(item for name in FUSED for item in VIEWS[name])
    views["without_guard"] = (*views["fused"], *(("late",) if scenario.late_facts else ()))
    return {
        name: _auroc(np.column_stack([_seen(cells, item) for item in items]), weight, chance)
        for name, items in views.items()
    }


def _patients(scenario: Scenario) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Every kind of patient as columns, how common each is, and its chance of deterioration."""
    copied = {copy for copy, _ in scenario.copies}
    free = [name for name in FACTORS if name not in copied]
    kinds = [dict(zip(free, bits, strict=True)) for bits in product((False, True), repeat=len(free))]
    kinds = [kind | {copy: kind[original] for copy, original in scenario.copies} for kind in kinds]
    chance = np.array([scenario.probability(kind) for kind in kinds])
    shown = list(product((False, True), repeat=len(OPTIONAL)))
    weight = np.array([[_weight(scenario, kind["sick"], bits) for bits in shown] for kind in kinds])
    columns = {name: np.repeat([kind[name] for kind in kinds], len(shown)) for name in FACTORS}
    for position, name in enumerate(OPTIONAL):
        columns[f"has {name}"] = np.tile([bits[position] for bits in shown], len(kinds))
    return columns, weight.ravel() / weight.sum(), np.repeat(chance, len(shown))


def _weight(scenario: Scenario, sick: bool, bits: tuple[bool, ...]) -> float:
    chances = [scenario.chance_present(name, sick) for name in OPTIONAL]
    return float(np.prod([c if bit else 1.0 - c for c, bit in zip(chances, bits, strict=True)]))


def _seen(cells: dict[str, np.ndarray], item: str) -> np.ndarray:
    name, separator, factor = item.partition("?")
    return cells[f"has {name}"] & cells[factor] if separator else cells[name]


def _auroc(seen: np.ndarray, weight: np.ndarray, chance: np.ndarray) -> float:
    """AUROC of ranking by the average chance among cells that look alike; ties count half."""
    _, group = np.unique(seen, axis=0, return_inverse=True)
    positive = np.bincount(group.ravel(), weight * chance)
    negative = np.bincount(group.ravel(), weight * (1.0 - chance))
    some = positive + negative > 0  # a look that nobody has: an input that is never missing
    positive, negative = positive[some], negative[some]
    order = np.argsort(positive / (positive + negative))
    positive, negative = positive[order], negative[order]
    below = np.cumsum(negative) - negative
    return float(positive @ (below + negative / 2) / (positive.sum() * negative.sum()))
