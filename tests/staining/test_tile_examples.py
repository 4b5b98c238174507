from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from clinimm.core.errors import DataError
from clinimm.staining.pairs import StainPair
from clinimm.staining.tile_examples import tile_examples, tile_places


@dataclass
class Toy:
    """Inverts the image; expects an error of red; its features are the colours of cells of 8 pixels."""

    colour: Tensor
    uncertainty: Tensor
    feature_map: Tensor

    @classmethod
    def run(cls, image: Tensor, stain: str, subject_id: str) -> Toy:
        assert (stain, subject_id) in {("KI67", "a"), ("CD3", "a")}
        return cls(1 - image, image[:, 0], F.avg_pool2d(image, 8))


def _pair(rows: int = 70, columns: int = 100) -> StainPair:
    generator = np.random.default_rng(0)
    source, first, second = generator.integers(0, 256, (3, rows, columns, 3)).astype(np.uint8)
    valid = np.ones((rows, columns), dtype=bool)
    return StainPair("a", "block", source, {"KI67": first, "CD3": second}, valid, 0.5)


def test_tiles_are_the_pair_cut_up() -> None:
    pair = _pair()
    found = tile_examples(Toy.run, 8, [pair], tile_pixels=32)
    assert [one.stained.stain for one in found] == ["KI67"] * 6 + ["CD3"] * 6
    second = found[1]  # row 0, column 1 of the grid
    part = (slice(0, 32), slice(32, 64))
    np.testing.assert_array_equal(second.source, pair.source[part])
    np.testing.assert_array_equal(second.target, pair.targets["KI67"][part])
    np.testing.assert_array_equal(second.stained.rgb, 255 - pair.source[part])
    np.testing.assert_allclose(second.stained.expected_error, pair.source[part][..., 0] / 255, atol=1e-6)
    np.testing.assert_allclose(second.stained.features, pair.source[part].mean(axis=(0, 1)) / 255, atol=1e-5)


def test_sides_are_cut_to_the_stride_and_small_pairs_are_one_tile() -> None:
    assert [(rows.stop, columns.stop) for rows, columns in tile_places(_pair(50, 30), 8, 256)] == [
        (24, 24),
        (48, 24),
    ]


def test_the_last_tile_ends_at_the_edge_so_that_nothing_is_left_unjudged() -> None:
    judged = np.zeros((64, 80), dtype=int)
    for place in tile_places(_pair(70, 84), 8, 48):
        judged[place] += 1
        assert all(part.start % 8 == 0 and part.stop - part.start == 48 for part in place)
    assert judged.min() == 1
    assert [one.top for one in tile_examples(Toy.run, 8, [_pair(70, 84)], 48)[:4]] == [0, 0, 16, 16]


def test_a_tile_without_a_valid_pixel_is_left_out() -> None:
    pair = _pair()
    pair.valid[:32, :32] = False
    assert len(tile_examples(Toy.run, 8, [pair], tile_pixels=32)) == 10


def test_the_error_of_an_example_is_that_of_its_valid_pixels() -> None:
    one = tile_examples(Toy.run, 8, [_pair()], tile_pixels=32)[0]
    expected = np.abs(one.stained.rgb.astype(float) - one.target).mean() / 255
    assert one.mean_error() == pytest.approx(expected, rel=1e-5)
    assert torch.is_grad_enabled()


def test_a_pair_smaller_than_the_stride_is_named() -> None:
    with pytest.raises(DataError, match=r"5 × 100 pixels.*stride of 8"):
        tile_examples(Toy.run, 8, [_pair(5, 100)])
    with pytest.raises(DataError, match=r"tiles of 4 pixels.*stride of 8"):
        list(tile_places(_pair(), 8, 4))
