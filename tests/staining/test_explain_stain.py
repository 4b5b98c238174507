from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from clinimm.core.errors import DataError
from clinimm.nn.tokens import Batch, Tokens
from clinimm.staining.explain_stain import explain_stain, mean_amount
from clinimm.staining.optical import DAB, Signal, stain_amount
from clinimm.staining.region_view import BLUR_UM, Region
from clinimm.staining.stain_deletion import delete

RESOLUTION_UM = 0.5
REGION = Region(40, 24, 16, 16)
_GROUND, _GAIN, _PRESENCE = 0.3, 0.4, 0.05


@dataclass
class DabToy:
    """Adds DAB where the source is dark, and a little for every fact: linear in both, or bent.

    Its amount of DAB at a pixel is ``ground + gain * mean darkness over 9 × 9 pixels + facts``.
    """

    bent: float = 1.0
    halo: int = 8
    stride: int = 8

    def colour(self, image: Tensor, record: Batch, origin: tuple[int, int]) -> Tensor:
        darkness = 1 - image.mean(dim=1, keepdim=True)
        amount = _GROUND + _GAIN * F.avg_pool2d(darkness, 9, 1, 4) ** self.bent
        for tokens in record.values():
            facts = (tokens.values * tokens.mask[..., None]).sum(dim=(1, 2)) + _PRESENCE * tokens.present
            amount = amount + facts[:, None, None, None]
        brown = torch.tensor(DAB) / torch.tensor(DAB).norm()
        return 10.0 ** -(amount * brown[None, :, None, None])

    def baseline(self, record: Batch) -> Batch:
        return {name: tokens.with_values(torch.zeros_like(tokens.values)) for name, tokens in record.items()}


def _source(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return gaussian_filter(generator.uniform(60, 240, (96, 96, 3)), (2, 2, 0)).astype(np.uint8)


def _record() -> Batch:
    values = torch.tensor([[[0.02, 0.01], [-0.01, 0.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    return {"ehr": Tokens(values, mask, torch.zeros(1, 3))}


def test_a_linear_stainer_gets_its_weights_back() -> None:
    source = _source()
    found = explain_stain(DabToy(), source, REGION, Signal.DAB, RESOLUTION_UM, _record(), steps=4)
    sigma = BLUR_UM / RESOLUTION_UM
    smooth = gaussian_filter(source.astype(np.float32), (sigma, sigma, 0), truncate=3)
    # Every pixel of the region reads 81 pixels; a source pixel's weight is how many of them read it.
    inside = np.zeros((96, 96), np.float32)
    inside[40:56, 24:40] = 1 / 256
    reads = F.avg_pool2d(torch.from_numpy(inside)[None, None], 9, 1, 4)[0, 0].numpy()
    expected = _GAIN * reads * ((smooth - source) / 255).mean(axis=2)
    np.testing.assert_allclose(found.pixels, expected, atol=2e-6)
    np.testing.assert_allclose(found.record["ehr"], [0.03, -0.01, 0.0], atol=1e-6)
    assert found.presence == pytest.approx(_PRESENCE, abs=1e-6)
    assert abs(found.residual) < 1e-5


def test_the_parts_sum_to_the_change_and_the_residual_is_printed() -> None:
    found = explain_stain(DabToy(bent=2.5), _source(), REGION, Signal.DAB, RESOLUTION_UM, _record())
    total = found.baseline_amount + found.from_pixels + found.from_record + found.residual
    assert total == pytest.approx(found.amount, abs=1e-9)
    assert abs(found.residual) <= 0.01 * max(abs(found.amount - found.baseline_amount), 1e-3)
    text = found.text()
    assert any(line.split() == ["residual", f"{found.residual:+.4f}"] for line in text.splitlines())
    assert "blurred by 8 µm" in text


def test_without_a_record_there_is_none_in_the_budget() -> None:
    empty = {"notes": Tokens(torch.ones(1, 2, 2), torch.zeros(1, 2, dtype=torch.bool), torch.zeros(1, 2))}
    for record in (None, {}, empty):
        found = explain_stain(DabToy(), _source(), REGION, Signal.DAB, RESOLUTION_UM, record, steps=2)
        assert found.record == {}
        assert found.from_record == 0


def test_pixels_out_of_reach_have_exactly_nothing() -> None:
    found = explain_stain(DabToy(), _source(), REGION, Signal.DAB, RESOLUTION_UM, steps=2)
    assert (found.pixels[:32] == 0).all()
    assert (found.pixels[:, 48:] == 0).all()


@pytest.mark.parametrize("signal", list(Signal))
def test_the_amount_is_the_one_that_is_measured_elsewhere(signal: Signal) -> None:
    rgb = _source(3)
    image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    found = mean_amount(image, signal, (slice(8, 40), slice(0, 96)))
    assert float(found) == pytest.approx(float(stain_amount(rgb, signal)[8:40].mean()), rel=1e-4)


def test_a_faithful_order_beats_random_ones_and_nearness() -> None:
    source = _source(1)
    source[:, 32:] = gaussian_filter(source[:, 32:], (9, 9, 0))  # little to say, though near
    toy, record = DabToy(halo=16), _record()
    found = explain_stain(toy, source, REGION, Signal.DAB, RESOLUTION_UM, record)
    checked = delete(toy, source, found, Signal.DAB, RESOLUTION_UM, record)
    assert checked.auc < checked.auc_random
    assert checked.auc < checked.auc_nearest
    assert delete(toy, source, found, Signal.DAB, RESOLUTION_UM, record) == checked


def test_a_region_outside_the_source_is_refused_by_name() -> None:
    for region in (Region(90, 0, 16, 16), Region(-1, 0, 4, 4), Region(0, 0, 0, 4)):
        with pytest.raises(DataError, match="outside the source"):
            explain_stain(DabToy(), _source(), region, Signal.DAB, RESOLUTION_UM)
    with pytest.raises(DataError, match="multiples of 8"):
        explain_stain(DabToy(), _source()[:90], Region(84, 0, 6, 6), Signal.DAB, RESOLUTION_UM)
