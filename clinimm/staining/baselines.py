"""What a virtual stain must beat: four ways to make one that look at a single pixel, or at none.

Each is fitted on training pairs only and answers by the same call as a network does, so that the
table of results always holds them. None has a neighbourhood: whatever a network adds must come from
seeing shape and surroundings, or the record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Float

from clinimm.core.errors import DataError
from clinimm.staining.optical import HAEMATOXYLIN, Rgb, optical_density, unmix_matrix

if TYPE_CHECKING:
    from clinimm.staining.pairs import StainPair

COPY = "copy"
MEAN_COLOUR = "mean_colour"
QUADRATIC = "quadratic"
DECONVOLUTION = "deconvolution"

_BAND_PIXELS = 1 << 18
_TERMS = 10
#: Ridge as a share of the mean diagonal of the normal equations: it only guards a source of one colour.
_RIDGE = 1e-6
#: Below this optical density a pixel is glass and says nothing about the dyes.
_GLASS = 0.15
_UNLIKE_SHARE = 0.05
_TINY = 1e-12


class Baseline(Protocol):
    """A way to make a stain from a source image."""

    def predict(self, source: Rgb, stain: str) -> Rgb:
        """The stain as an image of the source's shape (uint8).

        Raises:
            DataError: no training pair has this stain.
        """
        ...


def fit_baselines(pairs: Sequence[StainPair]) -> dict[str, Baseline]:
    """All four baselines by name, fitted on the given pairs.

    Args:
        pairs: training pairs only; pixels outside ``valid`` are not looked at.

    Raises:
        DataError: there is no pair, or no stain has a valid pixel.
    """
    stains = sorted({stain for pair in pairs for stain in pair.targets})
    if not stains or not any(pair.valid.any() for pair in pairs):
        raise DataError(
            f"Baselines need a training pair with a valid pixel; {len(pairs)} pairs were given, none with "
            "one. Check the registration of the training pairs."
        )
    return {
        COPY: Copy(tuple(stains)),
        MEAN_COLOUR: MeanColour({stain: _mean_colour(pairs, stain) for stain in stains}),
        QUADRATIC: Quadratic({stain: _fit_quadratic(pairs, stain) for stain in stains}),
        DECONVOLUTION: fit_deconvolution(pairs, stains),
    }


@dataclass(frozen=True)
class Copy:
    """The source as it is."""

    stains: tuple[str, ...]

    def predict(self, source: Rgb, stain: str) -> Rgb:
        """A copy of the source."""
        _known(stain, self.stains)
        return source.copy()


@dataclass(frozen=True)
class MeanColour:
    """One colour everywhere: the mean of the stain's training pixels.

    Attributes:
        colours: red, green and blue (0 to 255) of each stain.
    """

    colours: dict[str, Float[np.ndarray, "3"]]

    def predict(self, source: Rgb, stain: str) -> Rgb:
        """The mean colour, in the source's shape."""
        _known(stain, self.colours)
        return np.broadcast_to(_bytes(self.colours[stain]), source.shape).copy()


@dataclass(frozen=True)
class Quadratic:
    """Each channel as a polynomial of degree two in the pixel's three channels.

    Attributes:
        coefficients: of 1, r, g, b, r², g², b², rg, rb, gb (channels in 0 to 1), for each stain.
    """

    coefficients: dict[str, Float[np.ndarray, "term 3"]]

    def predict(self, source: Rgb, stain: str) -> Rgb:
        """The polynomial of every pixel, a band of rows at a time."""
        _known(stain, self.coefficients)
        weights = self.coefficients[stain].astype(np.float32) * 255
        return _by_band(source, lambda band: _terms(band, np.float32) @ weights)


@dataclass(frozen=True)
class Deconvolution:
    """Haematoxylin kept; whatever else the source holds becomes the stain's mean dye.

    Attributes:
        unmix: density of three channels to amounts of haematoxylin and of the rest.
        dyes: for each stain the density of three channels that a unit of the rest becomes.
    """

    unmix: Float[np.ndarray, "3 2"]
    dyes: dict[str, Float[np.ndarray, "3"]] = field(default_factory=dict)

    def predict(self, source: Rgb, stain: str) -> Rgb:
        """Densities unmixed, the rest recoloured, and turned back into light."""
        _known(stain, self.dyes)
        unmix = self.unmix.astype(np.float32)
        mix = np.stack([_unit(HAEMATOXYLIN), self.dyes[stain]]).astype(np.float32)

        def recolour(band: Rgb) -> Float[np.ndarray, "pixel 3"]:
            dye = np.maximum(optical_density(band).reshape(-1, 3) @ unmix, 0)
            return np.float32(255) * np.power(np.float32(10), -(dye @ mix))

        return _by_band(source, recolour)


