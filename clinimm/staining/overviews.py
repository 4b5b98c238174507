"""The small structure pictures that two slides are searched and first laid together on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from clinimm.staining.coarse_search import Overview
from clinimm.staining.local_shifts import Pair
from clinimm.staining.picture import Picture
from clinimm.staining.register_gate import no_overlap
from clinimm.staining.structure import fit_scale, structure, tissue_of

#: Longer side of the overviews, pixels.
_LONGEST = 512


def views_of(
    source: Picture, target: Picture
) -> tuple[Pair, tuple[Overview, Overview], Bool[np.ndarray, "row column"]]:
    """The pair, its structure pictures at one resolution, and where the source has tissue.

    Raises:
        InputRejected: ``no-tissue``, nothing is seen in one of them.
    """
    longest_um = max(side * one.resolution_um for one in (source, target) for side in one.shape)
    resolution = max(longest_um / _LONGEST, source.resolution_um, target.resolution_um)
    scales, views = [], []
    for picture in (source, target):
        pixels = picture.overview(max(1, round(max(picture.shape) * picture.resolution_um / resolution)))
        scales.append(fit_scale(pixels))
        views.append(_overview(structure(pixels, scales[-1]), picture, resolution))
    tissue = tissue_of(views[0].image, resolution)
    tissue_of(views[1].image, resolution)
    return Pair(source, target, scales[0], scales[1]), (views[0], views[1]), tissue


def _overview(image: np.ndarray, picture: Picture, resolution_um: float) -> Overview:
    """A structure picture at exactly ``resolution_um``, lightly smoothed."""
    sides_um = [side * picture.resolution_um for side in picture.shape]
    spacing = np.array([side / pixels for side, pixels in zip(sides_um, image.shape, strict=True)])
    step = resolution_um / spacing
    shape = tuple(max(1, round(side / resolution_um)) for side in sides_um)
    exact = ndimage.affine_transform(
        ndimage.gaussian_filter(image, 0.7), step, step / 2 - 0.5, output_shape=shape, order=1, mode="nearest"
    )
    return Overview(exact.astype(np.float32), np.ones(shape, dtype=bool), resolution_um)


def smaller(view: Overview, longest: int, other: Overview) -> Overview:
    """A structure picture shrunk as far as brings both to about ``longest`` pixels at most.

    Raises:
        InputRejected: ``no-overlap``, beside the other one it is too small to be seen.
    """
    factor = max(1, round(max(*view.image.shape, *other.image.shape) / longest))
    rows, columns = (side // factor * factor for side in view.image.shape)
    if min(rows, columns) == 0:
        raise no_overlap(0.0)
    blocks = view.image[:rows, :columns].reshape(rows // factor, factor, columns // factor, factor)
    image = blocks.mean(axis=(1, 3))
    return Overview(image, np.ones(image.shape, dtype=bool), view.resolution_um * factor)
