from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from clinimm.config import TrainConfig
from clinimm.tasks.fairness import SoftWorstGroup, combiner, mean, reweighing


def table(seed: int = 0) -> tuple[dict[str, str], dict[str, int]]:
    generator = np.random.default_rng(seed)
    names = [f"s{number}" for number in range(500)]
    group = generator.choice(["a", "b", "(missing)"], 500, p=[0.6, 0.3, 0.1])
    label = generator.random(500) < np.where(group == "b", 0.1, 0.4)
    return dict(zip(names, group.tolist(), strict=True)), dict(
        zip(names, label.astype(int).tolist(), strict=True)
    )


def test_under_the_weights_group_and_label_are_independent() -> None:
    groups, labels = table()
    weights = reweighing(groups, labels)
    assert np.mean(list(weights.values())) == pytest.approx(1.0)
    rate = {}
    for level in ("a", "b", "(missing)"):
        own = [name for name in labels if groups[name] == level]
        rate[level] = sum(weights[name] * labels[name] for name in own) / sum(weights[name] for name in own)
    assert np.ptp(list(rate.values())) < 1e-9
    assert rate["a"] == pytest.approx(np.mean(list(labels.values())))


def test_weights_are_kamiran_and_calders_product_of_shares() -> None:
    groups = dict(zip("stuvwx", "aaabbb", strict=True))
    labels = dict(zip("stuvwx", (1, 1, 0, 1, 0, 0), strict=True))
    found = reweighing(groups, labels)
    assert found == pytest.approx({"s": 0.75, "t": 0.75, "u": 1.5, "v": 1.5, "w": 0.75, "x": 0.75})


def test_a_group_without_one_label_keeps_a_mean_weight_of_one() -> None:
    found = reweighing({"s": "a", "t": "a", "u": "b"}, {"s": 1, "t": 0, "u": 0})
    assert np.mean(list(found.values())) == pytest.approx(1.0)


def test_the_soft_worst_group_lies_between_mean_and_worst_and_leans_on_the_worst() -> None:
    groups = dict(zip("stuv", "aabb", strict=True))
    losses = torch.tensor([1.0, 3.0, 5.0, 7.0], requires_grad=True)
    means = torch.tensor([2.0, 6.0])
    assert float(SoftWorstGroup(groups, 0.0)(losses.detach(), "stuv")) == pytest.approx(4.0)
    assert float(SoftWorstGroup(groups, 50.0)(losses.detach(), "stuv")) == pytest.approx(6.0, abs=0.02)
    SoftWorstGroup(groups, 0.7)(losses, "stuv").backward()
    expected = torch.softmax(0.7 * means, 0).repeat_interleave(2) / 2
    assert torch.allclose(losses.grad, expected, atol=1e-6)


def test_a_batch_of_one_group_is_its_mean_and_none_is_the_mean() -> None:
    losses = torch.tensor([1.0, 2.0])
    assert float(SoftWorstGroup({"s": "a", "t": "a"}, 1.0)(losses, "st")) == pytest.approx(1.5)
    assert combiner("none", {}, {}) is mean
    assert float(mean(losses, "st")) == pytest.approx(1.5)


def test_the_configuration_wants_both_or_neither() -> None:
    assert TrainConfig(mitigation="reweighing", mitigation_attribute="sex").mitigation == "reweighing"
    for wrong in ({"mitigation": "group_dro"}, {"mitigation_attribute": "sex"}):
        with pytest.raises(ValidationError, match="go together"):
            TrainConfig(**wrong)
