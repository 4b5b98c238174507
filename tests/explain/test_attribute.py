from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients

from clinimm.core.errors import ConfigError, DataError
from clinimm.explain.attribute import attribute
from clinimm.nn.tokens import Batch, Tokens


def test_a_linear_model_gets_exactly_weight_times_token(linear, batch_of: Callable[..., Batch]) -> None:
    batch = batch_of(2)
    found = attribute(linear, batch, target_class=1, steps=4)
    for name, tokens in batch.items():
        expected = ((2 * tokens.values) @ linear.weights[name]) * tokens.mask
        np.testing.assert_allclose(found.scores[name], expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.baseline_logit, linear.bias)
    np.testing.assert_allclose(found.delta, 0, atol=1e-5)


def test_the_other_class_of_a_linear_model_has_the_opposite_scores(linear, batch_of) -> None:
    one, other = (attribute(linear, batch_of(), target_class=target, steps=4) for target in (1, 0))
    np.testing.assert_allclose(one.scores["ehr"], -other.scores["ehr"], atol=1e-6)


def test_parts_of_a_curved_model_sum_to_its_logit(curved, batch_of) -> None:
    found = attribute(curved, batch_of(3), target_class=1, steps=32)
    np.testing.assert_allclose(found.baseline_logit + found.total, found.logit, atol=1e-3)
    np.testing.assert_allclose(found.delta, found.baseline_logit + found.total - found.logit)


def test_more_steps_leave_a_smaller_residual(curved, batch_of) -> None:
    coarse, fine = (np.abs(attribute(curved, batch_of(3), 1, steps=n).delta).max() for n in (2, 24))
    assert fine < coarse / 10


def test_padding_gets_exactly_nothing_whatever_lies_in_it(curved, batch_of) -> None:
    batch = batch_of()
    dirty = batch["ehr"].values.masked_fill(~batch["ehr"].mask[..., None], 1e6)
    clean = attribute(curved, batch, 1)
    found = attribute(curved, {**batch, "ehr": batch["ehr"].with_values(dirty)}, 1)
    assert (found.scores["ehr"][0, 3:] == 0).all()
    np.testing.assert_allclose(found.scores["ehr"], clean.scores["ehr"], atol=1e-6)


def test_an_absent_modality_is_left_out(linear, batch_of) -> None:
    batch = batch_of(notes=False)
    assert set(attribute(linear, batch, 1).scores) == {"ehr", "radiology"}
    empty = Tokens(torch.zeros(1, 0, 2), torch.zeros(1, 0, dtype=torch.bool), torch.zeros(1, 0))
    assert set(attribute(linear, {**batch, "notes": empty}, 1).scores) == {"ehr", "radiology"}


def test_a_batch_equals_one_by_one(curved) -> None:
    values = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(5))
    tokens = Tokens(values, torch.ones(3, 4, dtype=torch.bool), torch.zeros(3, 4))
    together = attribute(curved, {"notes": tokens}, 1).scores["notes"]
    for row in range(3):
        one = Tokens(values[row : row + 1], tokens.mask[row : row + 1], tokens.time[row : row + 1])
        np.testing.assert_allclose(
            attribute(curved, {"notes": one}, 1).scores["notes"][0], together[row], 1e-5
        )


def test_it_equals_captum_called_by_hand_without_batching(curved, batch_of) -> None:
    batch = batch_of()
    embedded = curved.embed(batch)
    names = list(embedded)

    def forward(*values: torch.Tensor) -> torch.Tensor:
        rows = len(values[0])
        return curved.logits(
            {
                name: Tokens(
                    value, embedded[name].mask.expand(rows, -1), embedded[name].time.expand(rows, -1)
                )
                for name, value in zip(names, values, strict=True)
            }
        )[:, 1]

    raw = IntegratedGradients(forward).attribute(tuple(embedded[n].values for n in names), n_steps=200)
    found = attribute(curved, batch, 1, steps=200)
    for name, part in zip(names, raw, strict=True):
        np.testing.assert_allclose(found.scores[name], part.sum(dim=2).detach().numpy(), atol=1e-5)


def test_an_unknown_method_names_those_that_are_known(linear, batch_of) -> None:
    with pytest.raises(ConfigError, match="integrated_gradients"):
        attribute(linear, batch_of(), 1, method="tea_leaves")


def test_nobody_with_a_token_is_a_named_error(linear) -> None:
    empty = Tokens(torch.zeros(2, 3, 2), torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, 3))
    with pytest.raises(DataError, match="nothing to explain"):
        attribute(linear, {"notes": empty}, 1)
