from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from clinimm.nn.tokens import Tokens
from clinimm.staining.explain_stain import explain_stain, mean_amount
from clinimm.staining.optical import Signal, stain_amount
from clinimm.staining.region_view import BLUR_UM
from tests.staining.explain_toy import GAIN, PRESENCE, REGION, RESOLUTION_UM, DabToy, draw_record, draw_source


def test_a_linear_stainer_gets_its_weights_back() -> None:
    source = draw_source()
    found = explain_stain(DabToy(), source, REGION, Signal.DAB, RESOLUTION_UM, draw_record(), steps=4)
    sigma = BLUR_UM / RESOLUTION_UM
    smooth = gaussian_filter(source.astype(np.float32), (sigma, sigma, 0), truncate=3)
    # Every pixel of the region reads 81 pixels; a source pixel's weight is how many of them read it.
    inside = np.zeros((96, 96), np.float32)
    inside[40:56, 24:40] = 1 / 256
    reads = F.avg_pool2d(torch.from_numpy(inside)[None, None], 9, 1, 4)[0, 0].numpy()
    expected = GAIN * reads * ((smooth - source) / 255).mean(axis=2)
    np.testing.assert_allclose(found.pixels, expected, atol=2e-6)
    np.testing.assert_allclose(found.record["ehr"], [0.03, -0.01, 0.0], atol=1e-6)
    assert found.presence == pytest.approx(PRESENCE, abs=1e-6)
    assert abs(found.residual) < 1e-5


def test_the_parts_sum_to_the_change_and_the_residual_is_printed() -> None:
    found = explain_stain(DabToy(bent=2.5), draw_source(), REGION, Signal.DAB, RESOLUTION_UM, draw_record())
    total = found.baseline_amount + found.from_pixels + found.from_record + found.residual
    assert total == pytest.approx(found.amount, abs=1e-9)
    assert abs(found.residual) <= 0.01 * max(abs(found.amount - found.baseline_amount), 1e-3)
    text = found.text()
    assert any(line.split() == ["residual", f"{found.residual:+.4f}"] for line in text.splitlines())
    assert "blurred by 8 µm" in text


def test_without_a_record_there_is_none_in_the_budget() -> None:
    empty = {"notes": Tokens(torch.ones(1, 2, 2), torch.zeros(1, 2, dtype=torch.bool), torch.zeros(1, 2))}
    for record in (None, {}, empty):
        found = explain_stain(DabToy(), draw_source(), REGION, Signal.DAB, RESOLUTION_UM, record, steps=2)
        assert found.record == {}
        assert found.from_record == 0


def test_pixels_out_of_reach_have_exactly_nothing() -> None:
    found = explain_stain(DabToy(), draw_source(), REGION, Signal.DAB, RESOLUTION_UM, steps=2)
    assert (found.pixels[:32] == 0).all()
    assert (found.pixels[:, 48:] == 0).all()


@pytest.mark.parametrize("signal", list(Signal))
def test_the_amount_is_the_one_that_is_measured_elsewhere(signal: Signal) -> None:
    rgb = draw_source(3)
    image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    found = mean_amount(image, signal, (slice(8, 40), slice(0, 96)))
    assert float(found) == pytest.approx(float(stain_amount(rgb, signal)[8:40].mean()), rel=1e-4)
