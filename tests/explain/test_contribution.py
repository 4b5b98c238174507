from __future__ import annotations

import pytest
import torch
from captum.attr import ShapleyValues

from clinimm.core.errors import DataError
from clinimm.explain.contribution import modality_shapley
from clinimm.nn.tokens import Batch


def _with_present(batch: Batch, present: torch.Tensor) -> Batch:
    return {
        name: tokens.with_mask(tokens.mask & bool(present[place]))
        for place, (name, tokens) in enumerate(batch.items())
    }


def test_it_equals_captum_shapley_values(curved, batch_of) -> None:
    batch = batch_of()

    def forward(switches: torch.Tensor) -> torch.Tensor:
        rows = [curved.logits(curved.embed(_with_present(batch, row > 0.5)))[:, 1] for row in switches]
        return torch.cat(rows)

    expected = ShapleyValues(forward).attribute(torch.ones(1, 3))[0]
    found = modality_shapley(curved, batch, 1)
    for name, value in zip(batch, expected, strict=True):
        assert found[name] == pytest.approx(float(value), abs=1e-5)


@pytest.mark.parametrize("notes", [True, False])
def test_values_sum_to_the_logit_above_no_modality(curved, batch_of, notes: bool) -> None:
    batch = batch_of(notes=notes)
    whole = float(curved.logits(curved.embed(batch))[0, 1])
    nothing = float(curved.logits(curved.embed(_with_present(batch, torch.zeros(3))))[0, 1])
    assert sum(modality_shapley(curved, batch, 1).values()) == pytest.approx(whole - nothing, abs=1e-5)


def test_a_modality_that_is_not_there_has_no_value(curved, batch_of) -> None:
    assert set(modality_shapley(curved, batch_of(notes=False), 1)) == {"ehr", "radiology"}


def test_a_linear_model_gives_each_modality_its_own_sum(linear, batch_of) -> None:
    batch = batch_of()
    expected = ((2 * batch["ehr"].values) @ linear.weights["ehr"] * batch["ehr"].mask).sum()
    assert modality_shapley(linear, batch, 1)["ehr"] == pytest.approx(float(expected), abs=1e-5)


def test_two_subjects_at_once_are_refused(linear, batch_of) -> None:
    with pytest.raises(DataError, match="expected one"):
        modality_shapley(linear, batch_of(2), 1)
