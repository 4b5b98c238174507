"""A slide in bands and tiles: together they are the slide, and the memory does not grow with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clinimm.core.errors import ConfigError, InputRejected
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.slide import Slide
from clinimm.modalities.pathology.stream import row_bands, stream_tiles
from clinimm.modalities.pathology.tile_grid import grid_of
from clinimm.modalities.pathology.view import View, at
from tests.modalities.pathology.made_slides import textured, write_pyramid, write_svs


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    return Slide(write_pyramid(tmp_path_factory.mktemp("stream") / "a.tif", textured(1000, 820)))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("um", [0.5, 0.77, 1.9])
def test_bands_together_are_the_slide(slide: Slide, um: float, threads: int) -> None:
    resolution = Resolution.of(um)
    view = View(slide, resolution)
    whole = view.read((0, 0, *view.size)).astype(int)
    bands = list(row_bands(slide, resolution, 100, threads=threads))
    assert [band.top for band in bands] == list(range(0, view.size[1], 100))
    joined = np.concatenate([band.pixels for band in bands]).astype(int)
    assert joined.shape == whole.shape and np.abs(joined - whole).max() <= (0 if view.is_stored else 1)


def test_columns_and_rows_may_be_cut_and_reach_outside(slide: Slide) -> None:
    bands = list(row_bands(slide, Resolution.of(0.5), 64, columns=(-10, 90), rows=(-20, 100)))
    joined = np.concatenate([band.pixels for band in bands])
    assert (bands[0].left, bands[0].top, joined.shape) == (-10, -20, (120, 100, 3))
    assert (joined[:20] == 255).all() and (joined[:, :10] == 255).all()
    assert np.array_equal(joined[20:, 10:], textured(1000, 820)[:100, :90])


def test_the_budget_sets_the_rows_and_refuses_what_it_cannot_hold(slide: Slide) -> None:
    bands = list(row_bands(slide, Resolution.of(0.5), budget_mib=2.0))
    row_bytes = 1000 * 3 * 2
    assert bands[0].pixels.shape[0] == 256 <= (2 << 20) // row_bytes
    assert sum(len(band.pixels) for band in bands) == 820
    with pytest.raises(ConfigError, match="take 5 MiB; the memory budget is 2 MiB"):
        next(row_bands(slide, Resolution.of(0.5), 820, budget_mib=2.0))
    with pytest.raises(ConfigError, match="Raise the budget"):
        next(row_bands(slide, Resolution.of(0.5), budget_mib=0.001))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [256, 100])
def test_tiles_come_in_order_with_their_place(slide: Slide, size: int, threads: int) -> None:
    grid = grid_of(at(slide, 0.5), size)
    pixels = textured(1000, 820)
    found = list(stream_tiles(grid, threads=threads))
    assert [box for box, _ in found] == [grid.box(*place) for place in grid.places()]
    for (left, top, right, bottom), tile in found:
        assert np.array_equal(tile, pixels[top:bottom, left:right])
    chosen = [(2, 1), (0, 0)]
    assert [box for box, _ in stream_tiles(grid, chosen, threads=threads)] == [
        grid.box(*one) for one in chosen
    ]


def test_a_damaged_tile_is_refused_in_threads_too(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", textured(960, 720), tile=240)
    content = bytearray(path.read_bytes())
    content[36_000:60_000] = bytes(24_000)
    path.write_bytes(content)
    with Slide(path) as slide, pytest.raises(InputRejected, match="cannot-read"):
        for _ in stream_tiles(grid_of(at(slide, 0.5), 240), threads=2):
            pass


_PEAK = """
import sys
from itertools import islice, cycle
from pathlib import Path
from clinimm.modalities.pathology.slide import Slide
from clinimm.modalities.pathology.stream import stream_tiles
from clinimm.modalities.pathology.tile_grid import grid_of
from clinimm.modalities.pathology.view import at

def peak_kib():  # of this program; ru_maxrss would count that of the one that started it
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])

with Slide(Path(sys.argv[1])) as slide:
    grid = grid_of(at(slide, 0.5), 64)
    peaks = []
    for count in (200, 6000):
        for box, tile in stream_tiles(grid, islice(cycle(grid.places()), count), threads=2):
            assert tile.shape == (64, 64, 3)
        peaks.append(peak_kib())
print((peaks[1] - peaks[0]) / 1024)
"""


def test_memory_does_not_grow_with_the_number_of_tiles(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", textured(1000, 820), tile=64)
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 8  # MiB; the tiles given between take 70
