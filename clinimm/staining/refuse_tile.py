"""Which tiles of a slide the safety case is asked about, and in which form.

The safety case judges tiles of tissue of some size. A slide also has tiles of bare glass, about which
there is nothing to believe, and slivers at its edges, which are too small to have a texture.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from clinimm.core.record import digest_json
from clinimm.staining.optical import optical_density
from clinimm.staining.plan import Block
from clinimm.staining.safety import TileRefuser
from clinimm.staining.tissue_damage import UNDAMAGED, TissueDamage

#: Mean optical density from which on a pixel is not bare glass, and the least share of such pixels of a
#: tile that has anything to judge.
_GLASS_DENSITY, _LEAST_TISSUE = 0.035, 0.02
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
        constants = [_GLASS_DENSITY, _LEAST_TISSUE, _SMALLEST_PIXELS, self._damage is not None]
        return digest_json([self._refuser.digest, *constants])

    def __call__(
        self,
        source: Picture,
        colour: Picture,
        uncertainty: Float[np.ndarray, "row column"],
        features: Float[np.ndarray, " feature"],
        place: Block,
    ) -> tuple[str, ...]:
        """Why the tile must not be believed; empty where it may be shown."""
        if (optical_density(source).mean(axis=2) > _GLASS_DENSITY).mean() < _LEAST_TISSUE:
            return ()
        found = UNDAMAGED if self._damage is None else self._damage.of(source, place.top, place.left)
        return self._refuser(_roomy(source), _roomy(colour), _roomy(uncertainty), features, found)


def _roomy(part: np.ndarray) -> np.ndarray:
    margins = [(0, max(0, _SMALLEST_PIXELS - side)) for side in part.shape[:2]]
    return np.pad(part, [*margins, *[(0, 0)] * (part.ndim - 2)], mode="symmetric")
