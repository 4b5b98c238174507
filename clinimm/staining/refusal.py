"""When a generated tile is not shown: four reasons, thresholds from tuning tiles, and what it buys.

Thresholds are set so that, all reasons together, no more than a stated share of the tuning tiles is
refused: tiles that are as they should be. A refusal is then a rare event on ordinary tissue, and a
tile that is refused is stranger than nearly all of them. ``refusal_curve`` shows whether that helps: how
the error of what is kept falls as more is refused (El-Yaniv and Wiener 2010), beside refusing at
random and beside an oracle that knows the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from clinimm.core.errors import DataError
from clinimm.staining.agreement import Figure, mean_by_unit
from clinimm.staining.clusters import DRAWS, cluster_figure, figure_json, ratio
from clinimm.staining.tissue_damage import DAMAGES

#: What a tile is judged by: unlike the training tiles; expected error too large; nuclei or structure
#: at odds with the source; damaged tissue.
REASONS = ("outside", "uncertain", "hallucination", "quality")
#: Why a tile is refused, as it is written down: damage by what it is.
TILE_REASONS = (*REASONS[:-1], *DAMAGES)
#: A tile is refused as damaged where more of its tissue is than this share.
MOST_DAMAGE = 0.25
_SMALLEST = 1e-9
_CURVE_POINTS = 21


@dataclass(frozen=True)
class TileScores:
    """What a tile is judged by; more is worse.

    Attributes:
        outside: out-of-distribution score (``ood.py``).
        uncertain: mean calibrated expected error over tissue, in 0 to 1.
        hallucination: inconsistency with the source (``hallucination.py``).
        quality: share of the tissue that is damaged, 0 to 1.
        damage: by what most of all, of ``DAMAGES``; empty where nothing is.
    """

    outside: float
    uncertain: float
    hallucination: float
    quality: float
    damage: str = ""


@dataclass(frozen=True)
class LeftOut:
    """What the thresholds of all but one tuning subject refuse of that one's sound tiles.

    Attributes:
        share: mean over the tuning subjects; what to expect of another person's ordinary tissue.
        low, high: its interval over subjects; None where there are too few.
        subjects: how many.
        promised: 1 / (subjects + 1): the chance that a new subject is the strangest of all (Vovk et al.
            2005, conformal prediction), so that limits at the largest scores still refuse some of
            his tissue. The limits in use are stricter and promise nothing.
    """

    share: float
    low: float | None
    high: float | None
    subjects: int
    promised: float


@dataclass(frozen=True)
class Thresholds:
    """The largest scores that are let through.

    Attributes:
        outside, uncertain, hallucination, quality: see ``TileScores``.
        tiles, refused: sound tuning tiles, and how many of them these thresholds refuse.
        aim: ``staining.refuse_share``; None in a safety case of an older form.
        damaged: tuning tiles that are refused as damaged, and say nothing of the other thresholds.
        left_out: what is refused of a subject that the thresholds have not seen; None as ``aim``, and where
            there is one subject only.
    """

    outside: float
    uncertain: float
    hallucination: float
    quality: float
    tiles: int
    refused: int
    aim: float | None = None
    damaged: int = 0
    left_out: LeftOut | None = None

    def reasons(self, scores: TileScores) -> tuple[str, ...]:
        """Every reason to refuse the tile, of ``TILE_REASONS``; empty where there is none.

        A score that is not a number is a reason: what cannot be judged is not shown.
        """
        above = [name for name in REASONS if not getattr(scores, name) <= getattr(self, name)]
        return tuple((scores.damage or DAMAGES[0]) if name == "quality" else name for name in above)

    def risk(self, scores: TileScores) -> float:
        """How near to refusal a tile is: above 1 it is refused."""
        return max(getattr(scores, name) / max(getattr(self, name), _SMALLEST) for name in REASONS)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Thresholds:
        """The inverse of ``to_json``; reads the older form, which had less to say."""
        found = value.get("left_out")
        return cls(**{**value, "left_out": None if found is None else LeftOut(**found)})


def fit_thresholds(scores: Sequence[TileScores], share: float, subjects: Sequence[str] = ()) -> Thresholds:
    """The strictest thresholds that refuse at most ``share`` of the tuning tiles.

    From the largest score seen, one reason after the other is lowered by one tile, in turn, for as
    long as all reasons together stay within the share. Where the share is less than one tile, each
    threshold is the largest score seen. Damage is refused above ``MOST_DAMAGE`` whoever shows it; tiles
    that are refused for it are left out of the rest, unless there is no other.

    Tiles of one subject resemble each other, so with few tuning subjects more of other people's tiles
    are refused than the share; ``LeftOut`` says how many. Thresholds that are widened until a left-out
    subject keeps to the share were tried and are not used: they let still more planted nuclei through,
    87 % in place of 77 % (``governance/decisions/0012``).

    Args:
        scores: of tuning tiles.
        share: ``staining.refuse_share``.
        subjects: whose tiles; without them nothing is said of left-out subjects.

    Raises:
        DataError: there is no tile, or a score is not finite.
    """
    table = np.array([[getattr(one, name) for name in REASONS] for one in scores], dtype=float)
    if len(table) == 0 or not np.isfinite(table).all():
        raise DataError(
            f"{len(table)} tuning tiles with {int(np.sum(~np.isfinite(table)))} scores that are no number; "
            "refusal needs at least one tile, and a number each."
        )
    sound = table[:, -1] <= MOST_DAMAGE
    judged = sound if sound.any() else np.ones(len(table), dtype=bool)
    limits = _limits(table[judged, :-1], share)
    outside, uncertain, hallucination = (float(limit) for limit in limits)
    owners = np.array(subjects)[judged] if len(subjects) else np.zeros(0)
    return Thresholds(
        outside,
        uncertain,
        hallucination,
        MOST_DAMAGE,
        tiles=int(judged.sum()),
        refused=int(_above(table[judged, :-1], limits).sum()),
        aim=share,
        damaged=int((~sound).sum()),
        left_out=_left_out(table[judged, :-1], share, owners),
    )


def _left_out(table: Float[np.ndarray, "tile reason"], share: float, owners: np.ndarray) -> LeftOut | None:
    """Fit to all subjects but one, count what is refused of that one, for each in turn."""
    names = np.unique(owners)
    if len(names) < 2:
        return None
    refused = np.zeros(len(table))
    for name in names:
        own = owners == name
        refused[own] = _above(table[own], _limits(table[~own], share))
    found = mean_by_unit(refused, [str(owner) for owner in owners])
    low, high = (end if np.isfinite(end) else None for end in (found.low, found.high))
    return LeftOut(found.value, low, high, len(names), 1 / (len(names) + 1))


def _limits(table: Float[np.ndarray, "tile reason"], share: float) -> Float[np.ndarray, " reason"]:
    """See ``fit_thresholds``: from the largest score down, a tile at a time, each reason in turn."""
    descending = -np.sort(-table, axis=0)
    allowed = int(share * len(table) + _SMALLEST)
    reasons = range(table.shape[1])
    passed = np.zeros(len(reasons), dtype=int)
    open_reasons = list(reasons)
    while open_reasons:
        for reason in tuple(open_reasons):
            stricter = passed.copy()
            stricter[reason] += 1
            if stricter[reason] == len(table) or _above(table, descending[stricter, reasons]).sum() > allowed:
                open_reasons.remove(reason)
            else:
                passed = stricter
    return np.asarray(descending[passed, reasons])


def _above(table: Float[np.ndarray, "tile reason"], limits: Float[np.ndarray, " reason"]) -> np.ndarray:
    """Which tiles are above a limit."""
    return np.asarray((table > limits).any(axis=1))


@dataclass(frozen=True)
class RefusalCurve:
    """The error of the tiles that are kept, as more and more are refused.

    Attributes:
        share_refused: (point,) from 0 on.
        kept_error: (point,) mean error of the kept tiles when the riskiest go first.
        oracle_error: (point,) when those with the largest error go first.
        area: mean of the kept error over all shares, with its interval over subjects; random
            refusal has ``random`` at every share, so a smaller area is a gain.
        random: mean error of all tiles.
        oracle: area of the oracle, which no score can go below.
        gain: (random - area) / (random - oracle): 0 is chance, 1 is the oracle, below 0 is harm.
        tiles: how many.
    """

    share_refused: tuple[float, ...]
    kept_error: tuple[float, ...]
    oracle_error: tuple[float, ...]
    area: Figure
    random: Figure
    oracle: Figure
    gain: Figure
    tiles: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for a run's evidence."""
        lists = {name: list(getattr(self, name)) for name in ("share_refused", "kept_error", "oracle_error")}
        figures = {name: figure_json(getattr(self, name)) for name in ("area", "random", "oracle", "gain")}
        return {**lists, **figures, "tiles": self.tiles}


