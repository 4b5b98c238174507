"""Training crops: where they lie is drawn in one function and cut in another.

A crop is centred on tissue whose truth is known. Source and target turn and flip together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clinimm.core.errors import DataError
from clinimm.modalities.pathology.tissue import tissue_mask
from clinimm.staining.pairs import StainPair
from clinimm.tasks.virtual_staining import StainTask

_LEAST_TISSUE = 64  # pixels; a pair with less has nothing to learn from


@dataclass(frozen=True)
class CropPlan:
    """Where one crop lies and how it is turned, so that it can be cut again.

    Attributes:
        pair: index of the pair.
        stain: token of the stain that is asked for.
        row, column: first pixel.
        quarter_turns: 0 to 3.
        flip: whether columns are reversed, before turning.
    """

    pair: int
    stain: int
    row: int
    column: int
    quarter_turns: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Crops:
    """A batch of crops.

    Attributes:
        source: in [0, 1].
        target: the stain of the same place; of another place in unpaired training.
        known: where the target says something: valid registration.
        stain: the stain token.
        subjects: whose they are.
    """

    source: Float[Tensor, "batch 3 row column"]
    target: Float[Tensor, "batch 3 row column"]
    known: Bool[Tensor, "batch row column"]
    stain: Int[Tensor, " batch"]
    subjects: tuple[str, ...]


class CropSource:
    """Pairs from which crops are drawn.

    Args:
        pairs: of the training (or tuning) subjects.
        task: gives each stain its token.
        size: side of a crop, pixels.

    Raises:
        DataError: no pair has tissue in an image at least as large as a crop.
    """

    def __init__(self, pairs: Sequence[StainPair], task: StainTask, size: int) -> None:
        self.task = task
        self.size = size
        self._centres: dict[int, np.ndarray] = {}
        for index, pair in enumerate(pairs):
            centres = _centres(pair, size)
            if len(centres) >= _LEAST_TISSUE and pair.targets:
                self._centres[index] = centres
        if not self._centres:
            raise DataError(
                f"none of {len(pairs)} pairs has {size} x {size} pixels around tissue where registration is "
                "valid; take larger images, or a smaller staining.crop_pixels."
            )
        self.pairs = pairs
        self.subjects = tuple(sorted({pairs[index].subject_id for index in self._centres}))

    def draw(self, count: int, random: np.random.Generator, subjects: Sequence[str]) -> list[CropPlan]:
        """Crops at random: first a subject, then its pair, then a stain, then a place.

        Args:
            count: how many.
            random: where the numbers come from.
            subjects: may name a subject more than once (a bootstrap).
        """
        return [self._draw_one(random, subjects[int(random.integers(len(subjects)))]) for _ in range(count)]

    def _draw_one(self, random: np.random.Generator, subject: str) -> CropPlan:
        own = [index for index in self._centres if self.pairs[index].subject_id == subject]
        pair = own[random.integers(len(own))]
        stains = sorted(self.pairs[pair].targets)
        stain = stains[random.integers(len(stains))]
        row, column = self._place(pair, random)
        turns, flip = int(random.integers(4)), bool(random.integers(2))
        return CropPlan(pair, self.task.index(stain), row, column, turns, flip)

    def elsewhere(self, plans: Sequence[CropPlan], random: np.random.Generator) -> list[CropPlan]:
        """For each crop another one with the same stain, anywhere: for unpaired training."""
        found = []
        for plan in plans:
            stain = self.task.stains[plan.stain]
            able = [index for index in self._centres if stain in self.pairs[index].targets]
            pair = able[random.integers(len(able))]
            row, column = self._place(pair, random)
            turns, flip = int(random.integers(4)), bool(random.integers(2))
            found.append(CropPlan(pair, plan.stain, row, column, turns, flip))
        return found

    def spread(self, most: int, seed: int = 0) -> list[CropPlan]:
        """Up to ``most`` upright crops for judging, the stains and pairs in turn; always the same."""
        random = np.random.default_rng([seed, most])
        turns = [
            (index, self.task.index(stain))
            for index in self._centres
            for stain in sorted(self.pairs[index].targets)
        ]
        random.shuffle(turns)
        chosen = [turns[number % len(turns)] for number in range(max(most, len(turns)))][:most]
        return [CropPlan(pair, stain, *self._place(pair, random)) for pair, stain in chosen]

    def cut(self, plans: Sequence[CropPlan], targets: Sequence[CropPlan] | None = None) -> Crops:
        """The pixels of some crops.

        Args:
            plans: where the sources lie.
            targets: where the targets lie; None is the same places.
        """
        targets = plans if targets is None else targets
        return Crops(
            source=_images([self._piece(plan, self.pairs[plan.pair].source) for plan in plans]),
            target=_images([self._piece(plan, self._target(plan)) for plan in targets]),
            known=torch.from_numpy(
                np.stack([self._piece(plan, self.pairs[plan.pair].valid) for plan in targets])
            ),
            stain=torch.tensor([plan.stain for plan in plans]),
            subjects=tuple(self.pairs[plan.pair].subject_id for plan in plans),
        )

    def _target(self, plan: CropPlan) -> np.ndarray:
        return self.pairs[plan.pair].targets[self.task.stains[plan.stain]]

    def _piece(self, plan: CropPlan, image: np.ndarray) -> np.ndarray:
        piece = image[plan.row : plan.row + self.size, plan.column : plan.column + self.size]
        piece = piece[:, ::-1] if plan.flip else piece
        return np.ascontiguousarray(np.rot90(piece, plan.quarter_turns))

    def _place(self, pair: int, random: np.random.Generator) -> tuple[int, int]:
        """First pixel of a crop that has a random piece of tissue as near its centre as the image lets it."""
        centres = self._centres[pair]
        place = centres[random.integers(len(centres))]
        rows, columns = self.pairs[pair].source.shape[:2]
        row = int(np.clip(place[0] - self.size // 2, 0, rows - self.size))
        column = int(np.clip(place[1] - self.size // 2, 0, columns - self.size))
        return row, column


def _centres(pair: StainPair, size: int) -> np.ndarray:
    """(place, 2) rows and columns of tissue with a valid target; none where the image is too small."""
    if min(pair.source.shape[:2]) < size:
        return np.zeros((0, 2), np.int32)
    return np.argwhere(pair.valid & tissue_mask(pair.source)).astype(np.int32)


def _images(pieces: Sequence[np.ndarray]) -> Float[Tensor, "batch 3 row column"]:
    stacked = torch.from_numpy(np.stack(pieces)).permute(0, 3, 1, 2)
    return stacked.float().div_(255).contiguous(memory_format=torch.channels_last)
