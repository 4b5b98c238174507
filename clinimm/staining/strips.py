"""Training, tuning and held-out parts where there are fewer subjects than a split needs.

A figure on strips of the same tiles says whether a stain can be told from the source *there*. It says
nothing of other subjects, and whoever shows it must say so. Between what is learned from and what is
held out lies a gap: with one at least as wide as the generator's halo no pixel of the held-out strip
has any part in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from clinimm.core.errors import DataError
from clinimm.staining.pairs import StainPair
from clinimm.staining.plan import Block

_TUNING_SHARE = 0.25


@dataclass(frozen=True)
class Piece:
    """A rectangle of one pair.

    Attributes:
        pair: index of the pair.
        block: the rectangle.
    """

    pair: int
    block: Block

    def cut(self, pairs: Sequence[StainPair]) -> StainPair:
        """The pixels, under the name of the pair they are from."""
        pair, block = pairs[self.pair], self.block
        inside = np.s_[block.top : block.bottom, block.left : block.right]
        targets = {stain: image[inside] for stain, image in pair.targets.items()}
        return replace(pair, source=pair.source[inside], targets=targets, valid=pair.valid[inside])

    def cut_as_subject(self, pairs: Sequence[StainPair]) -> StainPair:
        """The pixels, the piece standing in for a subject: what members are drawn from with replacement."""
        one = self.cut(pairs)
        at = self.block
        return replace(one, subject_id=f"{one.name} rows {at.top}+ columns {at.left}+")


@dataclass(frozen=True)
class Fold:
    """One training with what it is judged on.

    Attributes:
        name: for people.
        training, tuning, held_out: pieces; none overlaps another.
    """

    name: str
    training: tuple[Piece, ...]
    tuning: tuple[Piece, ...]
    held_out: tuple[Piece, ...]

    def lines(self, pairs: Sequence[StainPair]) -> Iterator[str]:
        """The plan in words: rows and columns of every piece."""
        for role, pieces in (
            ("training", self.training),
            ("tuning", self.tuning),
            ("held out", self.held_out),
        ):
            for piece in pieces:
                at = piece.block
                yield (
                    f"{self.name}: {role}: {pairs[piece.pair].name}, rows {at.top} to {at.bottom}, "
                    f"columns {at.left} to {at.right}"
                )


def leave_subject_out(pairs: Sequence[StainPair], gap: int, least: int) -> list[Fold]:
    """A fold a subject: its pairs are held out whole, the others' lower quarters are for tuning.

    Args:
        pairs: of two subjects or more.
        gap: pixels between training and tuning.
        least: pieces with a shorter side, pixels, are left out.

    Raises:
        DataError: there is one subject only, or nothing is left to train on.
    """
    subjects = sorted({pair.subject_id for pair in pairs})
    if len(subjects) < 2:
        raise DataError(f"{len(subjects)} subjects cannot be held out in turn; split into strips instead.")
    folds = []
    for number, subject in enumerate(subjects):
        training: list[Piece] = []
        tuning: list[Piece] = []
        held_out = []
        for index, pair in enumerate(pairs):
            whole = _whole(pair)
            if pair.subject_id == subject:
                held_out.append(Piece(index, whole))
            else:
                _divide(index, whole, gap, least, training, tuning)
        folds.append(_fold(f"fold {number + 1}", training, tuning, held_out))
    return folds


def strip_folds(pairs: Sequence[StainPair], strips: int, gap: int, least: int) -> list[Fold]:
    """A fold a strip: the same upright strip of every pair is held out, at a distance from the rest.

    Args:
        pairs: one or more.
        strips: how many strips a pair is cut into; each is held out once.
        gap: pixels between held-out and other parts, and between training and tuning.
        least: pieces with a shorter side, pixels, are left out.

    Raises:
        DataError: nothing is left to train on.
    """
    folds = []
    for number in range(strips):
        training: list[Piece] = []
        tuning: list[Piece] = []
        held_out = []
        for index, pair in enumerate(pairs):
            whole = _whole(pair)
            ends = np.linspace(0, whole.right, strips + 1).round().astype(int).tolist()
            low, high = list(pairwise(ends))[number]
            held_out.append(Piece(index, replace(whole, left=low, right=high)))
            _divide(index, replace(whole, right=max(0, low - gap)), gap, least, training, tuning)
            _divide(index, replace(whole, left=high + gap), gap, least, training, tuning)
        folds.append(_fold(f"fold {number + 1}", training, tuning, held_out))
    return folds


def _whole(pair: StainPair) -> Block:
    rows, columns = pair.source.shape[:2]
    return Block(0, 0, rows, columns)


def _divide(
    index: int, block: Block, gap: int, least: int, training: list[Piece], tuning: list[Piece]
) -> None:
    """Put the upper part to training and the lower quarter to tuning, where they are large enough."""
    middle = block.bottom - round(_TUNING_SHARE * block.rows)
    upper, lower = replace(block, bottom=middle - gap), replace(block, top=middle)
    for part, pieces in ((upper, training), (lower, tuning)):
        if min(part.rows, part.columns) >= least:
            pieces.append(Piece(index, part))


def _fold(name: str, training: list[Piece], tuning: list[Piece], held_out: list[Piece]) -> Fold:
    if not training or not tuning:
        raise DataError(
            f"{name}: {len(training)} training and {len(tuning)} tuning pieces are large enough; both are "
            "needed: take fewer strips, smaller crops or larger images."
        )
    return Fold(name, tuple(training), tuple(tuning), tuple(held_out))
