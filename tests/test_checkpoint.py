from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from clinimm.checkpoint import Checkpoint, Progression, copy_of


def _trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        network(torch.ones(1, 3, 5, 5)).sum().backward()
        optimiser.step()
    return network, optimiser


def test_a_network_in_any_memory_format_comes_back_as_it_was(tmp_path: Path) -> None:
    network, optimiser = _trained(3)
    best = copy_of(network.state_dict())
    checkpoint = Checkpoint(tmp_path, every_seconds=0)
    checkpoint.keep(Progression(epoch=3, best_epoch=2), network, best, best, optimiser)

    other, other_optimiser = _trained(0)
    state = Checkpoint(tmp_path).resume(other, {}, {}, other_optimiser)
    assert (state.epoch, state.best_epoch) == (3, 2)
    for name, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    for before, after in zip(optimiser.state.values(), other_optimiser.state.values(), strict=True):
        assert all(torch.equal(before[slot], after[slot]) for slot in ("exp_avg", "exp_avg_sq"))
