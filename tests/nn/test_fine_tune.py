from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from clinimm.core.errors import ConfigError
from clinimm.nn.fine_tune import VIEWS, FineTunedImageEncoder, fit_fine_tuned, turn, turn_back, views_of
from clinimm.nn.image import FixedNorm
from clinimm.nn.tokens import Tokens

CHANNELS, SIDE, DIM = 3, 4, 5


def pointwise() -> nn.Module:
    """A tail that looks at each place alone, so that turning and encoding change places."""
    torch.manual_seed(0)
    return FixedNorm(nn.Conv2d(CHANNELS, DIM, 1), nn.BatchNorm2d(DIM)).eval()


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, CHANNELS, SIDE, SIDE)).astype(np.float32)


def all_views(images: np.ndarray, augment: str) -> np.ndarray:
    return np.stack([np.stack([turn(one, view) for view in views_of(augment)]) for one in images])


def encoder(values: np.ndarray, augment: str, test_time: str = "first") -> FineTunedImageEncoder:
    statistics = json.loads(json.dumps(fit_fine_tuned(values, pointwise())))
    return FineTunedImageEncoder(pointwise(), views_of(augment), statistics, test_time).eval()


def raw(values: np.ndarray) -> Tokens:
    flat = torch.from_numpy(values.reshape(1, len(values), -1))
    return Tokens(
        flat, torch.ones(flat.shape[:2]).bool(), torch.arange(len(values), dtype=torch.float32)[None]
    )


def test_the_eight_views_differ_and_turn_back() -> None:
    image = pictures(1)[0]
    shown = [turn(image, view) for view in VIEWS["dihedral"]]

    assert len({one.tobytes() for one in map(np.ascontiguousarray, shown)}) == 8
    for view, one in zip(VIEWS["dihedral"], shown, strict=True):
        back = turn_back(torch.from_numpy(np.ascontiguousarray(one))[None], view)[0]
        np.testing.assert_array_equal(back.numpy(), image)
    with pytest.raises(ConfigError, match="known are none, flips, dihedral"):
        views_of("rotate")


def test_every_view_gives_the_same_cells_at_the_same_places() -> None:
    values = all_views(pictures(2), "dihedral")
    network = encoder(values, "dihedral")
    upright = network.embed(raw(values)).values

    torch.manual_seed(1)
    network.train()
    drawn = network.embed(raw(values)).values

    torch.testing.assert_close(drawn, upright)
    torch.testing.assert_close(encoder(values, "dihedral", "mean").embed(raw(values)).values, upright)


def test_cells_are_the_tails_map_standardised_row_by_row() -> None:
    values = all_views(pictures(6), "none")
    with torch.inference_mode():
        maps = pointwise()(torch.from_numpy(values[:, 0]))
    tokens = maps.permute(0, 2, 3, 1).reshape(6, -1, DIM)
    expected = (tokens - tokens.mean((0, 1))) / tokens.std((0, 1), unbiased=False)

    network = encoder(values, "none")
    found = network.embed(raw(values))

    assert network.cells == SIDE * SIDE
    torch.testing.assert_close(found.values.detach().view_as(expected), expected, atol=1e-4, rtol=1e-4)
    assert found.time[0].tolist() == [float(row) for row in range(6) for _ in range(SIDE * SIDE)]


def test_padding_changes_nothing_and_an_absent_picture_is_no_token() -> None:
    values = all_views(pictures(2), "none")
    network = encoder(values, "none")
    whole = raw(values)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    padded = Tokens(
        torch.cat([whole.values, 9 * torch.ones(1, 1, whole.dim)], 1).repeat(2, 1, 1), mask, torch.zeros(2, 3)
    )

    found = network.embed(padded)

    cells = SIDE * SIDE
    torch.testing.assert_close(found.values[:1, : 2 * cells], network.embed(whole).values)
    assert (found.values[0, 2 * cells :] == 0).all()
    assert found.present.tolist() == [True, False]
    nothing = network.embed(Tokens(padded.values[1:], mask[1:], torch.zeros(1, 3)))
    assert nothing.values.shape == (1, 3 * cells, DIM)
    assert (nothing.values == 0).all()


def test_gradients_reach_the_tail() -> None:
    values = all_views(pictures(2), "flips")
    network = encoder(values, "flips").train()

    network.embed(raw(values)).values.square().sum().backward()

    assert all(parameter.grad is not None for parameter in network.tail.parameters())
