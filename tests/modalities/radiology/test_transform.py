"""Boxes come back to where they were, and resampling equals another implementation's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinimm.modalities.radiology.pixels import Image
from clinimm.modalities.radiology.transform import fit_mapping, to_model_input

_SIDES = st.integers(1, 6000)


def _image(values: np.ndarray) -> Image:
    return Image(values.astype(np.float32)[np.newaxis], None, "MONOCHROME2", (0,), 1)


@given(
    width=_SIDES, height=_SIDES, size=st.integers(8, 512), fit=st.sampled_from(["pad", "stretch"]),
    corners=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)  # fmt: skip
def test_boxes_come_back(width: int, height: int, size: int, fit: str, corners: list[float]) -> None:
    mapping = fit_mapping(width, height, size, fit)
    left, right = sorted(corners[:2])
    top, bottom = sorted(corners[2:])
    box = (left * width, top * height, right * width, bottom * height)
    there = mapping.to_model(box)
    assert all(-1e-6 <= edge <= size + 1e-6 for edge in there)
    assert mapping.to_original(there) == pytest.approx(box, abs=1e-6 * max(width, height, 1))
    whole = mapping.to_original((0.0, 0.0, float(size), float(size)))
    assert whole == pytest.approx((0, 0, width, height))


@given(width=_SIDES, height=_SIDES, size=st.integers(32, 512))
def test_padding_keeps_the_aspect_ratio_to_half_a_pixel(width: int, height: int, size: int) -> None:
    mapping = fit_mapping(width, height, size, "pad")
    scale = size / max(width, height)
    assert abs(mapping.right - mapping.left - max(1, width * scale)) <= 0.5 + 1e-9
    assert abs(mapping.bottom - mapping.top - max(1, height * scale)) <= 0.5 + 1e-9
    assert size in (mapping.right - mapping.left, mapping.bottom - mapping.top)
    assert 0 <= (size - mapping.right) - mapping.left <= 1
    assert 0 <= (size - mapping.bottom) - mapping.top <= 1


def test_a_planted_lesion_is_found_at_its_mapped_box() -> None:
    values = np.zeros((400, 1000, 1))
    values[100:140, 700:760] = 1
    pixels, mapping = to_model_input(_image(values), 224)
    left, top, right, bottom = mapping.to_model((700, 100, 760, 140))
    inside = pixels[0, round(top) : round(bottom), round(left) : round(right)]
    assert inside.mean() > 0.9
    assert pixels[0].sum() == pytest.approx((right - left) * (bottom - top), rel=0.05)


@pytest.mark.parametrize("shape", [(448, 448), (500, 333), (333, 500), (2000, 1500)])
def test_downsampling_equals_torch_antialiased(shape: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).random((*shape, 1)).astype(np.float32)
    ours, mapping = to_model_input(_image(values), 224)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values[None, :, :, 0])[None],
        size=(mapping.bottom - mapping.top, mapping.right - mapping.left),
        mode="bilinear", antialias=True, align_corners=False,
    )[0, 0].numpy()  # fmt: skip
    placed = ours[0, mapping.top : mapping.bottom, mapping.left : mapping.right]
    assert placed == pytest.approx(expected, abs=2e-3)


def test_fine_stripes_become_grey_not_moire() -> None:
    stripes = np.tile(np.array([0.0, 1.0]), (896, 448))[..., None]
    pixels, _ = to_model_input(_image(stripes), 224)
    assert pixels[:, :, 4:-4].min() > 0.4 and pixels[:, :, 4:-4].max() < 0.6


def test_grey_fills_three_channels_and_padding_is_black() -> None:
    pixels, mapping = to_model_input(_image(np.ones((10, 20, 1))), 64)
    assert pixels.shape == (3, 64, 64) and pixels.dtype == np.float32
    assert (pixels[0] == pixels[2]).all()
    assert pixels[:, : mapping.top].max() == 0 and pixels[:, mapping.top : mapping.bottom].min() == 1


def test_colour_keeps_its_channels() -> None:
    values = np.zeros((10, 10, 3))
    values[..., 1] = 0.5
    pixels, _ = to_model_input(_image(values), 32)
    assert pixels.mean(axis=(1, 2)) == pytest.approx([0, 0.5, 0])


def test_the_frame_can_be_named() -> None:
    frames = np.stack([np.full((4, 4, 1), value / 2) for value in range(3)]).astype(np.float32)
    image = Image(frames, None, "MONOCHROME2", (0, 1, 2), 3)
    assert to_model_input(image, 8)[0].max() == 0.5
    assert to_model_input(image, 8, frame=2)[0].max() == 1.0


def test_an_unknown_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="pad"):
        fit_mapping(10, 10, 8, "crop")
