from __future__ import annotations

import numpy as np
import pytest
import torch

from clinimm.core.errors import DataError
from clinimm.explain.curves import Effort, all_curves, curves, hidden_along
from clinimm.explain.hide import ALL, Hider
from clinimm.explain.problem import pose
from clinimm.nn.tokens import Batch, Tokens


def _falling(tokens: int = 8) -> Batch:
    """Token ``i`` is worth ``tokens - i`` in the linear model below."""
    values = torch.arange(tokens, 0, -1.0)[None, :, None] * torch.tensor([0.5, 0.0])
    return {"notes": Tokens(values, torch.ones(1, tokens, dtype=torch.bool), torch.zeros(1, tokens))}


def test_areas_of_a_linear_model_have_a_closed_form(linear) -> None:
    """Worth 8, 7, ... 1: after k removals 36 - (8 + 7 + ...) is left; trapezia in eighths."""
    hider = Hider(pose(linear, _falling(), 1))
    scores = np.arange(8, 0, -1.0)
    found = curves(hider, scores, np.ones(8, dtype=bool), effort=Effort(8, 4))
    left = 36 - np.concatenate([[0], np.cumsum(scores)]) + linear.bias
    back = np.concatenate([[0], np.cumsum(scores)]) + linear.bias
    assert found.deletion == pytest.approx(np.trapezoid(left, dx=1 / 8), abs=1e-4)
    assert found.insertion == pytest.approx(np.trapezoid(back, dx=1 / 8), abs=1e-4)
    assert found.deletion < found.random < found.insertion
    assert found.beaten == pytest.approx(8 / 9), "four orders, their reverses, and itself"


def test_they_equal_curves_computed_one_removal_at_a_time(curved, batch_of) -> None:
    """An independent loop: hide by rebuilding the record, no masks shared with the code."""
    batch = {name: tokens.row(0) for name, tokens in batch_of().items()}
    hider = Hider(pose(curved, batch, 1))
    scores = np.random.default_rng(0).normal(size=8)
    order = list(np.argsort(-scores))
    names = ["ehr"] * 3 + ["notes"] * 2 + ["radiology"] * 3
    first = {"ehr": 0, "notes": 3, "radiology": 5}

    def logit(kept: list[int]) -> float:
        total = {}
        for name, start in first.items():
            own = [i - start for i in kept if names[i] == name]
            values = 2 * batch[name].values[0, own]
            total[name] = float(torch.tanh(values @ curved.weights[name]).sum())
        return sum(total.values()) + 0.7 * float(np.prod(list(total.values()))) + curved.bias

    deletion = [logit([i for i in range(8) if i not in order[:k]]) for k in range(9)]
    insertion = [logit(order[:k]) for k in range(9)]
    found = curves(hider, scores, np.ones(8, dtype=bool), effort=Effort(8, 1))
    assert found.deletion == pytest.approx(np.trapezoid(deletion, dx=1 / 8), abs=1e-5)
    assert found.insertion == pytest.approx(np.trapezoid(insertion, dx=1 / 8), abs=1e-5)


def test_a_map_of_noise_beats_95_of_100_random_orders_one_time_in_twenty(curved) -> None:
    """The limit of the policy; against the mean of random orders it was every third time."""
    values = torch.randn(1, 24, 2, generator=torch.Generator().manual_seed(0))
    tokens = Tokens(values, torch.ones(1, 24, dtype=torch.bool), torch.zeros(1, 24))
    hider, random = Hider(pose(curved, {"notes": tokens}, 1)), np.random.default_rng(5)
    every = np.ones(24, dtype=bool)
    beaten = [curves(hider, random.normal(size=24), every, seed=n).beaten for n in range(120)]
    assert 0.01 <= np.mean(np.array(beaten) >= 0.95) <= 0.1


