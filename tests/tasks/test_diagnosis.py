from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from clinimm.tasks.diagnosis import Kind, Task


def test_binary_loss_is_torch_binary_cross_entropy() -> None:
    task = Task("t", "binary", ("yes",))
    logits, target = torch.randn(9, 1), torch.randint(0, 2, (9, 1)).float()
    expected = F.binary_cross_entropy_with_logits(logits, target, reduction="none")[:, 0]
    torch.testing.assert_close(task.loss(logits, target, torch.ones(2, 1)), expected)


def test_multiclass_loss_is_torch_cross_entropy() -> None:
    task = Task("t", "multiclass", ("a", "b", "c"))
    logits, label = torch.randn(9, 3), torch.randint(0, 3, (9,))
    target = F.one_hot(label, 3).float()
    expected = F.cross_entropy(logits, label, reduction="none")
    torch.testing.assert_close(task.loss(logits, target, torch.ones(2, 3)), expected)


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_unknown_labels_cost_nothing(kind: Kind) -> None:
    task = Task("t", kind, ("a",))
    loss = task.loss(torch.tensor([[2.0], [1.0]]), torch.tensor([[float("nan")], [1.0]]), torch.ones(2, 1))
    assert loss[0] == 0
    assert loss[1] > 0


def test_balanced_weights_make_both_classes_weigh_alike() -> None:
    task = Task("t", "binary", ("yes",))
    target = torch.tensor([[1.0], [0.0], [0.0], [0.0], [float("nan")]])
    weights = task.class_weights(target)
    assert weights[1, 0] * 1 == pytest.approx(float(weights[0, 0]) * 3)
    assert (weights[1, 0] * 1 + weights[0, 0] * 3) / 4 == pytest.approx(1.0)


def test_exclusive_classes_sum_to_one_and_others_need_not() -> None:
    logits = torch.tensor([[2.0, 2.0]])
    assert Task("t", "multiclass", ("a", "b")).probabilities(logits).sum() == pytest.approx(1.0)
    assert Task("t", "multilabel", ("a", "b")).probabilities(logits).sum() > 1.5
