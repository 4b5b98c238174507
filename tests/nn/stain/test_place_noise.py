from __future__ import annotations

import torch
from scipy.stats import kstest

from clinimm.nn.stain.place_noise import place_noise


def test_tiles_agree_where_they_overlap() -> None:
    whole = place_noise(torch.tensor([[-5, 100_000]]), 3, 40, 50, seed=3)
    tile = place_noise(torch.tensor([[5, 100_020]]), 3, 20, 30, seed=3)
    assert torch.equal(whole[:, :, 10:30, 20:], tile)


def test_a_batch_is_one_by_one() -> None:
    origins = torch.tensor([[0, 0], [7, 9]])
    both = place_noise(origins, 3, 8, 8, seed=0)
    assert torch.equal(both[1:], place_noise(origins[1:], 3, 8, 8, seed=0))


def test_numbers_are_standard_normal_and_unrelated_to_their_neighbours() -> None:
    noise = place_noise(torch.tensor([[0, 0]]), 3, 256, 256, seed=1).double()
    assert kstest(noise.flatten()[::7].numpy(), "norm").pvalue > 0.001
    others = {
        "row": (noise[:, :, 1:], noise[:, :, :-1]),
        "column": (noise[..., 1:], noise[..., :-1]),
        "channel": (noise[:, 1:], noise[:, :-1]),
        "diagonal": (noise[:, :, 1:, 1:], noise[:, :, :-1, :-1]),
        "seed": (noise, place_noise(torch.tensor([[0, 0]]), 3, 256, 256, seed=2).double()),
    }
    for name, (one, other) in others.items():
        correlation = float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])
        assert abs(correlation) < 0.015, name