def test_four_tokens_are_ranked_among_all_their_orders(linear) -> None:
    hider, every = Hider(pose(linear, _falling(4), 1)), np.ones(4, dtype=bool)
    best = curves(hider, np.arange(4, 0, -1.0), every)
    second = curves(hider, np.array([3.0, 4.0, 2.0, 1.0]), every)
    assert best.beaten == pytest.approx(23 / 24)
    assert second.beaten < 0.95
    assert curves(hider, -np.arange(4, 0, -1.0), every).beaten == pytest.approx(0)


def test_a_model_that_no_order_moves_differently_has_no_order_to_find(linear) -> None:
    same = {"notes": Tokens(torch.ones(1, 8, 2), torch.ones(1, 8, dtype=torch.bool), torch.zeros(1, 8))}
    assert curves(Hider(pose(linear, same, 1)), np.arange(8.0), np.ones(8, dtype=bool)).beaten < 0.95


def test_random_orders_put_back_are_random_orders_taken_away(linear) -> None:
    hider = Hider(pose(linear, _falling(), 1))
    found = curves(hider, np.zeros(8), np.ones(8, dtype=bool), seed=1, effort=Effort(8, 200))
    assert found.random == pytest.approx(18 + linear.bias, abs=0.5)


def test_tokens_outside_the_map_stay(linear, batch_of) -> None:
    batch = batch_of()
    hider = Hider(pose(linear, batch, 1))
    scope = hider.scopes()["ehr"]
    found = curves(hider, np.zeros(len(scope)), scope, effort=Effort(3, 1))
    worth = (2 * batch["ehr"].values[0, :3] @ linear.weights["ehr"]).numpy()
    whole = float(linear.logits(linear.embed(batch))[0, 1])
    left = whole - np.concatenate([[0], np.cumsum(worth)])
    assert found.deletion == pytest.approx(np.trapezoid(left, dx=1 / 3), abs=1e-5)
    assert found.tokens == 3


def test_an_edge_detector_that_is_right_is_not_beaten_and_one_that_is_wrong_is(linear) -> None:
    hider, scores = Hider(pose(linear, _falling(), 1)), np.arange(8, 0, -1.0)
    every = np.ones(8, dtype=bool)
    same = curves(hider, scores, every, edges=scores)
    assert same.edges_deletion == pytest.approx(same.deletion)
    assert same.edges_insertion == pytest.approx(same.insertion)
    wrong = curves(hider, scores, every, edges=-scores)
    assert wrong.edges_deletion is not None
    assert wrong.edges_deletion > wrong.deletion


def test_every_map_with_tokens_enough_is_judged_and_the_whole(linear, batch_of) -> None:
    batch = {**batch_of(), **_falling()}
    hider = Hider(pose(linear, batch, 1))
    found = all_curves(hider, np.random.default_rng(0).normal(size=14), {"notes": np.zeros(8)})
    assert set(found) == {"notes", ALL}, "three tokens have hardly an order"
    assert found["notes"].edges_deletion is not None
    assert found[ALL].edges_deletion is None


def test_hidden_along_an_order_counts_from_its_start() -> None:
    found = hidden_along(np.array([2, 0]), np.array([0, 1, 2]), 3)
    assert found.tolist() == [[False] * 3, [False, False, True], [True, False, True]]


def test_hiding_asks_equal_rows_once_and_answers_in_their_order(linear, monkeypatch) -> None:
    hider, rows = Hider(pose(linear, _falling(), 1)), []
    plain = linear.logits
    monkeypatch.setattr(linear, "logits", lambda batch: rows.append(len(batch["notes"])) or plain(batch))
    hidden = np.zeros((5, 8), dtype=bool)
    hidden[[1, 3], 0] = True
    found = hider.logits(hidden)
    assert sum(rows) == 2
    np.testing.assert_allclose(found - linear.bias, [36, 28, 36, 28, 36], atol=1e-4)


def test_two_subjects_at_once_are_refused(linear, batch_of) -> None:
    with pytest.raises(DataError, match="expected one"):
        Hider(pose(linear, batch_of(2), 1))
