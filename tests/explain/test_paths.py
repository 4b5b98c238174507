from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import GradientShap

from clinimm.core.errors import ConfigError, DataError
from clinimm.explain.attribute import attribute
from clinimm.explain.baselines import reference
from clinimm.explain.problem import Setting, pose
from clinimm.nn.tokens import Batch, Tokens


def test_gradient_shap_of_a_linear_model_is_exact_whatever_is_drawn(linear, batch_of) -> None:
    batch = batch_of(2)
    found = attribute(linear, batch, 1, "gradient_shap", steps=2)
    for name, tokens in batch.items():
        expected = ((2 * tokens.values) @ linear.weights[name]) * tokens.mask
        np.testing.assert_allclose(found.scores[name], expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.delta, 0, atol=1e-5)


def _bank(weights: dict[str, list[float]], tokens: int = 40) -> dict[str, torch.Tensor]:
    """Distinct training tokens."""
    draw = torch.Generator().manual_seed(11)
    return {name: 1 + torch.randn(tokens, len(weight), generator=draw) for name, weight in weights.items()}


def _drawn(batch: Batch, bank: dict[str, torch.Tensor], draw: np.random.Generator) -> list[torch.Tensor]:
    """The tokens of one draw, modality after modality; padding stays empty."""
    rows = []
    for name, tokens in batch.items():
        places = np.random.default_rng(draw.integers(2**63)).random(tokens.mask.shape[1])
        row = bank[name][torch.from_numpy(np.floor(places * len(bank[name])).astype(int))]
        rows.append(row[None] * tokens.mask[..., None])
    return rows


def test_gradient_shap_equals_captum_called_by_hand_with_the_same_draws(curved, batch_of) -> None:
    batch, bank = batch_of(), _bank(curved.weights)
    problem, draw = pose(curved, batch, 1), np.random.default_rng(7)
    rows = [_drawn(batch, bank, draw) for _ in range(16)]
    baselines = tuple(torch.cat(each) for each in zip(*rows, strict=True))
    np.random.seed(7)
    torch.manual_seed(7)
    raw = GradientShap(problem.forward).attribute(
        problem.values, baselines, n_samples=20, additional_forward_args=problem.unchanged
    )
    setting = Setting(seed=7, baseline="training", references=bank)
    found = attribute(curved, batch, 1, "gradient_shap", 20, setting)
    for name, part in zip(problem.names, raw, strict=True):
        np.testing.assert_allclose(found.scores[name], part.sum(2).detach().numpy(), atol=1e-5)


def test_gradient_shap_comes_near_integrated_gradients_and_keeps_its_residual(curved, batch_of) -> None:
    exact = attribute(curved, batch_of(), 1, steps=64)
    few, many = (attribute(curved, batch_of(), 1, "gradient_shap", n) for n in (4, 2000))
    np.testing.assert_allclose(many.scores["ehr"], exact.scores["ehr"], atol=0.1)
    np.testing.assert_allclose(many.delta, many.baseline_logit + many.total - many.logit)
    assert np.abs(many.delta).max() < np.abs(few.delta).max()


def test_the_same_seed_draws_the_same_and_leaves_the_process_as_it_was(curved, batch_of) -> None:
    np.random.seed(3)
    torch.manual_seed(3)
    expected = np.random.rand(), float(torch.rand(()))
    np.random.seed(3)
    torch.manual_seed(3)
    one, two, other = (
        attribute(curved, batch_of(), 1, "gradient_shap", 8, Setting(seed=seed)) for seed in (0, 0, 1)
    )
    assert (np.random.rand(), float(torch.rand(()))) == expected
    np.testing.assert_array_equal(one.scores["ehr"], two.scores["ehr"])
    assert np.abs(one.scores["ehr"] - other.scores["ehr"]).max() > 1e-3


def test_integrated_gradients_from_training_tokens_is_the_mean_over_sixteen_draws(linear, batch_of) -> None:
    """For a linear model the parts are weight x (token - mean token drawn); tokens differ in the bank."""
    batch, bank = batch_of(), _bank(linear.weights)
    draws = [_drawn(batch, bank, np.random.default_rng(16 * 3 + n)) for n in range(16)]
    setting = Setting(references=bank, baseline="training", seed=3)
    found = attribute(linear, batch, 1, steps=4, setting=setting)
    reference = linear.bias
    for place, (name, tokens) in enumerate(batch.items()):
        mean = torch.stack([draw[place] for draw in draws]).mean(0)
        expected = ((2 * tokens.values - mean) @ linear.weights[name]) * tokens.mask
        np.testing.assert_allclose(found.scores[name], expected.numpy(), atol=1e-5)
        reference += float(((mean @ linear.weights[name]) * tokens.mask).sum())
    assert found.baseline_logit[0] == pytest.approx(reference, abs=1e-5)
    assert found.baselines["ehr"].startswith("tokens of training subjects")
    np.testing.assert_allclose(found.delta, 0, atol=1e-5)


def test_gradient_shaps_reference_is_the_mean_logit_of_the_training_tokens_drawn(linear, batch_of) -> None:
    batch, bank = batch_of(), _bank(linear.weights)
    draw = np.random.default_rng(0)
    rows = [_drawn(batch, bank, draw) for _ in range(16)]
    found = attribute(linear, batch, 1, "gradient_shap", 4000, Setting(references=bank, baseline="training"))
    reference = linear.bias
    for place, (name, tokens) in enumerate(batch.items()):
        mean = torch.stack([row[place] for row in rows]).mean(0)
        expected = ((2 * tokens.values - mean) @ linear.weights[name]) * tokens.mask
        np.testing.assert_allclose(found.scores[name], expected.numpy(), atol=0.15)
        reference += float(((mean @ linear.weights[name]) * tokens.mask).sum())
    assert found.baseline_logit[0] == pytest.approx(reference, abs=1e-5)


def test_a_fact_is_replaced_by_one_of_its_own_sort_where_there_is_one(linear) -> None:
    kind = torch.tensor([[4, 5, 5, 9]])
    tokens = Tokens(torch.ones(1, 4, 2), torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4), kind)
    bank = torch.tensor([[1.0, 0], [2.0, 0], [3.0, 0]])
    setting = Setting(references={"notes": bank}, reference_kinds={"notes": torch.tensor([4, 5, 5])})
    problem = pose(linear, {"notes": tokens}, 1, setting)
    drawn = [reference(problem, "training", np.random.default_rng(n)).values[0][0, :, 0] for n in range(30)]
    first, second, third, unknown = torch.stack(drawn).T
    assert set(first.tolist()) == {1.0}
    assert set(second.tolist()) == set(third.tolist()) == {2.0, 3.0}
    assert set(unknown.tolist()) == {1.0, 2.0, 3.0}, "no training subject has that sort"


def test_training_tokens_that_are_not_there_are_asked_for_by_name(linear, batch_of) -> None:
    setting = Setting(baseline="training", references={"ehr": torch.zeros(1, 3)})
    with pytest.raises(DataError, match="notes, radiology"):
        attribute(linear, batch_of(), 1, "integrated_gradients", 4, setting)


def test_a_baseline_that_a_method_cannot_use_is_refused_with_those_that_it_can(linear, batch_of) -> None:
    with pytest.raises(ConfigError, match="uninformative, blurred, training"):
        attribute(linear, batch_of(), 1, setting=Setting(baseline="absent"))
    with pytest.raises(ConfigError, match="it has none"):
        attribute(linear, batch_of(), 1, "layer_grad_cam", setting=Setting(baseline="blurred"))
