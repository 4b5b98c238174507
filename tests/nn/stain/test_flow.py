from __future__ import annotations

import torch
from torch import nn

from clinimm.nn.stain.flow import replace_group_norms
from tests.nn.stain.parts import awake, image_of

STAIN = torch.tensor([0])


def test_the_noise_belongs_to_the_place_and_the_seed() -> None:
    image = image_of(32, 32)
    generator = awake("flow", noise_seed=1)
    here = generator(image, STAIN, origin=torch.tensor([[0, 0]]))
    assert torch.equal(here, generator(image, STAIN))
    assert torch.equal(here, generator(image, STAIN, origin=torch.tensor([[0, 0]])))
    assert not torch.equal(here, generator(image, STAIN, origin=torch.tensor([[64, 0]])))
    assert not torch.equal(here, awake("flow", noise_seed=2)(image, STAIN))


def test_a_sampler_that_knows_the_end_arrives_there() -> None:
    # Euler's steps along a straight path are exact: whatever the noise, the end is the known end.
    generator = awake("flow", sampler_steps=4)
    end = torch.full((1, 3, 32, 32), 0.1)

    class Known(nn.Module):
        def forward(self, point: torch.Tensor, time: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
            return end

    generator.path_end = Known()
    image = image_of(32, 32)
    mean, _ = generator.regress(image, STAIN, None)  # type: ignore[operator]
    torch.testing.assert_close(generator.paint(image, STAIN).colour, mean.colour + end, atol=1e-5, rtol=0)


def test_group_norms_are_replaced_wherever_they_are() -> None:
    module = nn.Sequential(nn.GroupNorm(1, 4), nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4)))
    replace_group_norms(module)
    kinds = [type(part) for part in module.modules()]
    assert nn.GroupNorm not in kinds
    assert kinds.count(nn.BatchNorm2d) == 2
