"""Simulated models with known faults, for ``planted_bias.py``. Needs numpy alone, so any tool's environment
can draw the very same tables.

Everybody's risk follows one law and has two parts, one seen by an image, one by the record. The faultless
model knows both parts, so it is calibrated for everybody; each modality alone knows one. A fault changes what
the model says (or what the label or the attribute says) for some people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

THRESHOLD = 0.3
LEVELS = {"race": "abcd", "sex": "fm", "age": "123"}
KINDS = (
    "none",
    "marginal",
    "intersection only",
    "one modality only",
    "calibration only",
    "label bias",
    "missing not at random",
    "case mix",
)
_SPREAD = 1.0


@dataclass(frozen=True)
class Planted:
    """One simulated model.

    Attributes:
        kind: one of ``KINDS``.
        name: what is wrong, in words.
        n: rows.
        fault: parameters of the fault.
    """

    kind: str
    name: str
    n: int
    fault: dict[str, Any] = field(default_factory=dict)


def models() -> list[Planted]:
    """Every simulated model."""
    return list(_models())


def _models() -> Iterator[Planted]:
    for n in (1500, 4000):
        yield Planted("none", "nothing", n)
        yield Planted("none", "nothing, rare outcome", n, {"middle": -2.5})
        yield Planted("none", "nothing, everybody miscalibrated alike", n, {"stretch_all": 0.6})
        yield Planted("none", "nothing, race missing at random for 15 %", n, {"lost": 0.15})
        yield Planted("marginal", "b lower by 0.6", n, {"b": -0.6})
        yield Planted("marginal", "b lower by 1.2", n, {"b": -1.2})
        yield Planted("marginal", "c lower by 1.0", n, {"c": -1.0})
        yield Planted("marginal", "risk of b half noise", n, {"noise": 0.5})
        yield Planted("intersection only", "b women lower by 1.2, margins level", n, {"cross": 1.2})
        yield Planted("intersection only", "b women lower by 0.8, margins level", n, {"cross": 0.8})
        yield Planted("intersection only", "old b women lower by 2", n, {"three": 2.0})
        yield Planted("intersection only", "old c men lower by 3", n, {"three_rare": 3.0})
        yield Planted(
            "one modality only", "image of b lower by 0.8, record makes up for it", n, {"image": 0.8}
        )
        yield Planted(
            "one modality only", "image of b lower by 1.4, record makes up for it", n, {"image": 1.4}
        )
        yield Planted(
            "one modality only", "image of old women lower by 1.4, likewise", n, {"image_cross": 1.4}
        )
        yield Planted("calibration only", "b too extreme (x 3), same decisions", n, {"stretch": 3.0})
        yield Planted("calibration only", "b too timid (x 0.3), same decisions", n, {"stretch": 0.3})
        yield Planted("calibration only", "flagged b 1.0 too high, same decisions", n, {"top": 1.0})
        yield Planted("label bias", "30 % of b's illness never coded", n, {"uncoded": 0.3})
        yield Planted("label bias", "45 % of b's illness never coded", n, {"uncoded": 0.45})
        yield Planted("label bias", "60 % of c's illness never coded", n, {"uncoded_c": 0.6})
        yield Planted(
            "missing not at random", "b lower by 1, race lost where missed", n, {"b": -1.0, "hide": 0.8}
        )
        yield Planted("missing not at random", "b lower by 1.5, same, half", n, {"b": -1.5, "hide": 0.5})
        yield Planted("missing not at random", "race lost where anyone is missed", n, {"hide_any": 0.3})
        yield Planted("case mix", "b at higher risk, model right", n, {"ill": 0.8})


def draw(model: Planted, replicate: int) -> dict[str, np.ndarray]:
    """One table: label, illness (an outcome that did not make the label), probability, image, record,
    and the attributes, where an empty text is missing."""
    generator = np.random.default_rng([replicate, model.n, *model.name.encode()])
    fault, n = model.fault, model.n
    race = generator.choice(4, n, p=[0.55, 0.25, 0.14, 0.06])
    sex, age = generator.integers(0, 2, n), generator.integers(0, 3, n)
    middle = fault.get("middle", -1.1) + fault.get("ill", 0.0) * (race == 1)
    parts = generator.normal(0.0, _SPREAD, (2, n))
    risk = middle + parts.sum(axis=0)
    coins = generator.random((3, n))
    label = coins[0] < _expit(risk)
    shrink = 1 / np.sqrt(1 + 0.346 * _SPREAD**2)  # the other part is averaged over
    image, record = (middle + parts[0]) * shrink, (middle + parts[1]) * shrink
    shift = _shift(fault, race, sex, age)
    logit = risk + shift
    if "noise" in fault:
        noise = generator.normal(middle, np.sqrt(2) * _SPREAD, n)
        logit = np.where(race == 1, (1 - fault["noise"]) * logit + fault["noise"] * noise, logit)
    if "image" in fault or "image_cross" in fault:
        here = race == 1 if "image" in fault else (sex == 0) & (age == 2)
        by = fault.get("image", fault.get("image_cross"))
        image, record = image - by * here, record + by * here
    logit = _stretched(fault, logit, race)
    illness = _illness(fault, label, _expit(risk), race, coins[1], coins[2])
    text = {
        name: np.array(list(LEVELS[name]))[code]
        for name, code in (("race", race), ("sex", sex), ("age", age))
    }
    text["race"] = np.where(_lost(fault, race, label, logit, generator.random(n)), "", text["race"])
    found = {"label": label.astype(np.int64), "illness": illness.astype(float)}
    return found | {"probability": _expit(logit), "image": _expit(image), "record": _expit(record)} | text


def _shift(fault: dict[str, Any], race: np.ndarray, sex: np.ndarray, age: np.ndarray) -> np.ndarray:
    shift = np.zeros(len(race))
    for level, code in (("b", 1), ("c", 2)):
        shift += fault.get(level, 0.0) * (race == code)
    if "cross" in fault:  # b women down, b men up, the others the other way by as much as levels the sexes
        way = np.where(sex == 0, -1.0, 1.0) * fault["cross"]
        shift += np.where(race == 1, way, -way / 3)
    shift -= fault.get("three", 0.0) * ((race == 1) & (sex == 0) & (age == 2))
    return shift - fault.get("three_rare", 0.0) * ((race == 2) & (sex == 1) & (age == 2))


def _stretched(fault: dict[str, Any], logit: np.ndarray, race: np.ndarray) -> np.ndarray:
    """Changes of the risk that leave every decision as it was."""
    cut = np.log(THRESHOLD / (1 - THRESHOLD))
    if "stretch_all" in fault:
        return cut + fault["stretch_all"] * (logit - cut)
    if "stretch" in fault:
        return np.where(race == 1, cut + fault["stretch"] * (logit - cut), logit)
    return logit + fault.get("top", 0.0) * ((race == 1) & (logit > cut))


def _illness(
    fault: dict[str, Any],
    label: np.ndarray,
    chance: np.ndarray,
    race: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
) -> np.ndarray:
    """A later outcome: as likely as the label, or more where illness is not coded."""
    uncoded = fault.get("uncoded", 0.0) * (race == 1) + fault.get("uncoded_c", 0.0) * (race == 2)
    if not uncoded.any():
        return first < chance
    true = np.minimum(chance / (1 - uncoded), 1.0)
    return label | (second < np.where(chance < 1, (true - chance) / (1 - chance), 0.0))


def _lost(
    fault: dict[str, Any], race: np.ndarray, label: np.ndarray, logit: np.ndarray, coin: np.ndarray
) -> np.ndarray:
    missed = label & (_expit(logit) < THRESHOLD)
    chance = np.full(len(race), fault.get("lost", 0.0))
    if "hide" in fault:
        chance = np.where((race == 1) & missed, fault["hide"], 0.03)
    if "hide_any" in fault:
        chance = np.where(missed, fault["hide_any"], 0.03)
    return coin < chance


def _expit(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))
