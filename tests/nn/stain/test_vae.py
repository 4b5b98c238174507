from __future__ import annotations

import torch

from clinimm.nn.stain.vae import Gaussian
from tests.nn.stain.parts import awake, image_of

STAIN = torch.tensor([0])


def test_the_same_tile_gives_the_same_stain() -> None:
    generator, image = awake("vae"), image_of(32, 32)
    assert torch.equal(generator(image, STAIN), generator(image, STAIN))


def test_in_training_the_target_is_seen_through_the_latent() -> None:
    generator, image = awake("vae"), image_of(32, 32)
    _, one, prior = generator.reconstruct(image, image_of(32, 32, seed=1), STAIN)  # type: ignore[operator]
    _, other, same = generator.reconstruct(image, image_of(32, 32, seed=2), STAIN)  # type: ignore[operator]
    assert torch.equal(prior.mean, same.mean)
    assert not torch.equal(one.mean, other.mean)


def test_draws_follow_the_gaussian() -> None:
    torch.manual_seed(0)
    gaussian = Gaussian(torch.full((1, 1, 300, 300), 2.0), torch.full((1, 1, 300, 300), -1.0))
    draw = gaussian.sample()
    assert abs(float(draw.mean()) - 2) < 0.01
    assert abs(float(draw.var().log()) + 1) < 0.02
