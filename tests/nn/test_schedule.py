from __future__ import annotations

import pytest
import torch

from clinimm.nn.schedule import warm_cosine

STEPS = 200


def test_after_the_rise_it_is_torchs_cosine() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    rise, fall = 20, STEPS - 20
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=fall, eta_min=0.02)
    for step in range(fall):
        assert warm_cosine((rise + step) / STEPS, rise / STEPS, 0.02) == pytest.approx(peer.get_last_lr()[0])
        optimiser.step()
        peer.step()


def test_it_rises_in_a_line_and_never_from_nothing() -> None:
    assert [warm_cosine(done, 0.1, 0.0) for done in (0.0, 0.025, 0.05)] == pytest.approx([0.01, 0.25, 0.5])
