from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Laplace, Normal, kl_divergence

from clinimm.core.errors import ConfigError
from clinimm.tasks.virtual_staining import (
    StainTask,
    absolute_error,
    adversarial_loss,
    gaussian_divergence,
    known_mean,
    laplace_loss,
    patch_contrast,
)


def test_the_token_of_a_stain_is_its_place() -> None:
    task = StainTask(("CK", "KI67"))
    assert task.index("KI67") == 1
    with pytest.raises(ConfigError, match="'HER2' is unknown; this model makes CK, KI67"):
        task.index("HER2")


@pytest.mark.parametrize("stains", [(), ("CK", "CK")])
def test_stains_are_named_once_and_at_least_one(stains: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        StainTask(stains)


def test_errors_are_averaged_over_colours_and_known_pixels() -> None:
    made, real = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    known = torch.rand(2, 4, 5) > 0.5
    error = absolute_error(made, real)
    torch.testing.assert_close(error, nn.L1Loss(reduction="none")(made, real).mean(1))
    torch.testing.assert_close(known_mean(error, known), error[known].mean())
    assert known_mean(error, torch.zeros_like(known)) == 0


def test_the_laplace_loss_is_the_negative_log_likelihood_but_for_a_constant() -> None:
    log_scale, error = torch.randn(2, 1, 4, 5), torch.rand(2, 4, 5)
    known = torch.ones(2, 4, 5, dtype=torch.bool)
    expected = -Laplace(torch.zeros(()), log_scale[:, 0].exp()).log_prob(error).mean()
    loss = laplace_loss(log_scale, error, known)
    torch.testing.assert_close(loss + torch.log(torch.tensor(2.0)), expected)


def test_the_best_scale_is_the_expected_error_and_the_error_gets_no_gradient() -> None:
    error = torch.rand(1, 50, 50, requires_grad=True)
    log_scale = torch.zeros(1, 1, 1, 1, requires_grad=True)
    optimiser = torch.optim.Adam([log_scale], lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        laplace_loss(
            log_scale.expand(1, 1, 50, 50), error, torch.ones(1, 50, 50, dtype=torch.bool)
        ).backward()
        optimiser.step()
    torch.testing.assert_close(log_scale.exp().flatten()[0], error.mean(), atol=1e-3, rtol=0)
    assert error.grad is None


def test_the_adversarial_loss_is_least_squares() -> None:
    scores = torch.randn(2, 1, 3, 3)
    torch.testing.assert_close(adversarial_loss(scores, True), nn.MSELoss()(scores, torch.ones_like(scores)))
    torch.testing.assert_close(adversarial_loss(scores, False), scores.pow(2).mean())


def test_contrast_is_low_where_each_place_finds_itself() -> None:
    own = nn.functional.normalize(torch.randn(2, 20, 16), dim=2)
    shuffled = own[:, torch.randperm(20)]
    assert patch_contrast([own], [own]) < 0.1 < 1.0 < patch_contrast([own], [shuffled])


def test_the_divergence_is_that_of_normal_laws() -> None:
    mean, log_variance, prior_mean, prior_log_variance = torch.randn(4, 2, 3, 4, 5)
    expected = kl_divergence(
        Normal(mean, (0.5 * log_variance).exp()), Normal(prior_mean, (0.5 * prior_log_variance).exp())
    ).mean()
    torch.testing.assert_close(
        gaussian_divergence(mean, log_variance, prior_mean, prior_log_variance), expected
    )