def refusal_curve(
    risk: Float[np.ndarray, " tile"],
    error: Float[np.ndarray, " tile"],
    subjects: Sequence[str],
    seed: int = 0,
    draws: int = DRAWS,
) -> RefusalCurve:
    """What refusing by ``risk`` does to the error of held-out tiles.

    Args:
        risk: of each tile, such as ``Thresholds.risk``.
        error: mean absolute difference from the real stain.
        subjects: of each tile.
        seed, draws: of the bootstrap.

    Raises:
        DataError: there is no tile, or a value is not finite.
    """
    if len(error) == 0 or not (np.isfinite(risk).all() and np.isfinite(error).all()):
        raise DataError("a refusal curve needs at least one tile, and a finite risk and error of each.")

    def areas(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        everything = ratio(weights @ error, weights.sum(axis=1))
        return _area(risk, error, weights), everything, _area(error, error, weights)

    def gain(weights: np.ndarray) -> np.ndarray:
        own, random, oracle = areas(weights)
        return ratio(random - own, random - oracle)

    def figure(which: int) -> Figure:
        return cluster_figure(lambda weights: areas(weights)[which], subjects, "", seed, draws)

    shares = np.linspace(0, 1, _CURVE_POINTS)[:-1]
    return RefusalCurve(
        tuple(float(share) for share in shares),
        _kept(risk, error, shares),
        _kept(error, error, shares),
        figure(0),
        figure(1),
        figure(2),
        cluster_figure(gain, subjects, "", seed, draws),
        len(error),
    )


def _area(
    score: np.ndarray, error: np.ndarray, weights: Float[np.ndarray, "draw tile"]
) -> Float[np.ndarray, " draw"]:
    """Mean over tiles of the error of all tiles at most as risky; equally risky ones go together."""
    order = np.argsort(score, kind="stable")
    ordered = weights[:, order]
    kept = np.cumsum(ordered, axis=1)
    summed = np.cumsum(ordered * error[order], axis=1)
    last = np.searchsorted(score[order], score[order], "right") - 1
    means = ratio(summed[:, last], kept[:, last])
    return ratio((ordered * np.nan_to_num(means)).sum(axis=1), kept[:, -1])


def _kept(score: np.ndarray, error: np.ndarray, shares: np.ndarray) -> tuple[float, ...]:
    ordered = error[np.argsort(score, kind="stable")]
    counts = np.maximum(np.ceil((1 - shares) * len(ordered) - _SMALLEST).astype(int), 1)
    return tuple(float(ordered[:count].mean()) for count in counts)
