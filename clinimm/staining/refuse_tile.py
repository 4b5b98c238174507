"""Which tiles of a slide the safety case is asked about, and in which form.

The safety case judges tiles of tissue of some size. A slide also has tiles of bare glass, about which
there is nothing to believe as long as glass is what comes out, and slivers at its edges, which are too
small to have a texture.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

from clinimm.core.record import digest_json
from clinimm.staining.optical import optical_density
from clinimm.staining.plan import Block
from clinimm.staining.safety import TileRefuser
from clinimm.staining.tissue_damage import UNDAMAGED, TissueDamage

#: Mean optical density from which on a pixel is not bare glass, and the least share of such pixels of a
#: tile that has anything to judge.
_GLASS_DENSITY, _LEAST_TISSUE = 0.035, 0.02
#: Mean optical density of something painted that a viewer sees, and the least number of such pixels on the
#: source's glass that is not left to the eye: a third of a nucleus of 4 µm radius at 0.5 µm a pixel.
_PAINTED_DENSITY, _LEAST_PAINTED = 0.1, 64
#: A smaller tile is mirrored to this size.
_SMALLEST_PIXELS = 64

Picture = UInt8[np.ndarray, "row column 3"]


class RefuseTile:
    """Why a tile must not be shown as a stain; see ``patient.Refuse``.

    Args:
        refuser: of ``SafetyCase.refuser``.
        damage: of the slide's tissue; None takes all of it for sound.
    """

    def __init__(self, refuser: TileRefuser, damage: TissueDamage | None = None) -> None:
        self._refuser, self._damage = refuser, damage

    @property
    def digest(self) -> str:
        """Of what decides."""
        constants = [_GLASS_DENSITY, _LEAST_TISSUE, _PAINTED_DENSITY, _LEAST_PAINTED, _SMALLEST_PIXELS]
        return digest_json([self._refuser.digest, *constants, self._damage is not None])

    def __call__(
        self,
        source: Picture,
        colour: Picture,
        uncertainty: Float[np.ndarray, "row column"],
        features: Float[np.ndarray, " feature"],
        place: Block,
    ) -> tuple[str, ...]:
        """Why the tile must not be believed; empty where it may be shown.

        Glass that came out as glass may be shown. Where the stainer painted tissue on it, that is refused
        as a hallucination; where it painted a little or a tint, the safety case is asked as about any tile.
        """
        if _tissue(source).mean() < _LEAST_TISSUE:
            painted = optical_density(colour).mean(axis=2)[~_tissue(source)] > _PAINTED_DENSITY
            if painted.sum() >= max(_LEAST_PAINTED, _LEAST_TISSUE * painted.size):
                return ("hallucination",)
            if painted.sum() < _LEAST_PAINTED and _tissue(colour).mean() < _LEAST_TISSUE:
                return ()
        found = UNDAMAGED if self._damage is None else self._damage.of(source, place.top, place.left)
        return self._refuser(_roomy(source), _roomy(colour), _roomy(uncertainty), features, found)


def _tissue(picture: Picture) -> Bool[np.ndarray, "row column"]:
    """Which pixels are not bare glass."""
    return np.asarray(optical_density(picture).mean(axis=2) > _GLASS_DENSITY)


def _roomy(part: np.ndarray) -> np.ndarray:
    margins = [(0, max(0, _SMALLEST_PIXELS - side)) for side in part.shape[:2]]
    return np.pad(part, [*margins, *[(0, 0)] * (part.ndim - 2)], mode="symmetric")
