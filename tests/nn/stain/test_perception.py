from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from clinimm.nn.stain.perception import Perception


@pytest.fixture(scope="module")
def perception() -> Perception:
    return Perception()


def picture(seed: int) -> torch.Tensor:
    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.random((3, 64, 64)), (0, 3, 3))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return torch.tensor(smooth, dtype=torch.float32)[None]


KNOWN = torch.ones(1, 64, 64, dtype=torch.bool)


def test_an_image_is_at_no_distance_from_itself(perception: Perception) -> None:
    assert perception.distance(picture(0), picture(0), KNOWN) == 0


def test_blur_is_seen_where_l1_hardly_moves(perception: Perception) -> None:
    sharp = (picture(1) > 0.5).float()
    blurred = torch.tensor(gaussian_filter(sharp.numpy(), (0, 0, 2, 2)))
    darker = sharp - (sharp - blurred).abs().mean() * sharp / sharp.mean()
    assert abs(float((sharp - blurred).abs().mean() - (sharp - darker).abs().mean())) < 1e-3
    assert perception.distance(blurred, sharp, KNOWN) > 1.2 * perception.distance(darker, sharp, KNOWN)


def test_what_is_not_known_does_not_count(perception: Perception) -> None:
    image, known = picture(2), KNOWN.clone()
    other = image.clone()
    other[..., 32:] = 0
    known[..., 24:] = False
    # What lies beyond is felt through the frozen network's own reach, and there only.
    near = perception.distance(image, other, known)
    known[..., 8:] = False
    assert perception.distance(image, other, known) < 0.05 * perception.distance(image, other, KNOWN)
    assert near < perception.distance(image, other, KNOWN)
    known[:] = False
    assert perception.distance(image, other, known) == 0


def test_sets_of_the_same_kind_look_alike(perception: Perception) -> None:
    one = torch.cat([picture(seed) for seed in range(3)])
    same = torch.cat([picture(seed) for seed in range(3, 6)])
    assert perception.style_distance(one, one) == 0
    assert perception.style_distance(one, same) < 0.5 * perception.style_distance(one, same * 0.5)


def test_gradients_reach_the_made_image_and_no_weight(perception: Perception) -> None:
    made = picture(3).requires_grad_()
    perception.distance(made, picture(4), KNOWN).backward()
    assert made.grad is not None
    assert made.grad.abs().sum() > 0
    assert not any(p.requires_grad for module in perception._modules for p in module.parameters())
