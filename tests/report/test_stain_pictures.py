from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from clinimm.modalities.pathology.synthetic import is_synthetic
from clinimm.modalities.synthetic import Provenance, read_mark
from clinimm.report.stain_pictures import (
    coloured,
    error_picture,
    photograph,
    ramp,
    signed_picture,
    strip,
    virtual,
    with_refused,
)
from clinimm.staining.label_mark import shows_label

MADE = Provenance("KI67", "m" * 64, "s" * 64, "clinimm test")


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(120, 250, (256, 320, 3), dtype=np.uint8)


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_a_virtual_stain_says_so_in_its_pixels_and_in_its_file(rgb: np.ndarray, tmp_path) -> None:
    content = virtual(rgb, np.zeros(rgb.shape[:2], dtype=bool), "KI67", MADE)
    path = tmp_path / "stain.png"
    path.write_bytes(content)
    found = is_synthetic(path)
    assert found is not None
    assert (found.stain, found.model_digest, found.source_digest) == ("KI67", "m" * 64, "s" * 64)
    assert shows_label(np.asarray(opened(content))[:128, :256])


def test_a_virtual_stain_is_lossless_where_it_is_shown_and_hidden_where_it_is_refused(
    rgb: np.ndarray,
) -> None:
    refused = np.zeros(rgb.shape[:2], dtype=bool)
    refused[128:, 128:192] = True
    pixels = np.asarray(opened(virtual(rgb, refused, "KI67", MADE)))
    assert (pixels[128:, :128] == rgb[128:, :128]).all()
    hatched = pixels[128:, 128:192]
    assert set(np.unique(hatched)) == {120, 208}
    assert (hatched == hatched[..., :1]).all()


def test_refusing_changes_a_copy(rgb: np.ndarray) -> None:
    before = rgb.copy()
    with_refused(rgb, np.ones(rgb.shape[:2], dtype=bool))
    assert (rgb == before).all()


def test_expected_error_is_read_back_from_its_colours(rgb: np.ndarray) -> None:
    expected = np.linspace(0, 0.3, 256 * 320).reshape(256, 320)
    picture = opened(error_picture(expected, 0.2, MADE))
    seen = np.asarray(picture.convert("RGB"))
    step = {tuple(colour): place for place, colour in enumerate(ramp().tolist())}
    assert len(step) > 250  # neighbours may share a colour, then the next step is read
    back = np.array([step[tuple(colour)] for colour in seen.reshape(-1, 3).tolist()]) / 255 * 0.2
    assert np.abs(back.reshape(256, 320) - np.minimum(expected, 0.2)).max() <= 1.5 * 0.2 / 255 + 1e-9
    assert (coloured(expected, 0.2) == seen).all()
    assert read_mark(picture.text["Comment"], "") is not None


def test_the_colours_grow_lighter_evenly() -> None:
    """Okabe and Ito's rule for a scale: lightness alone must order it."""
    light = ramp() @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > -0.5).all()
    assert light[-1] - light[0] > 150


def test_shares_are_coloured_by_sign_and_clear_where_there_are_none() -> None:
    pixels = np.asarray(opened(signed_picture(np.array([[1.0, -1.0, 0.0]]), MADE)))[0]
    assert pixels[0, 0] > pixels[0, 2]
    assert pixels[1, 2] > pixels[1, 0]
    assert pixels[2, 3] == 0


def test_a_scan_that_was_generated_keeps_its_mark(rgb: np.ndarray) -> None:
    assert b"clinimm.synthetic" in photograph(rgb, MADE)
    assert b"clinimm.synthetic" not in photograph(rgb)


def test_a_strip_is_labelled_at_its_own_size(rgb: np.ndarray) -> None:
    row = strip([(rgb, None), (rgb, "KI67")], 224)
    assert row.shape == (224, 2 * 280 + 6, 3)
    assert shows_label(row[:128, 286:])
    assert not shows_label(row[:128, :256])
