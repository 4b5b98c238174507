from __future__ import annotations

import torch

from clinimm.nn.stain.critic import PatchCritic


def test_it_learns_to_tell_two_textures_and_a_wrong_stain_apart() -> None:
    torch.manual_seed(0)
    critic = PatchCritic(3, stains=2)
    optimiser = torch.optim.Adam(critic.parameters(), lr=3e-3)
    stain = torch.tensor([0, 1, 0, 1])

    def textures() -> torch.Tensor:
        flat = torch.rand(2, 3, 1, 1).expand(2, 3, 32, 32)
        return torch.cat([flat, torch.rand(2, 3, 32, 32)])  # stain 0 flat, 1 flat, 0 noisy, 1 noisy

    truth = torch.tensor([1.0, 0.0, 0.0, 1.0])[:, None, None, None]  # stain 0 is flat, stain 1 noisy
    for _ in range(120):
        optimiser.zero_grad()
        (critic(textures(), stain) - truth).pow(2).mean().backward()
        optimiser.step()
    scores = critic(textures(), stain).mean((1, 2, 3))
    assert scores[[0, 3]].min() > scores[[1, 2]].max() + 0.3


def test_a_score_sees_a_patch_of_22_pixels() -> None:
    critic = PatchCritic(3, stains=1).eval()
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    scores = critic(image, torch.tensor([0]))
    scores[0, 0, 7, 7].backward()
    assert image.grad is not None
    seen = image.grad[0].abs().amax(0).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [22, 22]
