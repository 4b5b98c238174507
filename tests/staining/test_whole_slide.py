"""A slide stained in blocks is the slide stained at once; glass is not run; a kill loses one band."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clinimm.core.errors import ConfigError
from clinimm.nn.tokens import Tokens
from clinimm.staining.codec import Codec
from clinimm.staining.label_mark import label
from clinimm.staining.refused import draw_refused
from clinimm.staining.run_block import folded
from clinimm.staining.whole_slide import (
    CELL_PIXELS,
    Patient,
    SlideSource,
    StainSettings,
    stain_slide,
)
from tests.staining.whole_slide_parts import (
    MemorySlide,
    TinyStainer,
    level_pixels,
    on_glass,
    reference,
    source_of,
    tissue,
)

LOSSLESS = StainSettings("KI67", block=256, codec=Codec("deflate"), all_tissue=True)


def without_label(pixels: np.ndarray) -> np.ndarray:
    mark = label("KI67", pixels.shape[1], pixels.shape[0])
    rest = pixels.copy()
    rest[: mark.shape[0], : mark.shape[1]] = 0
    return rest


@pytest.mark.parametrize("size", [(700, 900), (256, 512), (130, 41)])
def test_blocks_have_no_seams(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels, stainer = tissue(*size), TinyStainer()
    stained = stain_slide(source_of(pixels), stainer, LOSSLESS, tmp_path / "work")
    found, expected = level_pixels(stained), reference(stainer, pixels)
    assert found.shape == pixels.shape
    difference = np.abs(without_label(found).astype(int) - without_label(expected))
    assert difference.max() <= 1  # a rounding of 1e-7 may tip a value at .5
    assert (difference > 0).mean() < 1e-4


def test_tiled_colour_is_within_a_tenth_of_a_grey_level_of_the_level_pixels() -> None:
    from clinimm.staining.run_block import run_block
    from clinimm.staining.whole_slide import plan_for

    pixels, stainer = tissue(800, 700), TinyStainer()
    source = source_of(pixels)
    plan = plan_for(source.grid, stainer, 256)
    expected = np.empty((800, 700))
    halo = plan.halo
    wide = np.pad(pixels, ((halo, halo), (halo, halo), (0, 0)), mode="reflect")
    with torch.no_grad():
        once = stainer(torch.from_numpy(wide).permute(2, 0, 1)[None].float() / 255, torch.tensor([0]))
        expected = once.uncertainty[0, halo : halo + 800, halo : halo + 700].numpy()
    worst = 0.0
    for number in range(plan.bands):
        for block in plan.band(number):
            result = run_block(stainer, source.grid.read(plan.run(block)), block, plan, 0)
            part = expected[block.top : block.bottom, block.left : block.right]
            worst = max(worst, float(np.abs(result.uncertainty - part).max()))
    assert worst * 255 < 0.1  # the same network's output, before it is rounded to bytes


def test_a_halo_below_the_receptive_field_makes_seams(tmp_path: Path) -> None:
    pixels, stainer = tissue(512, 512), TinyStainer()
    expected = without_label(reference(stainer, pixels)).astype(int)
    stainer.halo = 4
    stained = stain_slide(source_of(pixels), stainer, LOSSLESS, tmp_path / "work")
    assert np.abs(without_label(level_pixels(stained)) - expected).max() > 1


def test_result_does_not_depend_on_the_size_of_blocks(tmp_path: Path) -> None:
    pixels, stainer = tissue(600, 800), TinyStainer()
    small = stain_slide(source_of(pixels), stainer, LOSSLESS, tmp_path / "small")
    large = StainSettings("KI67", block=512, codec=Codec("deflate"), all_tissue=True)
    other = stain_slide(source_of(pixels), stainer, large, tmp_path / "large")
    assert np.abs(level_pixels(small).astype(int) - level_pixels(other)).max() <= 1


def test_glass_is_not_run_and_stays_white(tmp_path: Path) -> None:
    stainer = TinyStainer()
    pixels = on_glass(1024, 1024, (600, 600, 700, 700))
    settings = StainSettings("KI67", block=256, codec=Codec("deflate"))
    stained = stain_slide(source_of(pixels), stainer, settings, tmp_path / "work")
    assert 0 < stainer.calls < 9
    result = without_label(level_pixels(stained))
    assert (result[800:, 900:] == 255).all()
    run = ~np.isnan(stained.uncertainty)
    assert run[600 // CELL_PIXELS : 700 // CELL_PIXELS, 600 // CELL_PIXELS : 700 // CELL_PIXELS].all()
    assert stained.glass_share == pytest.approx(1 - run.mean())
    assert stained.glass_share + stained.stained_share + stained.refused_share == pytest.approx(1)


def test_refused_tiles_are_hatched_and_counted(tmp_path: Path) -> None:
    seen = []

    def refuse(source: np.ndarray, colour: np.ndarray, *rest: np.ndarray) -> tuple[str, ...]:
        uncertainty, features, place = rest
        seen.append((source.shape, colour.dtype, uncertainty.shape, features.shape))
        assert (source == pixels[place.top : place.bottom, place.left : place.right]).all()
        return ("outside", "pen") if (source == marked).all() else ()

    pixels = tissue(512, 768)
    pixels[256:, 512:] = marked = np.array([10, 200, 30], np.uint8)
    stained = stain_slide(
        source_of(pixels), TinyStainer(), LOSSLESS, tmp_path / "work", Patient(refuse=refuse)
    )
    assert set(seen) == {((256, 256, 3), np.dtype(np.uint8), (256, 256), (8,))}
    expected = np.empty((256, 256, 3), np.uint8)
    draw_refused(expected, np.ones((256, 256), bool), 256, 512)
    assert (level_pixels(stained)[256:, 512:] == expected).all()
    assert np.ptp(expected, axis=2).max() == 0  # grey is no colour of tissue
    assert stained.refused_share == pytest.approx(1 / 6)
    assert stained.refused_of_tissue == pytest.approx(1 / 6)
    assert stained.refused_tiles == {"outside": 1, "pen": 1}


def test_features_of_a_tile_are_its_own(tmp_path: Path) -> None:
    found: list[np.ndarray] = []

    def refuse(*parts: np.ndarray) -> tuple[str, ...]:
        found.append(parts[3])
        return ()

    pixels = tissue(256, 512)
    pixels[:, 256:] = 90
    settings = StainSettings("KI67", block=512, all_tissue=True)
    stain_slide(source_of(pixels), TinyStainer(), settings, tmp_path / "work", Patient(refuse=refuse))
    assert np.abs(found[0] - found[1]).max() > 0.01


class _KillError(Exception):
    pass


def _killed_after(bands: int) -> type[TinyStainer]:
    class Killed(TinyStainer):
        def forward(self, *given: object, **named: object) -> object:  # type: ignore[override]
            if self.calls == 2 * bands:
                raise _KillError
            return super().forward(*given, **named)  # type: ignore[arg-type]

    return Killed


def test_interrupted_slide_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pixels = tissue(1024, 512)
    with pytest.raises(_KillError):
        stain_slide(source_of(pixels), _killed_after(3)(), LOSSLESS, tmp_path / "work")
    again = TinyStainer()
    stained = stain_slide(source_of(pixels), again, LOSSLESS, tmp_path / "work")
    assert again.calls == 2  # one band of four, two blocks wide
    once = stain_slide(source_of(pixels), TinyStainer(), LOSSLESS, tmp_path / "once")
    assert [stained.pyramid.digest(one) for one in stained.pyramid.levels] == [
        once.pyramid.digest(one) for one in once.pyramid.levels
    ]


def test_unfinished_work_of_another_slide_model_or_setting_is_refused(tmp_path: Path) -> None:
    pixels, folder = tissue(256, 256), tmp_path / "work"
    stain_slide(source_of(pixels), TinyStainer(), LOSSLESS, folder)
    other = source_of(pixels)
    with pytest.raises(ConfigError, match=r"another slide.*--restart"):
        stain_slide(SlideSource(other.slide, other.grid, "6" * 64), TinyStainer(), LOSSLESS, folder)
    with pytest.raises(ConfigError, match="another model"):
        stain_slide(other, TinyStainer(digest="b" * 64), LOSSLESS, folder)
    with pytest.raises(ConfigError, match="another settings"):
        stain_slide(other, TinyStainer(), StainSettings("CD3", block=256), folder)
    tokens = Tokens(torch.ones(1, 1, 4), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1))
    with pytest.raises(ConfigError, match="another context"):
        stain_slide(other, TinyStainer(), LOSSLESS, folder, Patient(context=(tokens,)))


def test_unknown_stain_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"HER2.*KI67, CD3"):
        stain_slide(source_of(tissue(64, 64)), TinyStainer(), StainSettings("HER2"), tmp_path / "work")


def test_folded_network_gives_the_same_result() -> None:
    stainer = TinyStainer()
    ready = folded(stainer)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in ready.modules())
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        one, other = (net(image, torch.tensor([1])) for net in (stainer, ready))
    assert torch.allclose(one.colour, other.colour, atol=1e-5)
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in stainer.modules())


def test_no_more_than_one_block_is_read_at_once(tmp_path: Path) -> None:
    source, stainer = source_of(tissue(1100, 1300)), TinyStainer()
    stain_slide(source, stainer, LOSSLESS, tmp_path / "work")
    assert isinstance(source.slide, MemorySlide)
    assert source.slide.most_read <= (256 + 2 * stainer.halo) ** 2
