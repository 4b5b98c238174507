"""A tiny network of the house's kind and slides in memory, for the tests of whole slides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from clinimm.modalities.pathology.resolution import Resolution
from clinimm.staining.plan import Block
from clinimm.staining.provenance import Origin
from clinimm.staining.slide_grid import SlideGrid
from clinimm.staining.whole_slide import (
    NOBODY,
    Patient,
    SlideSource,
    StainedSlide,
    StainSettings,
    stain_slide,
)

UM = 0.5


@dataclass(frozen=True)
class Result:
    colour: Tensor
    uncertainty: Tensor
    feature_map: Tensor


class TinyStainer(nn.Module):
    """Two resolutions, batch normalisation, zero padding: the same kinds of edge as a U-Net has."""

    stride = 4
    halo = 20

    def __init__(self, seed: int = 0, digest: str = "a" * 64) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.spec = SimpleNamespace(stains=("KI67", "CD3"), resolution_um=UM)
        self.digest = digest
        self.calls = 0
        self.fine = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(8, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU())
        self.out = nn.Conv2d(8, 4, 3, padding=1)
        for norm in (self.fine[1], self.coarse[1]):
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None and norm.running_var is not None
            nn.init.uniform_(norm.running_mean, -0.2, 0.2)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
        self.eval()

    def forward(
        self, image: Tensor, stain: Tensor, context: object = None, origin: Tensor | None = None
    ) -> Result:
        self.calls += 1
        fine = self.fine(image)
        coarse = self.coarse(nn.functional.max_pool2d(fine, 4))
        out = self.out(fine + nn.functional.interpolate(coarse, scale_factor=4)).sigmoid()
        shift = 0.1 * stain.float()[:, None, None, None]
        return Result((out[:, :3] - shift).clamp(0, 1), out[:, 3], coarse)


class MemorySlide:
    """A slide in memory, seen at its own resolution, that notes how much is read of it at once."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self.size = (pixels.shape[1], pixels.shape[0])
        self.resolution = Resolution.of(UM)
        self.most_read = 0

    def read(self, box: tuple[int, int, int, int]) -> np.ndarray:
        left, top, right, bottom = box
        assert 0 <= left < right <= self.size[0] and 0 <= top < bottom <= self.size[1]
        self.most_read = max(self.most_read, (right - left) * (bottom - top))
        return self.pixels[top:bottom, left:right]

    def thumbnail(self, longest: int) -> np.ndarray:
        step = -(-max(self.size) // longest)
        return self.pixels[::step, ::step]


def tissue(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Pink and violet noise with some structure."""
    generator = np.random.default_rng(seed)
    coarse = generator.random((-(-rows // 8), -(-columns // 8), 1)).repeat(8, 0).repeat(8, 1)[:rows, :columns]
    colour = np.array([200, 120, 170]) * (0.6 + 0.4 * coarse)
    return np.clip(colour + generator.normal(0, 12, (rows, columns, 3)), 0, 255).astype(np.uint8)


def on_glass(rows: int, columns: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """White with tissue in ``(left, top, right, bottom)``."""
    pixels = np.full((rows, columns, 3), 255, np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = tissue(bottom - top, right - left)
    return pixels


def source_of(pixels: np.ndarray) -> SlideSource:
    slide = MemorySlide(pixels)
    return SlideSource(slide, SlideGrid(slide), "5" * 64)


def reference(stainer: TinyStainer, pixels: np.ndarray, stain: int = 0) -> np.ndarray:
    """The whole slide in one call: mirrored by numpy, run once, cut. Uint8 colours."""
    rows, columns = pixels.shape[:2]
    halo = stainer.halo
    after = [halo + -size % stainer.stride for size in (rows, columns)]
    wide = np.pad(pixels, ((halo, after[0]), (halo, after[1]), (0, 0)), mode="reflect")
    with torch.no_grad():
        image = torch.from_numpy(wide).permute(2, 0, 1)[None].float() / 255
        out = stainer(image, torch.tensor([stain])).colour[0, :, halo : halo + rows, halo : halo + columns]
    return np.round(out.permute(1, 2, 0).numpy().astype(np.float64) * 255).astype(np.uint8)


def stain(
    folder: Path, pixels: np.ndarray, settings: StainSettings, patient: Patient = NOBODY
) -> StainedSlide:
    """A stained slide made by the tiny network."""
    return stain_slide(source_of(pixels), TinyStainer(), settings, folder / "work", patient)


def level_pixels(stained: StainedSlide, number: int = 0) -> np.ndarray:
    """All pixels of a level, as a viewer would show them."""
    level = stained.pyramid.levels[number]
    rows = [
        np.concatenate([stained.pyramid.tile(level, row, one) for one in range(level.tile_columns)], axis=1)
        for row in range(level.tile_rows)
    ]
    return np.concatenate(rows)


ORIGIN = Origin("5" * 64, "a" * 64, False, {}, datetime(2026, 3, 1, 12, 0, tzinfo=UTC))


def hatch_corner(
    source: np.ndarray, colour: np.ndarray, uncertainty: np.ndarray, features: np.ndarray, place: Block
) -> tuple[str, ...]:
    """Refuses one tile."""
    return ("hallucination", "fold") if (place.top, place.left) == (512, 512) else ()
