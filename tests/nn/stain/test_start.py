from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import PolynomialFeatures

from clinimm.nn.precision import autocast
from clinimm.nn.stain.start import ColourStart


def test_it_starts_as_a_copy() -> None:
    image = torch.rand(2, 3, 4, 5)
    assert torch.equal(ColourStart(2)(image, torch.tensor([0, 1])), image)


def test_fitted_to_pairs_it_is_quadratic_regression() -> None:
    random = np.random.default_rng(0)
    source = random.random((500, 3))
    target = (
        source**2 @ random.random((3, 3)) + source[:, [1]] * source[:, [2]] + 0.01 * random.random((500, 3))
    )
    start = ColourStart(2)
    start.fit_pairs(1, torch.tensor(source), torch.tensor(target))
    terms = PolynomialFeatures(2)
    expected = LinearRegression().fit(terms.fit_transform(source), target)
    image = torch.tensor(source[:100].T.reshape(1, 3, 10, 10), dtype=torch.float32)
    made = start(image, torch.tensor([1]))[0].flatten(1).T.numpy()
    # The touch of ridge leaves a trace.
    np.testing.assert_allclose(made, expected.predict(terms.transform(source[:100])), atol=0.01)
    assert torch.equal(start(image, torch.tensor([0])), image)


def test_mixed_precision_leaves_it_as_it_is() -> None:
    """Its large terms cancel: in bfloat16 the sum would be off by more than a network learns."""
    start, generator = ColourStart(1), torch.Generator().manual_seed(3)
    source = torch.rand(2000, 3, generator=generator)
    target = 1 - (1 - source) ** 2 * torch.tensor([0.9, 0.5, 0.7])
    start.fit_pairs(0, source, target)
    image, stain = torch.rand(1, 3, 16, 16, generator=generator), torch.zeros(1, dtype=torch.long)
    plain = start(image, stain)
    with autocast("bfloat16"):
        mixed = start(image, stain)
    torch.testing.assert_close(mixed, plain, rtol=0, atol=0)


def test_fitted_to_constant_colours_it_stays_finite() -> None:
    start = ColourStart(1)
    start.fit_pairs(0, torch.full((50, 3), 0.5), torch.full((50, 3), 0.2))
    made = start(torch.full((1, 3, 2, 2), 0.5), torch.tensor([0]))
    torch.testing.assert_close(made, torch.full((1, 3, 2, 2), 0.2), atol=1e-3, rtol=0)


def test_fitted_to_unpaired_pixels_it_moves_mean_and_covariance() -> None:
    random = np.random.default_rng(1)
    source = random.multivariate_normal([0.5, 0.4, 0.6], 0.01 * np.diag([1.0, 2.0, 3.0]), 4000)
    mixing = random.normal(size=(3, 3)) / 10
    target = 0.3 + random.normal(size=(3000, 3)) @ mixing
    start = ColourStart(1)
    start.fit_unpaired(0, torch.tensor(source), torch.tensor(target))
    image = torch.tensor(source.T.reshape(1, 3, 40, 100), dtype=torch.float32)
    made = start(image, torch.tensor([0]))[0].flatten(1).double().numpy()
    np.testing.assert_allclose(made.mean(1), target.mean(0), atol=1e-4)
    np.testing.assert_allclose(np.cov(made), np.cov(target.T), atol=2e-4)
