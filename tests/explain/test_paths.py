from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import GradientShap

from clinimm.core.errors import ConfigError
from clinimm.explain.attribute import attribute
from clinimm.explain.problem import Setting, pose


def test_gradient_shap_of_a_linear_model_is_exact_whatever_is_drawn(linear, batch_of) -> None:
    batch = batch_of(2)
    found = attribute(linear, batch, 1, "gradient_shap", steps=2)
    for name, tokens in batch.items():
        expected = ((2 * tokens.values) @ linear.weights[name]) * tokens.mask
        np.testing.assert_allclose(found.scores[name], expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.delta, 0, atol=1e-5)


def test_gradient_shap_equals_captum_called_by_hand_with_the_same_draws(curved, batch_of) -> None:
    batch = batch_of()
    problem = pose(curved, batch, 1)
    baselines = tuple(torch.zeros(2, *value.shape[1:]) for value in problem.values)
    np.random.seed(7)
    torch.manual_seed(7)
    raw = GradientShap(problem.forward).attribute(
        problem.values, baselines, n_samples=20, additional_forward_args=problem.unchanged
    )
    found = attribute(curved, batch, 1, "gradient_shap", 20, Setting(seed=7))
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


def test_tokens_of_training_subjects_are_a_reference_whose_mean_logit_is_known(linear, batch_of) -> None:
    """For a linear model the parts are weight x (token - mean token drawn)."""
    bank = {name: torch.full((1, len(weight)), 0.5) for name, weight in linear.weights.items()}
    setting = Setting(references=bank, baseline="training")
    found = attribute(linear, batch_of(), 1, "gradient_shap", 4, setting)
    for name, tokens in batch_of().items():
        expected = ((2 * tokens.values - 0.5) @ linear.weights[name]) * tokens.mask
        np.testing.assert_allclose(found.scores[name], expected.numpy(), atol=1e-5)
    assert found.baselines["ehr"].startswith("tokens of training subjects")
    np.testing.assert_allclose(found.delta, 0, atol=1e-5)


def test_training_tokens_that_are_not_there_are_asked_for_by_name(linear, batch_of) -> None:
    setting = Setting(baseline="training", references={"ehr": torch.zeros(1, 3)})
    with pytest.raises(ConfigError, match="notes, radiology"):
        attribute(linear, batch_of(), 1, "integrated_gradients", 4, setting)


def test_a_baseline_that_a_method_cannot_use_is_refused_with_those_that_it_can(linear, batch_of) -> None:
    with pytest.raises(ConfigError, match="uninformative, blurred, training"):
        attribute(linear, batch_of(), 1, setting=Setting(baseline="absent"))
    with pytest.raises(ConfigError, match="it has none"):
        attribute(linear, batch_of(), 1, "layer_grad_cam", setting=Setting(baseline="blurred"))
