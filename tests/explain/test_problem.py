from __future__ import annotations

import numpy as np
import pytest
import torch

from clinimm.explain.attribute import attribute
from clinimm.explain.contribution import contributions
from clinimm.explain.hide import Hider
from clinimm.explain.problem import class_logit, pose
from tests.explain.conftest import WEIGHTS, CurvedModel


class ExclusiveModel(CurvedModel):
    """Three classes that exclude each other; every logit also has ``shift`` of the same token."""

    kind = "multiclass"
    shift = 0.0

    def logits(self, embedded):
        two = super().logits(embedded)
        common = sum((t.values[..., 0] * t.mask).sum(dim=1) for t in embedded.values())
        return torch.cat([two, 0.3 * two[:, 1:].square()], dim=1) + self.shift * common[:, None]


@pytest.fixture
def exclusive() -> ExclusiveModel:
    return ExclusiveModel(WEIGHTS)


def test_the_log_odds_of_an_exclusive_class_are_those_of_its_probability(exclusive) -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    probability = logits.softmax(dim=1)[:, 2]
    torch.testing.assert_close(class_logit(exclusive, logits, 2), torch.logit(probability))


def test_a_class_by_itself_keeps_its_logit(curved) -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(class_logit(curved, logits, 2), logits[:, 2])


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion", "layer_grad_cam"])
def test_what_moves_all_classes_alike_is_no_part_of_a_map(exclusive, batch_of, method: str) -> None:
    """The softmax does not heed it; the raw logit would."""
    before = attribute(exclusive, batch_of(), 1, method)
    exclusive.shift = 5.0
    after = attribute(exclusive, batch_of(), 1, method)
    for name, scores in before.scores.items():
        np.testing.assert_allclose(after.scores[name], scores, atol=1e-3)
    np.testing.assert_allclose(after.logit, before.logit, atol=1e-3)


def test_contributions_and_checks_speak_of_the_same_log_odds(exclusive, batch_of) -> None:
    problem = pose(exclusive, batch_of(), 1)
    exclusive.shift = 5.0
    expected = float(torch.logit(exclusive.logits(problem.embedded).softmax(dim=1)[:, 1]))
    nothing = np.zeros((1, 8), dtype=bool)
    assert Hider(problem).logits(nothing)[0] == pytest.approx(expected, abs=1e-3)
    assert contributions(exclusive, batch_of(), 1).worth[0, -1] == pytest.approx(expected, abs=1e-3)
