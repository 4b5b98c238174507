from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clinimm.explain.attribute import attribute
from clinimm.explain.checks import attribute_fully, deletion, relative_delta
from clinimm.nn.tokens import Batch, Tokens


def _planted(tokens: int = 20, informative: int = 3) -> Batch:
    """Three of twenty tokens carry the signal; the others carry next to nothing."""
    values = 0.02 * torch.randn(1, tokens, 2, generator=torch.Generator().manual_seed(0))
    values[0, :informative, 0] = 1.5
    shuffled = values[:, torch.randperm(tokens, generator=torch.Generator().manual_seed(1))]
    return {"notes": Tokens(shuffled, torch.ones(1, tokens, dtype=torch.bool), torch.zeros(1, tokens))}


def test_removing_what_mattered_beats_a_random_order(linear) -> None:
    batch = _planted()
    found = deletion(linear, batch, attribute(linear, batch, 1), 1)
    assert found.auc < found.auc_random - 1


def test_an_upside_down_map_loses_to_a_random_order(linear) -> None:
    batch = _planted()
    right = attribute(linear, batch, 1)
    wrong = replace(right, scores={name: -scores for name, scores in right.scores.items()})
    found = deletion(linear, batch, wrong, 1)
    assert found.auc > found.auc_random + 1


def test_the_area_of_a_linear_model_has_a_closed_form(linear) -> None:
    """Removing equal tokens one by one is a straight line from the logit to the bias."""
    tokens = Tokens(torch.ones(1, 8, 2), torch.ones(1, 8, dtype=torch.bool), torch.zeros(1, 8))
    batch = {"notes": tokens}
    logit = float(linear.logits(linear.embed(batch))[0, 1])
    found = deletion(linear, batch, attribute(linear, batch, 1), 1, points=8)
    assert found.auc == pytest.approx((logit + linear.bias) / 2, abs=1e-5)
    assert found.auc_random == pytest.approx(found.auc, abs=1e-5)


def test_the_same_seed_gives_the_same_figures_and_padding_changes_nothing(linear, batch_of) -> None:
    batch = batch_of()
    explanation = attribute(linear, batch, 1)
    first, second = (deletion(linear, batch, explanation, 1, seed=3) for _ in range(2))
    assert first == second
    padded = {
        name: Tokens(
            *(
                torch.nn.functional.pad(v, p)
                for v, p in ((t.values, (0, 0, 0, 4)), (t.mask, (0, 4)), (t.time, (0, 4)))
            )
        )
        for name, t in batch.items()
    }
    wide = deletion(linear, padded, attribute(linear, padded, 1), 1, seed=3)
    assert wide.auc == pytest.approx(first.auc, abs=1e-5)
    assert wide.auc_random == pytest.approx(first.auc_random, abs=1e-5)


def test_relative_delta_is_a_share_of_the_change_and_stays_finite(linear, batch_of) -> None:
    found = attribute(linear, batch_of(), 1)
    worse = replace(found, delta=0.1 * (found.logit - found.baseline_logit))
    np.testing.assert_allclose(relative_delta(worse), 0.1)
    still = replace(found, logit=found.baseline_logit, delta=np.array([1e-6]))
    np.testing.assert_allclose(relative_delta(still), 1e-3)


def test_a_model_that_bends_near_the_baseline_gets_a_finer_path(linear, monkeypatch) -> None:
    batch, plain = _planted(), linear.logits
    monkeypatch.setattr(linear, "logits", lambda tokens: torch.tanh(5 * plain(tokens)))
    coarse = attribute(linear, batch, 1, steps=4)
    fine = attribute_fully(linear, batch, 1, steps=4)
    assert relative_delta(coarse)[0] > 0.05
    assert relative_delta(fine)[0] < relative_delta(coarse)[0] / 5
