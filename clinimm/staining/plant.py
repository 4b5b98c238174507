"""Hallucinations made on purpose: nuclei pasted into a generated tile, and nuclei taken out of it.

A detector can only be trusted as far as it finds what was planted. Both kinds keep the tile's own
material: a pasted nucleus is a copy of one that is there, an erased one is covered with a copy of
ground that holds none, each with a soft rim, so that neither colour nor noise gives it away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8

from clinimm.core.errors import DataError

Kind = Literal["pasted", "erased"]
#: Of nuclear radii: how far a copy reaches, and how far bare ground lies from any nucleus.
_REACH, _BARE = 1.6, 2.6


@dataclass(frozen=True)
class Planted:
    """A tile with planted hallucinations.

    Attributes:
        rgb: the tile.
        places: (nucleus, 2) row and column of what was planted; fewer than asked for where the tile
            has no room.
        kind: what was done.
    """

    rgb: UInt8[np.ndarray, "row column 3"]
    places: Int[np.ndarray, "nucleus 2"]
    kind: Kind


def plant(
    output: UInt8[np.ndarray, "row column 3"],
    nuclei: Int[np.ndarray, "nucleus 2"],
    kind: Kind,
    count: int,
    radius_px: float,
    seed: int = 0,
) -> Planted:
    """Paste nuclei where the source has none, or erase nuclei that the source has.

    Args:
        output: generated tile.
        nuclei: row and column of every nucleus of the source.
        kind: which of the two.
        count: how many.
        radius_px: of a nucleus.
        seed: of the places.

    Raises:
        DataError: the tile has no nucleus to copy or no bare ground.
    """
    generator = np.random.default_rng(seed)
    reach = round(_REACH * radius_px)
    full = nuclei[_inside(nuclei, output.shape, reach)]
    bare = _bare_ground(nuclei, output.shape, reach, _BARE * radius_px, generator)
    if len(full) == 0 or len(bare) == 0:
        raise DataError(
            f"the tile has {len(full)} whole nuclei and {len(bare)} bare places; both are needed."
        )
    places, donors = (bare, full) if kind == "pasted" else (full, bare)
    targets = _apart(places[generator.permutation(len(places))], 2.0 * reach)[:count]
    rgb = output.copy()
    rim = _soft_disc(reach)
    for place in targets:
        row, column = donors[generator.integers(len(donors))]
        _copy(output, rgb, (int(row), int(column)), (int(place[0]), int(place[1])), rim)
    return Planted(rgb, targets, kind)


def _copy(
    source: np.ndarray, target: np.ndarray, donor: tuple[int, int], place: tuple[int, int], rim: np.ndarray
) -> None:
    reach = len(rim) // 2
    cut, paste = (
        tuple(slice(centre - reach, centre + reach + 1) for centre in centres) for centres in (donor, place)
    )
    mixed = rim * source[cut] + (1 - rim) * target[paste]
    target[paste] = np.round(mixed).astype(np.uint8)


def _soft_disc(reach: int) -> Float[np.ndarray, "row column 1"]:
    """1 inside, falling to 0 over the outer third."""
    axis = np.arange(-reach, reach + 1)
    distance = np.hypot(axis[:, None], axis[None, :]) / reach
    return np.clip((1 - distance) * 3, 0, 1)[..., None]


def _inside(places: np.ndarray, shape: tuple[int, ...], reach: int) -> np.ndarray:
    far = np.array(shape[:2]) - reach
    return np.asarray(((places >= reach) & (places < far)).all(axis=1))


def _bare_ground(
    nuclei: np.ndarray, shape: tuple[int, ...], reach: int, distance: float, generator: np.random.Generator
) -> Int[np.ndarray, "place 2"]:
    """Places at least ``distance`` from every nucleus."""
    tries = np.stack([generator.integers(reach, side - reach, 2000) for side in shape[:2]], axis=1)
    nearest = np.full(len(tries), np.inf)
    for nucleus in nuclei:
        nearest = np.minimum(nearest, np.hypot(*(tries - nucleus).T))
    return tries[nearest >= distance]


def _apart(places: np.ndarray, distance: float) -> Int[np.ndarray, "place 2"]:
    """The places in order, without those that lie near one already taken."""
    taken: list[np.ndarray] = []
    for place in places:
        if all(np.hypot(*(place - other)) >= distance for other in taken):
            taken.append(place)
    return np.array(taken, dtype=np.int64).reshape(-1, 2)
