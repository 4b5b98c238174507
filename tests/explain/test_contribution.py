from __future__ import annotations

from itertools import combinations, permutations
from math import factorial

import numpy as np
import pytest
import torch
from captum.attr import ShapleyValues

from clinimm.core.errors import DataError
from clinimm.explain.contribution import contributions, contributions_against, modality_shapley, shapley
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


def _brute(worth: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Both definitions written out over sets: Shapley (1953), and Grabisch and Roubens (1999)."""
    players = range(count)
    of = lambda members: worth[sum(1 << p for p in members)]  # noqa: E731
    values, pairs = np.zeros(count), np.zeros((count, count))
    for i in players:
        others = [p for p in players if p != i]
        for size in range(count):
            for s in combinations(others, size):
                weight = factorial(size) * factorial(count - size - 1) / factorial(count)
                values[i] += weight * (of((*s, i)) - of(s))
    for i, j in permutations(players, 2):
        others = [p for p in players if p not in (i, j)]
        for size in range(count - 1):
            for s in combinations(others, size):
                weight = factorial(size) * factorial(count - size - 2) / factorial(count - 1)
                pairs[i, j] += weight * (of((*s, i, j)) - of((*s, i)) - of((*s, j)) + of(s))
    return values, pairs


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_values_and_interactions_are_those_of_the_definitions(count: int) -> None:
    worth = np.random.default_rng(count).normal(size=(3, 2**count))
    values, pairs = shapley(worth)
    for row in range(3):
        expected = _brute(worth[row], count)
        np.testing.assert_allclose(values[row], expected[0], atol=1e-12)
        np.testing.assert_allclose(pairs[row], expected[1], atol=1e-12)


def test_a_player_who_changes_nothing_changes_nobody_elses_figures() -> None:
    worth = np.random.default_rng(0).normal(size=(1, 8))
    with_idler = np.concatenate([worth, worth], axis=1)
    values, pairs = shapley(worth)
    more, more_pairs = shapley(with_idler)
    np.testing.assert_allclose(more[:, :3], values)
    np.testing.assert_allclose(more_pairs[:, :3, :3], pairs)
    np.testing.assert_allclose(more[:, 3], 0, atol=1e-12)
    np.testing.assert_allclose(more_pairs[:, 3], 0, atol=1e-12)


def test_many_subjects_at_once_equal_captum_one_by_one_whoever_lacks_what(curved, batch_of) -> None:
    batch = batch_of(4)
    lacking = batch["notes"].mask.clone()
    lacking[2] = False
    batch["notes"] = batch["notes"].with_mask(lacking)
    found = contributions(curved, batch, 1)
    for subject in range(4):
        alone = {name: tokens.row(subject) for name, tokens in batch.items()}

        def forward(switches: torch.Tensor, alone: Batch = alone) -> torch.Tensor:
            rows = [curved.logits(curved.embed(_with_present(alone, row > 0.5)))[:, 1] for row in switches]
            return torch.cat(rows)

        expected = ShapleyValues(forward).attribute(torch.ones(1, 3))[0].numpy()
        np.testing.assert_allclose(found.values[subject], expected, atol=1e-5)
    assert found.values[2, 1] == 0
    assert (found.interactions[2, 1] == 0).all()
    assert found.present[:, 1].tolist() == [True, True, False, True]


def test_only_modalities_that_work_together_interact(linear, curved, batch_of) -> None:
    np.testing.assert_allclose(contributions(linear, batch_of(), 1).interactions, 0, atol=1e-5)
    assert np.abs(contributions(curved, batch_of(), 1).interactions).max() > 0.01


def test_each_subject_may_be_asked_about_its_own_class(curved, batch_of) -> None:
    batch = batch_of(2)
    mixed = contributions(curved, batch, [0, 1])
    np.testing.assert_allclose(mixed.values[0], contributions(curved, batch, 0).values[0])
    np.testing.assert_allclose(mixed.values[1], contributions(curved, batch, 1).values[1])


def _of(batch: Batch, subject: int) -> Batch:
    return {name: tokens.row(subject) for name, tokens in batch.items()}


def test_against_others_a_linear_model_gives_the_difference_to_their_mean(linear, batch_of) -> None:
    """The Shapley value of an additive model is the part's excess over its mean (Lundberg and Lee 2017)."""
    batch, references = batch_of(), batch_of(4)
    found = contributions_against(linear, batch, 1, references)
    for place, name in enumerate(found.names):
        own, others = (
            ((one[name].values * 2 * one[name].mask[..., None]).sum(1) @ linear.weights[name])
            for one in (batch, references)
        )
        assert found.values[0, place] == pytest.approx(float(own[0] - others.mean()), abs=1e-5)


def test_against_others_parts_sum_up_and_each_coalition_is_asked_by_hand(curved, batch_of) -> None:
    batch, references = batch_of(), batch_of(3)
    found = contributions_against(curved, batch, 1, references)
    for coalition in range(8):
        logits = [
            float(
                curved.logits(
                    curved.embed(
                        {
                            name: (_of(batch, 0) if coalition >> bit & 1 else _of(references, other))[name]
                            for bit, name in enumerate(found.names)
                        }
                    )
                )[0, 1]
            )
            for other in range(3)
        ]
        assert found.worth[0, coalition] == pytest.approx(np.mean(logits), abs=1e-5)
    assert found.values[0].sum() == pytest.approx(found.worth[0, -1] - found.worth[0, 0], abs=1e-9)


def test_against_others_what_a_subject_lacks_stays_absent(curved, batch_of) -> None:
    found = contributions_against(curved, batch_of(notes=True), 1, batch_of(2))
    lacking = batch_of(2)
    lacking["notes"] = lacking["notes"].with_mask(torch.zeros_like(lacking["notes"].mask))
    both = {name: tokens for name, tokens in batch_of(2).items()}
    one_lacks = both | {
        "notes": both["notes"].with_mask(both["notes"].mask & torch.tensor([[True], [False]]))
    }
    without = contributions_against(curved, one_lacks, 1, batch_of(2))
    place = without.names.index("notes")
    assert without.values[1, place] == 0
    assert not without.present[1, place]
    assert found.values[0, place] != 0
    with pytest.raises(DataError, match="notes"):
        contributions_against(curved, both, 1, lacking)
