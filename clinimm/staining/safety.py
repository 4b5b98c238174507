"""The safety case of a stainer: what it says of each tile, and when it says nothing.

``SafetyCase`` is fitted once (``fit_safety.py``), saved with the stainer as JSON values, and judges
tiles one by one, each alone: no tile's answer depends on its neighbours or on the order. It holds

* per stain the map from the members' raw expectation to the error that was observed
  (``calibrate_stain.py``), the way back from stain to source (``hallucination.py``) and the
  thresholds of refusal (``refusal.py``);
* for all stains together what training tiles look like (``ood.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from clinimm.core.errors import ModelError
from clinimm.core.record import digest_bytes
from clinimm.staining.appearance import density_planes
from clinimm.staining.calibrate_stain import ErrorMap
from clinimm.staining.hallucination import HallucinationCheck
from clinimm.staining.ood import Familiarity
from clinimm.staining.refusal import Thresholds, TileScores
from clinimm.staining.tissue_damage import UNDAMAGED, Damage

_FORMAT = "clinimm.staining.safety/1"
#: Mean optical density below which a pixel is bare glass, where an error means nothing.
_GLASS = 0.035
_LEAST_TISSUE = 64

Rgb = UInt8[np.ndarray, "row column 3"]


@dataclass(frozen=True)
class StainedTile:
    """What a stainer made of one tile.

    Attributes:
        stain: which stain.
        rgb: mean of the members, as it is written to a file.
        expected_error: what the stainer expects of itself (``Stained.uncertainty``), 0 to 1.
        features: pooled bottleneck features.
    """

    stain: str
    rgb: Rgb
    expected_error: Float[np.ndarray, "row column"]
    features: Float[np.ndarray, " feature"]


@dataclass(frozen=True)
class TileExample:
    """A stained tile beside the truth.

    Attributes:
        subject_id: whose tissue.
        source: the tile that was stained.
        stained: what came out.
        target: the real stain.
        valid: where both lie on each other after registration.
        top, left: where the tile lies in its region, pixels.
        damage: what is wrong with the source's tissue.
    """

    subject_id: str
    source: Rgb
    stained: StainedTile
    target: Rgb
    valid: Bool[np.ndarray, "row column"]
    top: int = 0
    left: int = 0
    damage: Damage = UNDAMAGED

    def absolute_error(self) -> Float[np.ndarray, "row column 3"]:
        """Absolute difference of colour from the real stain, 0 to 1."""
        difference = self.stained.rgb.astype(np.int16) - self.target.astype(np.int16)
        return np.abs(difference).astype(np.float32) / 255

    def mean_error(self) -> float:
        """Mean absolute difference over valid pixels; NaN where none is valid."""
        return float(self.absolute_error()[self.valid].mean()) if self.valid.any() else float("nan")


@dataclass(frozen=True)
class TileSafety:
    """The verdict on one tile.

    Attributes:
        ood: how unlike the training tiles; 1 is the edge of the tuning tiles.
        hallucination: how inconsistent with the source; likewise.
        uncertainty: mean expected absolute error over tissue, calibrated, 0 to 1.
        refused: whether the tile must not be shown as a stain.
        reasons: why, of ``refusal.TILE_REASONS``; empty where it is not refused.
        quality: damaged share of the source's tissue.
        risk: how near to refusal; above 1 it is refused.
    """

    ood: float
    hallucination: float
    uncertainty: float
    refused: bool
    reasons: tuple[str, ...]
    quality: float
    risk: float


@dataclass(frozen=True)
class StainSafety:
    """What is known of one stain.

    Attributes:
        errors: raw expectation -> expected error.
        check: the way back.
        thresholds: of refusal.
    """

    errors: ErrorMap
    check: HallucinationCheck
    thresholds: Thresholds

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "errors": self.errors.to_json(),
            "check": self.check.to_json(),
            "thresholds": self.thresholds.to_json(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> StainSafety:
        """The inverse of ``to_json``."""
        return cls(
            ErrorMap.from_json(value["errors"]),
            HallucinationCheck.from_json(value["check"]),
            Thresholds.from_json(value["thresholds"]),
        )


@dataclass(frozen=True)
class SafetyCase:
    """All that judges a tile of a stainer.

    Attributes:
        familiarity: what training tiles look like.
        stains: by stain.
        resolution_um: micrometres a pixel that tiles must have.
        tile_pixels: side of the tiles that it was fitted on; tiles of about this size are judged.
    """

    familiarity: Familiarity
    stains: Mapping[str, StainSafety]
    resolution_um: float
    tile_pixels: int

    def uncertainty(self, stained: StainedTile) -> Float[np.ndarray, "row column"]:
        """Calibrated expected absolute error of each pixel, 0 to 1."""
        return self._of(stained.stain).errors(stained.expected_error)

    def score(self, source: Rgb, stained: StainedTile, damage: Damage = UNDAMAGED) -> TileScores:
        """The four scores of a tile; ``damage`` is what quality control found in its tissue."""
        safety = self._of(stained.stain)
        return TileScores(
            outside=self.familiarity.score(source, stained.features),
            uncertain=over_tissue(safety.errors(stained.expected_error), source, stained.rgb),
            hallucination=safety.check.score(source, stained.rgb),
            quality=damage.share,
            damage=damage.kind,
        )

    def refuse(self, source: Rgb, stained: StainedTile, damage: Damage = UNDAMAGED) -> TileSafety:
        """Judge one tile.

        Args:
            source: the tile that was stained, at ``resolution_um``.
            stained: what the stainer made of it.
            damage: what quality control found in its tissue.

        Raises:
            ModelError: the stain is unknown.
            DataError: the tile is smaller than 32 × 32, or source and output differ in size.
        """
        scores = self.score(source, stained, damage)
        thresholds = self._of(stained.stain).thresholds
        reasons = thresholds.reasons(scores)
        return TileSafety(
            ood=scores.outside,
            hallucination=scores.hallucination,
            uncertainty=scores.uncertain,
            refused=bool(reasons),
            reasons=reasons,
            quality=scores.quality,
            risk=thresholds.risk(scores),
        )

    def refuser(self, stain: str) -> TileRefuser:
        """What the whole-slide engine asks of each stored tile.

        Raises:
            ModelError: the stain is unknown.
        """
        self._of(stain)
        return TileRefuser(self, stain)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, to be saved beside the stainer."""
        return {
            "format": _FORMAT,
            "familiarity": self.familiarity.to_json(),
            "stains": {name: safety.to_json() for name, safety in self.stains.items()},
            "resolution_um": self.resolution_um,
            "tile_pixels": self.tile_pixels,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SafetyCase:
        """The inverse of ``to_json``.

        Raises:
            ModelError: the values are of another version.
        """
        if value.get("format") != _FORMAT:
            raise ModelError(
                f"the safety case is {value.get('format')!r}; this version reads {_FORMAT!r}. Train again."
            )
        return cls(
            Familiarity.from_json(value["familiarity"]),
            {name: StainSafety.from_json(item) for name, item in value["stains"].items()},
            value["resolution_um"],
            value["tile_pixels"],
        )

    def _of(self, stain: str) -> StainSafety:
        if stain not in self.stains:
            raise ModelError(f"no safety case for stain {stain!r}; known are {', '.join(self.stains)}.")
        return self.stains[stain]


class TileRefuser:
    """A safety case bound to one stain; keeps no tile.

    Attributes:
        digest: of the safety case and the stain, so that unfinished work under another is not mixed.
    """

    def __init__(self, case: SafetyCase, stain: str) -> None:
        self._case, self._stain = case, stain
        self.digest = digest_bytes(json.dumps([case.to_json(), stain], sort_keys=True).encode())

    def __call__(
        self,
        source: Rgb,
        rgb: Rgb,
        expected_error: Float[np.ndarray, "row column"],
        features: Float[np.ndarray, " feature"],
        damage: Damage = UNDAMAGED,
    ) -> tuple[str, ...]:
        """Why the tile must not be believed; empty where it may be shown."""
        tile = StainedTile(self._stain, rgb, expected_error, features)
        return self._case.refuse(source, tile, damage).reasons


def over_tissue(error: Float[np.ndarray, "row column"], source: Rgb, output: Rgb) -> float:
    """Mean error over pixels that are tissue in source or output; over all where hardly any is."""
    tissue = (density_planes(source).sum(axis=0) > 3 * _GLASS) | (
        density_planes(output).sum(axis=0) > 3 * _GLASS
    )
    return float(error[tissue].mean() if tissue.sum() >= _LEAST_TISSUE else error.mean())
