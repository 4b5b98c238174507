"""Is this tile like those that the stainer learned from?

Two descriptions of a tile are compared with those of the training tiles: the source's appearance,
window by window (``appearance.py``), which sees pen, blur, folds, bubbles and another scanner, and
the stainer's own pooled bottleneck features, by their Mahalanobis distance under a shrunken covariance
(Ledoit and Wolf 2004; for networks Lee et al. 2018, arXiv:1807.03888), which see what the
network does not know. Each is counted in units of what tuning tiles of other subjects show, and
the larger of the two is the score: 19 in 20 tuning tiles are below 1 in either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from clinimm.core.errors import DataError
from clinimm.staining.appearance import Appearance, fit_appearance

#: Directions of the training tiles that are kept; what lies outside of them counts as one spread.
_DIRECTIONS = 24
_EDGE = 0.95
_FEWEST_TILES = 8
_SMALLEST = 1e-6

Rgb = UInt8[np.ndarray, "row column 3"]
Features = Float[np.ndarray, " feature"]


@dataclass(frozen=True)
class Cloud:
    """Where the training tiles lie among the stainer's features.

    Attributes:
        mean, scale: of each value, which standardise it.
        directions: (direction, value) principal axes of the standardised values.
        spreads: (direction,) variance along each, shrunken.
        rest: variance along each of all other directions.
        edge: distance that 95 in 100 tuning tiles stay below.
    """

    mean: Float[np.ndarray, " value"]
    scale: Float[np.ndarray, " value"]
    directions: Float[np.ndarray, "direction value"]
    spreads: Float[np.ndarray, " direction"]
    rest: float
    edge: float

    def distance(self, values: Float[np.ndarray, "tile value"]) -> Float[np.ndarray, " tile"]:
        """Mahalanobis distance from the training tiles' centre.

        Raises:
            DataError: the features are another stainer's.
        """
        if values.shape[1] != len(self.mean):
            raise DataError(
                f"got {values.shape[1]} features a tile, the safety case knows {len(self.mean)}; "
                "it belongs to another stainer."
            )
        standard = (values - self.mean) / self.scale
        along = standard @ self.directions.T
        outside = np.maximum((standard**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        return np.sqrt((along**2 / self.spreads).sum(axis=1) + outside / self.rest)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        arrays = {name: getattr(self, name).tolist() for name in ("mean", "scale", "directions", "spreads")}
        return {**arrays, "rest": self.rest, "edge": self.edge}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Cloud:
        """The inverse of ``to_json``."""
        arrays = {name: np.asarray(value[name]) for name in ("mean", "scale", "directions", "spreads")}
        return cls(**arrays, rest=value["rest"], edge=value["edge"])


@dataclass(frozen=True)
class Familiarity:
    """What the training tiles are like.

    Attributes:
        appearance: of their sources.
        latent: of the stainer's features.
        tiles: training tiles behind both.
    """

    appearance: Appearance
    latent: Cloud
    tiles: int

    def score(self, source: Rgb, features: Features) -> float:
        """How far out a tile lies; 1 is the edge of what tuning tiles show."""
        return max(self.parts(source, features).values())

    def parts(self, source: Rgb, features: Features) -> dict[str, float]:
        """The score by description, so that a reader sees what is strange."""
        distance = float(self.latent.distance(np.asarray(features, dtype=float)[None])[0])
        return {"appearance": self.appearance.score(source), "latent": distance / self.latent.edge}

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"appearance": self.appearance.to_json(), "latent": self.latent.to_json(), "tiles": self.tiles}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Familiarity:
        """The inverse of ``to_json``."""
        appearance, latent = Appearance.from_json(value["appearance"]), Cloud.from_json(value["latent"])
        return cls(appearance, latent, value["tiles"])


def fit_familiarity(
    train: Sequence[tuple[Rgb, Features]], tuning: Sequence[tuple[Rgb, Features]], seed: int = 0
) -> Familiarity:
    """Learn what training tiles are like; tuning tiles give the units.

    Args:
        train, tuning: source and pooled features of tiles of different subjects.
        seed: of the windows that are drawn.

    Raises:
        DataError: there are too few tiles, or a feature is not finite.
    """
    own, other = (np.array([found for _, found in tiles], dtype=float) for tiles in (train, tuning))
    latent = fit_cloud(own, other)
    appearance = fit_appearance([source for source, _ in train], [source for source, _ in tuning], seed)
    return Familiarity(appearance, latent, len(train))


def fit_cloud(train: Float[np.ndarray, "tile value"], tuning: Float[np.ndarray, "other value"]) -> Cloud:
    """Mean and shrunken covariance of training tiles, and the edge from tuning tiles.

    The covariance is Ledoit and Wolf's. With more than 24 values its smaller directions share one
    spread (Tipping and Bishop 1999), which keeps a saved model small.

    Raises:
        DataError: there are too few tiles, or a value is not finite.
    """
    from sklearn.covariance import ledoit_wolf

    if len(train) < _FEWEST_TILES or len(tuning) == 0:
        raise DataError(
            f"got {len(train)} training and {len(tuning)} tuning tiles; at least {_FEWEST_TILES} and 1 are "
            "needed to say what is familiar. Cut more tiles from the pairs."
        )
    if not (np.isfinite(train).all() and np.isfinite(tuning).all()):
        raise DataError("a tile's features are not finite; the stainer is broken.")
    mean, scale = train.mean(axis=0), np.maximum(train.std(axis=0), _SMALLEST)
    covariance, _ = ledoit_wolf((train - mean) / scale, assume_centered=True)
    spreads, axes = np.linalg.eigh(covariance)
    kept = slice(-1, -1 - min(_DIRECTIONS, len(spreads)), -1)
    others = spreads[: max(len(spreads) - _DIRECTIONS, 0)]
    rest = max(float(others.mean()), _SMALLEST) if len(others) else 1.0
    directions = np.ascontiguousarray(axes[:, kept].T)  # the layout that it has when loaded again
    cloud = Cloud(mean, scale, directions, np.maximum(spreads[kept], _SMALLEST), rest, 1.0)
    edge = max(float(np.quantile(cloud.distance(tuning), _EDGE)), _SMALLEST)
    return replace(cloud, edge=edge)
