"""What the training tiles look like, window by window.

A fold is ten pixels wide and a bubble a hundredth of a tile: averaged over the tile they vanish. So a
tile is described in windows of 32 pixels, each with its colours, how they vary together, and
its detail at three scales, and a mixture of Gaussians learns which windows training tiles have. A
tile is as strange as its strangest windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import uniform_filter

from clinimm.core.errors import DataError
from clinimm.staining.optical import optical_density

#: Windows are this many blocks of this many pixels a side, and start at every block.
BLOCK_PIXELS, WINDOW_BLOCKS = 16, 2
SMALLEST_TILE = BLOCK_PIXELS * WINDOW_BLOCKS
#: What ``describe_windows`` gives, in order: optical densities unless said otherwise; ``log`` is natural.
STATISTICS = (
    *("red", "green", "blue", "red_less_green", "blue_less_green"),
    *("log_spread_red", "log_spread_green", "log_spread_blue"),
    *("correlation_red_green", "correlation_green_blue"),
    *("log_detail_1", "log_detail_2", "log_detail_4", "log_detail_red"),
    *("fall_1_to_4", "fall_1_to_2", "log_glass"),
)
#: The windows that make a tile's score, and the kinds of window that are told apart at most.
_WORST, _KINDS = 3, 6
_MOST_WINDOWS, _WINDOWS_A_KIND = 6000, 200
#: Added to the variances of standardised values, so that no kind of window is infinitely narrow.
_FLOOR = 1e-3
_GLASS = 0.04
_EDGE = 0.95
_SMALLEST = 1e-6

Rgb = UInt8[np.ndarray, "row column 3"]
Windows = Float[np.ndarray, "window statistic"]


def density_planes(rgb: Rgb) -> Float[np.ndarray, "3 row column"]:
    """Decadic optical density, one plane a channel, over which filters and means run faster."""
    return np.ascontiguousarray(np.moveaxis(optical_density(rgb), -1, 0))


def describe_windows(rgb: Rgb) -> Windows:
    """The windows of a tile as ``STATISTICS``; a rim narrower than a block is left out.

    Raises:
        DataError: the tile is smaller than a window.
    """
    if min(rgb.shape[:2]) < SMALLEST_TILE:
        raise DataError(
            f"a tile of {rgb.shape[0]} × {rgb.shape[1]} is too small; {SMALLEST_TILE} a side is the least."
        )
    red, green, blue = planes = density_planes(rgb)
    grey = (red + green + blue) / 3
    detail = [_gradient(grey, step) for step in (1, 2, 4)]
    glass = (grey < _GLASS).astype(np.float32)
    products = np.stack([red * red, green * green, blue * blue, red * green, green * blue])
    mean = _window_means(np.concatenate([planes, products, [*detail, _gradient(red, 1), glass]]))
    r, g, b, rr, gg, bb, rg, gb, fine, middle, coarse, fine_red, bare = mean
    spread_r, spread_g, spread_b = (
        np.maximum(sq - m * m, _SMALLEST) for sq, m in ((rr, r), (gg, g), (bb, b))
    )
    logs = [_log(part) for part in (fine, middle, coarse, fine_red)]
    statistics = [
        *(r, g, b, r - g, b - g),
        *(_log(np.sqrt(spread)) for spread in (spread_r, spread_g, spread_b)),
        (rg - r * g) / np.sqrt(spread_r * spread_g),
        (gb - g * b) / np.sqrt(spread_g * spread_b),
        *logs,
        *(logs[0] - logs[2], logs[0] - logs[1], _log(bare)),
    ]
    return np.stack([part.ravel() for part in statistics], axis=1).astype(np.float64)


@dataclass(frozen=True)
class Appearance:
    """A mixture of Gaussians over the windows of training tiles.

    Attributes:
        mean, scale: (statistic,), which standardise a window.
        centres: (kind, statistic).
        whiten: (kind, statistic, statistic): a window less its centre times this has variance 1.
        log_weights: (kind,) log of each kind's share and normalisation.
        usual, edge: the tuning tiles' median score and what 95 in 100 stay below.
    """

    mean: Float[np.ndarray, " statistic"]
    scale: Float[np.ndarray, " statistic"]
    centres: Float[np.ndarray, "kind statistic"]
    whiten: Float[np.ndarray, "kind statistic statistic"]
    log_weights: Float[np.ndarray, " kind"]
    usual: float
    edge: float

    def strangeness(self, windows: Windows) -> Float[np.ndarray, " window"]:
        """Negative log density of each window."""
        from scipy.special import logsumexp

        standard = (windows - self.mean) / self.scale
        away = np.einsum("wks,kst->wkt", standard[:, None, :] - self.centres, self.whiten)
        return -np.asarray(logsumexp(self.log_weights - 0.5 * (away**2).sum(axis=2), axis=1))

    def score(self, rgb: Rgb) -> float:
        """How strange a tile's strangest windows are: 0 as usual, 1 the edge of the tuning tiles."""
        return max(0.0, (self._worst(rgb) - self.usual) / max(self.edge - self.usual, _SMALLEST))

    def _worst(self, rgb: Rgb) -> float:
        return float(np.sort(self.strangeness(describe_windows(rgb)))[-_WORST:].mean())

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return {**arrays, "usual": self.usual, "edge": self.edge}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Appearance:
        """The inverse of ``to_json``."""
        arrays = {name: np.asarray(value[name], dtype=float) for name in _ARRAYS}
        return cls(**arrays, usual=value["usual"], edge=value["edge"])


