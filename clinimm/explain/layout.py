"""Where tokens lie on their pictures: which picture, row and column each has, for maps and for windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from clinimm.core.attribution import Place

#: The kind of place that is a cell of a picture's feature map.
FILM = "pixels"
#: Kinds of place that have a box on a picture.
BOXED = (FILM, "tile")


@dataclass(frozen=True)
class Layout:
    """Places of the tokens of a batch.

    Attributes:
        positions: modality -> (batch, token, 3): picture, row and column; -1 where the token is
            padding. A modality without an entry is a sequence.
        films: those of them whose tokens are cells of one feature map a picture, so that a token sees more
            than its cell; tiles of a slide are encoded each alone.
    """

    positions: dict[str, Int[np.ndarray, "batch token 3"]]
    films: frozenset[str] = frozenset()


def layout_of(places: Sequence[Mapping[str, Sequence[Place]]], tokens: dict[str, int]) -> Layout:
    """The layout of a batch from the places of its tokens.

    Args:
        places: for each subject, modality -> the place of each of its tokens, in order.
        tokens: modality -> tokens a subject in the batch, padding included.
    """
    positions, films = {}, set()
    for name, width in tokens.items():
        rows = [subject.get(name, ()) for subject in places]
        if not any(place.kind in BOXED for row in rows for place in row):
            continue
        found = np.full((len(rows), width, 3), -1, dtype=np.int64)
        for subject, row in enumerate(rows):
            found[subject, : len(row)] = grid(row)
        positions[name] = found
        if all(place.kind == FILM for row in rows for place in row):
            films.add(name)
    return Layout(positions, frozenset(films))


def grid(places: Sequence[Place]) -> Int[np.ndarray, "token 3"]:
    """Picture, row and column of each place.

    Places of one file are one picture, unless a box comes twice: then they are its frames. Cells
    tile a film, so their rows are the ranks of their upper edges (cells at the border may be
    smaller); tiles are drawn from a slide with gaps, so theirs are counted in tiles.
    """
    found = np.zeros((len(places), 3), dtype=np.int64)
    found[:, 0] = _pictures(places)
    every = np.array([place.box for place in places], dtype=np.float64).reshape(-1, 4)
    for picture in np.unique(found[:, 0]):
        here = np.flatnonzero(found[:, 0] == picture)
        boxes = every[here]
        if places[int(here[0])].kind == "tile":
            found[here, 1:] = _in_tiles(boxes)
        else:
            found[here, 1] = np.unique(boxes[:, 1], return_inverse=True)[1]
            found[here, 2] = np.unique(boxes[:, 0], return_inverse=True)[1]
    return found


def canvas(positions: Int[np.ndarray, "token 3"], scores: Float[np.ndarray, " token"]) -> list[np.ndarray]:
    """Each picture's map, (row, column), NaN where it has no token."""
    maps = []
    for picture in np.unique(positions[positions[:, 0] >= 0, 0]):
        here = positions[:, 0] == picture
        rows, columns = positions[here, 1], positions[here, 2]
        found = np.full((rows.max() + 1, columns.max() + 1), np.nan)
        found[rows, columns] = scores[here]
        maps.append(found)
    return maps


def _pictures(places: Sequence[Place]) -> Int[np.ndarray, " token"]:
    """Which picture each place is on; equal boxes of a file are on different ones."""
    seen: dict[tuple[str | None, tuple[float, ...]], int] = {}
    numbers: dict[tuple[str | None, int], int] = {}
    found = []
    for place in places:
        frame = seen.get((place.digest, place.box), -1) + 1
        seen[place.digest, place.box] = frame
        found.append(numbers.setdefault((place.digest, frame), len(numbers)))
    return np.array(found, dtype=np.int64)


def _in_tiles(boxes: Float[np.ndarray, "token 4"]) -> Int[np.ndarray, "token 2"]:
    side = np.median(boxes[:, 2:] - boxes[:, :2], axis=0).clip(min=1e-6)
    corner = (boxes[:, :2] - boxes[:, :2].min(axis=0)) / side
    return np.round(corner[:, ::-1]).astype(np.int64)
