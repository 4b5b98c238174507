from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity

from clinimm.explain.attribute import attribute
from clinimm.explain.hide import ALL, Hider
from clinimm.explain.infidelity import all_infidelities, draw_hidden, infidelity
from clinimm.explain.problem import pose


def test_a_map_that_foretells_every_loss_has_none_and_scale_matters_unless_it_is_let_go() -> None:
    hidden = draw_hidden(np.ones(6, dtype=bool), 40, 0)
    scores = np.arange(6.0) - 2
    assert infidelity(scores, hidden, hidden @ scores) == pytest.approx(0, abs=1e-12)
    assert infidelity(0.5 * scores, hidden, hidden @ scores) == pytest.approx(0.25)
    assert infidelity(0.01 * scores, hidden, hidden @ scores, scaled=True) == pytest.approx(0, abs=1e-12)


def test_a_map_turned_round_is_worse_than_no_map_and_no_scale_saves_it() -> None:
    hidden = draw_hidden(np.ones(6, dtype=bool), 40, 0)
    scores = np.arange(6.0) - 2
    assert infidelity(-scores, hidden, hidden @ scores) == pytest.approx(4)
    assert infidelity(-scores, hidden, hidden @ scores, scaled=True) == pytest.approx(1)


def test_a_map_that_says_nothing_has_all_of_it_and_no_loss_has_no_figure() -> None:
    hidden = draw_hidden(np.ones(6, dtype=bool), 40, 0)
    assert infidelity(np.zeros(6), hidden, np.ones(40)) == 1.0
    assert infidelity(np.ones(6), hidden, np.zeros(40)) is None


def test_it_equals_captums_infidelity_with_the_same_sets(curved, batch_of) -> None:
    """Captum's normalised infidelity over switches, divided by the mean squared loss."""
    batch = {name: tokens.row(0) for name, tokens in batch_of().items()}
    problem = pose(curved, batch, 1)
    hider = Hider(problem)
    scores = hider.real(attribute(curved, batch, 1).scores)
    hidden = draw_hidden(np.ones(8, dtype=bool), 30, 1)
    logits = hider.logits(np.concatenate([np.zeros((1, 8), dtype=bool), hidden]))
    lost = logits[0] - logits[1:]

    def forward(switches: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(hider.logits((switches < 0.5).numpy()))

    def perturb(switches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        taken = torch.from_numpy(hidden.astype(np.float64))
        return taken, switches - taken

    ones = torch.ones(1, 8, dtype=torch.double)
    expected = captum_infidelity(
        forward, perturb, ones, torch.from_numpy(scores)[None], n_perturb_samples=30, normalize=True
    )
    found = infidelity(scores, hidden, lost, scaled=True)
    assert found == pytest.approx(float(expected[0]) / np.mean(lost**2), rel=1e-6)
    plain = captum_infidelity(forward, perturb, ones, torch.from_numpy(scores)[None], n_perturb_samples=30)
    assert infidelity(scores, hidden, lost) == pytest.approx(float(plain[0]) / np.mean(lost**2), rel=1e-6)


def test_sets_stay_inside_the_map_and_every_size_is_drawn() -> None:
    scope = np.array([True, False, True, True])
    hidden = draw_hidden(scope, 200, 0)
    assert not hidden[:, 1].any()
    assert set(hidden.sum(axis=1)) == {1, 2, 3}


def test_a_linear_model_is_foretold_perfectly_by_its_attribution(linear, batch_of) -> None:
    batch = batch_of()
    hider = Hider(pose(linear, batch, 1))
    found = all_infidelities(hider, hider.real(attribute(linear, batch, 1).scores))
    assert set(found) == {"ehr", "notes", "radiology", ALL}
    assert max(max(both) for both in found.values()) < 1e-8
    wrong = all_infidelities(hider, -hider.real(attribute(linear, batch, 1).scores))
    assert min(plain for plain, _ in wrong.values()) == pytest.approx(4, rel=1e-4)
