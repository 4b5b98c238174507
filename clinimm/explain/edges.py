"""An edge detector as a rival: a map that it beats only shows where the picture has edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.ndimage import sobel

from clinimm.core.attribution import Place
from clinimm.core.errors import CliniMMError
from clinimm.corpus import Corpus
from clinimm.explain.layout import BOXED
from clinimm.sources.base import Opener

#: Longest side of the overview in which a slide's edges are looked for, pixels.
_OVERVIEW = 2048


def edge_scores(
    picture: Float[np.ndarray, "row column"], boxes: Float[np.ndarray, "box 4"]
) -> Float[np.ndarray, " box"]:
    """Mean strength of edges (Sobel) in each box of a grey picture; boxes in its pixels."""
    strength = np.hypot(sobel(picture, axis=0), sobel(picture, axis=1))
    total = np.zeros((picture.shape[0] + 1, picture.shape[1] + 1))
    total[1:, 1:] = strength.cumsum(axis=0).cumsum(axis=1)
    edges = np.round(boxes).astype(int)
    left, right = (np.clip(edges[:, i], 0, picture.shape[1]) for i in (0, 2))
    top, bottom = (np.clip(edges[:, i], 0, picture.shape[0]) for i in (1, 3))
    inside = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return inside / np.maximum((right - left) * (bottom - top), 1)


@dataclass
class Edges:
    """Reads the pictures behind a subject's tokens.

    Attributes:
        opener: finds the bytes.
        missed: pictures that could not be read, with the reason: a run says how many.
    """

    opener: Opener
    missed: dict[str, str] = field(default_factory=dict)

    def of(
        self, corpus: Corpus, subject: str, places: Mapping[str, Sequence[Place]]
    ) -> dict[str, Float[np.ndarray, " token"]]:
        """Modality -> edge strength at each of its tokens; without those that have no readable picture."""
        found = {}
        for name, known in places.items():
            rows = corpus.rows(subject, name)
            if not known or any(place.kind not in BOXED for place in known) or "uri" not in rows:
                continue
            addresses = {str(d): str(u) for d, u in zip(rows["digest"], rows["uri"], strict=True)}
            try:
                found[name] = self._strengths(known, addresses)
            except (CliniMMError, OSError) as error:
                self.missed[f"{subject}/{name}"] = type(error).__name__
        return found

    def _strengths(
        self, places: Sequence[Place], addresses: Mapping[str, str]
    ) -> Float[np.ndarray, " token"]:
        found = np.zeros(len(places))
        for digest in dict.fromkeys(str(place.digest) for place in places):
            here = [i for i, place in enumerate(places) if place.digest == digest]
            kind = places[here[0]].kind
            picture, scale = (self._film if kind == "pixels" else self._slide)(addresses[digest])
            boxes = scale * np.array([places[i].box for i in here], dtype=float)
            found[here] = edge_scores(picture, boxes)
        return found

    def _film(self, uri: str) -> tuple[np.ndarray, float]:
        """The first frame as grey values in [0, 1]; other frames of a file are taken to be like it."""
        from clinimm.modalities.radiology.pixels import load_pixels

        return load_pixels(self.opener.read(uri)).values[0].mean(axis=2), 1.0

    def _slide(self, uri: str) -> tuple[np.ndarray, float]:
        """An overview in grey, and its pixels a pixel of level 0."""
        from clinimm.modalities.pathology.slide import Slide

        with Slide(self.opener.local_path(uri)) as slide:
            overview = slide.thumbnail(_OVERVIEW)
            return overview.mean(axis=2) / 255, overview.shape[1] / slide.dimensions[0]