_ARRAYS = ("mean", "scale", "centres", "whiten", "log_weights")


def fit_appearance(train: Sequence[Rgb], tuning: Sequence[Rgb], seed: int = 0) -> Appearance:
    """Learn the windows of training tiles; tuning tiles say what is usual.

    Args:
        train, tuning: source tiles of different subjects, all at one resolution.
        seed: of the windows that are drawn and of the mixture's start.

    Raises:
        DataError: there are too few tiles.
    """
    from sklearn.mixture import GaussianMixture

    if not train or not tuning:
        raise DataError(f"got {len(train)} training and {len(tuning)} tuning tiles; both are needed.")
    windows = np.concatenate([describe_windows(rgb) for rgb in train])
    picked = np.random.default_rng(seed).permutation(len(windows))[:_MOST_WINDOWS]
    windows = windows[np.sort(picked)]
    kinds = int(np.clip(len(windows) // _WINDOWS_A_KIND, 1, _KINDS))
    mean, scale = windows.mean(axis=0), np.maximum(windows.std(axis=0), _SMALLEST)
    mixture = GaussianMixture(kinds, covariance_type="full", reg_covar=_FLOOR, random_state=seed)
    mixture.fit((windows - mean) / scale)
    whiten = mixture.precisions_cholesky_
    size = np.log(np.diagonal(whiten, axis1=1, axis2=2)).sum(axis=1) - 0.5 * len(mean) * np.log(2 * np.pi)
    found = Appearance(mean, scale, mixture.means_, whiten, np.log(mixture.weights_) + size, 0.0, 1.0)
    scores = [found._worst(rgb) for rgb in tuning]
    usual, edge = (float(end) for end in np.quantile(scores, [0.5, _EDGE]))
    return replace(found, usual=usual, edge=edge)


def _gradient(plane: Float[np.ndarray, "row column"], step: int) -> Float[np.ndarray, "row column"]:
    """Absolute differences along both axes, ``step`` pixels apart, of means over ``step`` pixels."""
    smooth = plane if step == 1 else uniform_filter(plane, step)
    found = np.zeros_like(plane)
    found[:-step] = np.abs(smooth[step:] - smooth[:-step])
    found[:, :-step] += np.abs(smooth[:, step:] - smooth[:, :-step])
    return found


def _window_means(
    maps: Float[np.ndarray, "map row column"],
) -> Float[np.ndarray, "map window_row window_column"]:
    """Means over blocks, then over windows of blocks."""
    count, rows, columns = maps.shape[0], *(side // BLOCK_PIXELS for side in maps.shape[1:])
    whole = maps[:, : rows * BLOCK_PIXELS, : columns * BLOCK_PIXELS]
    along = whole.reshape(count, -1, columns, BLOCK_PIXELS).mean(axis=3)
    blocks = along.reshape(count, rows, BLOCK_PIXELS, columns).mean(axis=2)
    last_row, last_column = rows - WINDOW_BLOCKS + 1, columns - WINDOW_BLOCKS + 1
    parts = [
        blocks[:, row : row + last_row, column : column + last_column]
        for row in range(WINDOW_BLOCKS)
        for column in range(WINDOW_BLOCKS)
    ]
    return np.asarray(sum(parts[1:], start=parts[0]) / len(parts))


def _log(values: np.ndarray) -> np.ndarray:
    """Logarithm that an exact zero survives."""
    return np.asarray(np.log(values + 1e-3))
