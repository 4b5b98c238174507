"""Parts of a few tiles that may be learned from, and parts that may not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.core.errors import DataError
from clinimm.staining.pairs import StainPair
from clinimm.staining.plan import Block
from clinimm.staining.strips import Fold, Piece, leave_subject_out, strip_folds


def pair(rows: int, columns: int, subject: str = "s") -> StainPair:
    source = np.random.default_rng(0).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    return StainPair(subject, "tile", source, {"CK": 255 - source}, np.ones((rows, columns), bool), 0.5)


def apart(one: Block, other: Block) -> int:
    """Pixels between two rectangles, the larger of both axes; negative where they overlap."""
    down = max(one.top - other.bottom, other.top - one.bottom)
    right = max(one.left - other.right, other.left - one.right)
    return max(down, right)


def check_gaps(fold: Fold, gap: int) -> None:
    for held_out in fold.held_out:
        for piece in (*fold.training, *fold.tuning):
            assert piece.pair != held_out.pair or apart(piece.block, held_out.block) >= gap
    for one in fold.training:
        assert all(other.pair != one.pair or apart(one.block, other.block) >= gap for other in fold.tuning)


@settings(deadline=None, max_examples=50)
@given(
    rows=st.integers(250, 700),
    columns=st.integers(250, 900),
    strips=st.integers(2, 4),
    gap=st.integers(0, 60),
)
def test_strips_cover_every_pixel_once_and_keep_their_distance(
    rows: int, columns: int, strips: int, gap: int
) -> None:
    pairs = [pair(rows, columns)]
    try:
        folds = strip_folds(pairs, strips, gap, least=32)
    except DataError:
        assert columns / strips < 32 + gap or rows * 3 / 4 < 32 + gap
        return
    held = np.zeros((rows, columns), int)
    for fold in folds:
        check_gaps(fold, gap)
        assert min(min(p.block.rows, p.block.columns) for p in (*fold.training, *fold.tuning)) >= 32
        for piece in fold.held_out:
            held[piece.block.top : piece.block.bottom, piece.block.left : piece.block.right] += 1
    assert (held == 1).all()


def test_a_subject_is_held_out_whole_with_all_its_pairs() -> None:
    pairs = [pair(200, 300, "a"), pair(300, 200, "b"), pair(200, 200, "a")]
    first, second = leave_subject_out(pairs, gap=16, least=32)
    assert [piece.pair for piece in first.held_out] == [0, 2]
    assert {piece.pair for piece in (*first.training, *first.tuning)} == {1}
    assert [piece.cut(pairs).source.shape for piece in first.held_out] == [(200, 300, 3), (200, 200, 3)]
    assert {piece.pair for piece in second.training} == {0, 2}
    check_gaps(second, 16)


def test_one_subject_cannot_be_held_out_and_thin_strips_leave_nothing() -> None:
    with pytest.raises(DataError, match="split into strips"):
        leave_subject_out([pair(200, 200)], 16, 32)
    with pytest.raises(DataError, match="take fewer strips"):
        strip_folds([pair(200, 100)], 2, gap=40, least=32)


def test_a_piece_keeps_its_pair_and_stands_in_for_a_subject_where_asked() -> None:
    pairs = [pair(100, 100)]
    piece = Piece(0, Block(10, 20, 50, 90))
    cut = piece.cut(pairs)
    assert cut.name == "s/tile" and cut.valid.shape == (40, 70)
    assert np.array_equal(cut.targets["CK"], pairs[0].targets["CK"][10:50, 20:90])
    other = Piece(0, Block(50, 20, 90, 90)).cut_as_subject(pairs)
    assert piece.cut_as_subject(pairs).subject_id != other.subject_id


def test_the_plan_says_what_is_what() -> None:
    pairs = [pair(200, 300)]
    (first, *_) = strip_folds(pairs, 2, gap=10, least=32)
    lines = list(first.lines(pairs))
    assert lines == [
        "fold 1: training: s/tile, rows 0 to 140, columns 160 to 300",
        "fold 1: tuning: s/tile, rows 150 to 200, columns 160 to 300",
        "fold 1: held out: s/tile, rows 0 to 200, columns 0 to 150",
    ]