def fit_deconvolution(pairs: Sequence[StainPair], stains: Sequence[str]) -> Deconvolution:
    """Find the source's second dye, and for each stain what it becomes on average.

    The second dye is the mean direction of the one twentieth of tissue pixels whose densities are
    least like haematoxylin (the extreme of Macenko et al. 2009, with one end fixed). What a unit
    of it becomes is a least-squares fit of the target's densities less the kept haematoxylin.
    """
    unmix = unmix_matrix(HAEMATOXYLIN, _second_dye(pairs))
    return Deconvolution(unmix, {stain: _mean_dye(pairs, stain, unmix) for stain in stains})


def _second_dye(pairs: Sequence[StainPair]) -> Float[np.ndarray, "3"]:
    kept = []
    for pair in pairs:
        density = optical_density(pair.source)[pair.valid]
        length = np.linalg.norm(density, axis=1)
        tissue = density[length > _GLASS] / length[length > _GLASS, None]
        likeness = tissue @ _unit(HAEMATOXYLIN)
        count = max(1, int(len(tissue) * _UNLIKE_SHARE))
        kept.append(tissue[np.argsort(likeness)[:count]] if len(tissue) else tissue)
    found = np.concatenate(kept)
    if len(found) == 0:
        raise DataError(
            "No training pair shows tissue: every valid source pixel is nearly white, so stains cannot be "
            "separated. Check the pairs and their masks."
        )
    return _unit(found.mean(axis=0))


def _mean_dye(pairs: Sequence[StainPair], stain: str, unmix: Float[np.ndarray, "3 2"]) -> np.ndarray:
    top, bottom = np.zeros(3), 0.0
    for source, target in _pixels(pairs, stain):
        dye = np.maximum(optical_density(source[None])[0] @ unmix, 0)
        left = optical_density(target[None])[0] - dye[:, :1] * _unit(HAEMATOXYLIN)
        top += dye[:, 1] @ left
        bottom += float(dye[:, 1] @ dye[:, 1])
    return np.maximum(top / max(bottom, _TINY), 0)


def _mean_colour(pairs: Sequence[StainPair], stain: str) -> Float[np.ndarray, "3"]:
    total, count = np.zeros(3), 0
    for _, target in _pixels(pairs, stain):
        total += target.sum(axis=0, dtype=float)
        count += len(target)
    return total / max(count, 1)


def _fit_quadratic(pairs: Sequence[StainPair], stain: str) -> Float[np.ndarray, "term 3"]:
    gram, moment = np.zeros((_TERMS, _TERMS)), np.zeros((_TERMS, 3))
    for source, target in _pixels(pairs, stain):
        design = _terms(source, np.float64)
        gram += design.T @ design
        moment += design.T @ (target / 255.0)
    ridge = max(_RIDGE * float(np.trace(gram)) / _TERMS, _TINY)
    penalty = ridge * np.eye(_TERMS)
    penalty[0, 0] = _TINY  # the mean is not shrunk
    return np.linalg.solve(gram + penalty, moment)


def _terms(rgb: np.ndarray, dtype: type[np.floating]) -> Float[np.ndarray, "pixel term"]:
    channel = rgb.reshape(-1, 3).astype(dtype) / dtype(255)
    red, green, blue = channel.T
    crossed = (red * green, red * blue, green * blue)
    return np.column_stack([np.ones_like(red), channel, channel**2, *crossed])


def _pixels(pairs: Sequence[StainPair], stain: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Valid source and target pixels (pixel, 3), a band at a time, of the pairs that have the stain."""
    for pair in pairs:
        if stain not in pair.targets:
            continue
        target, rows = pair.targets[stain], max(1, _BAND_PIXELS // max(1, pair.source.shape[1]))
        for start in range(0, pair.source.shape[0], rows):
            band = slice(start, start + rows)
            valid = pair.valid[band]
            if valid.any():
                yield pair.source[band][valid], target[band][valid]


def _by_band(source: Rgb, colour: Callable[[np.ndarray], np.ndarray]) -> Rgb:
    """``colour`` of each band of rows (pixel, 3), rounded to bytes: memory does not grow with the image."""
    made = np.empty(source.shape, dtype=np.uint8)
    rows = max(1, _BAND_PIXELS // max(1, source.shape[1]))
    for start in range(0, source.shape[0], rows):
        band = source[start : start + rows]
        made[start : start + rows] = _bytes(colour(band)).reshape(band.shape)
    return made


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _unit(vector: Sequence[float] | np.ndarray) -> Float[np.ndarray, "3"]:
    values = np.asarray(vector, dtype=float)
    return values / np.linalg.norm(values)


def _known(stain: str, stains: Sequence[str] | dict[str, np.ndarray]) -> None:
    if stain not in stains:
        raise DataError(f"No training pair has the stain {stain!r}; known are {', '.join(sorted(stains))}.")
