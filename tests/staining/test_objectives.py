from __future__ import annotations

import pytest
import torch
from torch import nn

from clinimm.config import StainingConfig
from clinimm.nn.stain import GENERATORS, build_generator
from clinimm.nn.stain.critic import PatchCritic
from clinimm.nn.stain.generator import GeneratorSettings
from clinimm.staining.crops import Crops
from clinimm.staining.objectives import adversarial_terms, build_objective, constant_statistics

SETTINGS = GeneratorSettings(stains=1, width=8, levels=3)
STAIN = torch.tensor([0, 0])


def crops_of(size: int = 32) -> Crops:
    torch.manual_seed(1)
    source, target = torch.rand(2, 2, 3, size, size)
    return Crops(source, target, torch.rand(2, size, size) > 0.2, STAIN, ("a", "b"))


def config_of(name: str, **changes: object) -> StainingConfig:
    return StainingConfig(generator=name, perceptual_weight=0.0, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", [*sorted(set(GENERATORS) - {"flow"}), pytest.param("flow", marks=pytest.mark.slow)]
)
def test_every_part_that_learns_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    generator, objective = build_generator(name, SETTINGS), build_objective(config_of(name), SETTINGS)
    objective(generator, crops_of(), None).backward()
    for module in (generator, objective):
        idle = {key for key, value in module.named_parameters() if value.grad is None}
        # Layers that start at zero hold back what lies before them; the back's error has no use.
        assert not {key for key in idle if not key.startswith("back.heads.scale")}, idle


def test_what_is_not_known_costs_nothing() -> None:
    crops = crops_of()
    torch.manual_seed(0)
    generator = build_generator("unet", SETTINGS).eval()
    objective = build_objective(config_of("unet"), SETTINGS)
    other = torch.where(crops.known[:, None], crops.target, torch.zeros(()))
    changed = Crops(crops.source, other, crops.known, crops.stain, crops.subjects)
    assert objective(generator, crops, None) == objective(generator, changed, None)


def test_the_generator_deceives_and_the_critic_tells_and_neither_touches_the_other() -> None:
    critic = PatchCritic(3, 1)
    made = torch.rand(2, 3, 32, 32, requires_grad=True)
    deceive, tell = adversarial_terms(critic, made, torch.rand(2, 3, 32, 32), STAIN)
    tell.backward(retain_graph=True)
    assert made.grad is None
    assert all(parameter.grad is not None for parameter in critic.parameters())
    critic.zero_grad()
    deceive.backward()
    assert made.grad is not None
    assert all(parameter.grad is None for parameter in critic.parameters())


def test_side_passes_leave_the_running_statistics_alone() -> None:
    norm = nn.BatchNorm2d(3)
    with constant_statistics(norm):
        norm(torch.rand(2, 3, 4, 4) + 5)
    assert not norm.running_mean.any()  # type: ignore[union-attr]
    norm(torch.rand(2, 3, 4, 4) + 5)
    assert norm.running_mean.all()  # type: ignore[union-attr]


def test_the_perceptual_term_is_added_with_its_weight() -> None:
    crops = crops_of(64)
    torch.manual_seed(0)
    generator = build_generator("unet", SETTINGS).eval()
    losses = [
        build_objective(StainingConfig(perceptual_weight=weight), SETTINGS)(generator, crops, None)
        for weight in (0.0, 0.1, 0.3)
    ]
    assert losses[1] > losses[0]
    torch.testing.assert_close(losses[2] - losses[0], 3 * (losses[1] - losses[0]))
