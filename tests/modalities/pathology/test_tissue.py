"""What counts as tissue: on synthetic colours, on fixtures, and against a brute-force Otsu."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clinimm.modalities.pathology.tissue import NEAR_BLACK, NEAR_WHITE, otsu, pen_mask, tissue_mask

_COLOURS = {
    "eosin": ((225, 140, 180), True),
    "haematoxylin": ((90, 60, 140), True),
    "DAB": ((130, 85, 50), True),
    "glass": ((244, 244, 243), False),
    "grey shade": ((180, 181, 182), False),
    "black pen": ((20, 18, 22), False),
    "green pen": ((20, 120, 90), False),
    "red pen": ((210, 20, 30), False),
    "blue pen": ((20, 60, 200), False),
}


@pytest.mark.parametrize("name", _COLOURS)
def test_colours(name: str) -> None:
    colour, expected = _COLOURS[name]
    picture = np.full((40, 40, 3), 245, np.uint8)
    picture[10:30, 10:30] = colour
    mask = tissue_mask(picture)
    assert mask[10:30, 10:30].all() == expected == mask[10:30, 10:30].any()
    assert not mask[:10].any()


def test_a_slide_full_of_tissue_is_not_split() -> None:
    rng = np.random.default_rng(0)
    picture = np.clip(rng.normal((215, 120, 170), 12, (100, 100, 3)), 0, 255).astype(np.uint8)
    assert tissue_mask(picture).mean() > 0.95


@settings(max_examples=30, deadline=None)
@given(low=st.floats(0.02, 0.3), gap=st.floats(0.2, 0.6), share=st.floats(0.2, 0.8), seed=st.integers(0, 99))
def test_otsu_equals_brute_force(low: float, gap: float, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.normal(low, 0.02, int(2000 * share))
    second = rng.normal(low + gap, 0.02, 2000 - int(2000 * share))
    values = np.clip(np.concatenate([first, second]), 0, 1)

    def within(threshold: float) -> float:
        parts = (values[values < threshold], values[values >= threshold])
        return sum(part.size * part.var() for part in parts if part.size)

    best = min(within(threshold) for threshold in np.linspace(0.01, 0.99, 99))
    assert within(otsu(values)) <= best * 1.02 + 1e-6


@given(seed=st.integers(0, 999), spread=st.integers(1, 255), base=st.integers(0, 255))
def test_the_tabulated_mask_is_the_formula_pixel_by_pixel(seed: int, spread: int, base: int) -> None:
    rng = np.random.default_rng(seed)
    rgb = np.clip(base + rng.integers(-spread, spread + 1, (12, 9, 3)), 0, 255).astype(np.uint8)
    pixels = rgb.astype(int)
    brightest, darkest = pixels.max(-1), pixels.min(-1)
    saturation = (brightest - darkest) / np.maximum(brightest, 1)
    threshold = np.clip(otsu(saturation), 0.05, 0.20)
    expected = (saturation > threshold) & (darkest < NEAR_WHITE) & (brightest > NEAR_BLACK)
    np.testing.assert_array_equal(tissue_mask(rgb), expected & ~pen_mask(rgb))


def test_fixtures(test_data: Path) -> None:
    def share(name: str) -> float:
        picture = Image.open(test_data / "slides" / "tiles" / name).convert("RGB")
        return float(tissue_mask(np.asarray(picture)).mean())

    for name in ("almost-white-1.png", "no-tissue.png", "no-tissue-line.png", "no-tissue-green-pen.png"):
        assert share(name) < 0.03, name
    for name in ("high-nuclei-score-level0.png", "very-low-nuclei-score-level0.png", "tcga-green-pen.png"):
        assert share(name) > 0.6, name
