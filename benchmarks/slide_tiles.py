"""Tiles a second from whole slides, beside other readers and the bare decoder, in one run.

    .venv/bin/python benchmarks/slide_tiles.py [--data FOLDER] [--side 12288] [--tiles 120] [--repeat 3]

Slides: the licensed samples where they are (an Aperio JPEG with tiles of 240, an Aperio JPEG 2000), and
one made picture of tissue-like texture, ``--side`` pixels square, as SVS, OME-TIFF and DICOM with JPEG
tiles of 256. Two questions each: tiles on the file's own grid, and tiles of 256 side by side from an
odd corner, which lie across it. Readers: this project's ``stream_tiles`` and ``Slide.read_region``,
OpenSlide, tifffile + zarr, wsidicom, fastslide; whatever is not installed or does not open the file is
left out and named. ``raw`` reads each tile's bytes and calls the JPEG or JPEG 2000 decoder: nobody who
uses that decoder gets below.

The readers take turns, ``--repeat`` rounds; each round visits other tiles and opens the file anew, so that
no cache answers. The best round of each counts, for a busy machine only ever adds. One thread is measured
in processor seconds, which other work disturbs least; two threads need the clock, so their column is worth
as much as the machine was idle (the load is printed). Memory is the peak of a process of its own that
streams 1,000, and one that streams 50,000 tiles.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from clinimm.modalities.pathology.dicom_slide import open_dicom
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.slide import Slide, open_slide
from clinimm.modalities.pathology.stream import stream_tiles
from clinimm.modalities.pathology.tile_grid import TileGrid, grid_of
from clinimm.modalities.pathology.view import View

Corner = tuple[int, int]
Read = Callable[[Corner, int], object]

_TILE = 256
_ODD = 101  # a corner that shares no edge with tiles of 240 or 256
_OURS = "clinimm stream_tiles"


@dataclass(frozen=True)
class Case:
    """One slide file and how its finest level is tiled."""

    name: str
    path: Path
    width: int
    height: int
    stored: int


# Made slides


def texture(side: int) -> np.ndarray:
    """Tissue-like texture, (side, side, 3) uint8: one patch of nuclei, fibres and grain, repeated."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    patch = 1536
    colour = np.stack(
        [gaussian_filter(rng.random((patch, patch)), 24, mode="wrap") for _ in range(3)], axis=-1
    )
    colour = (colour - colour.mean()) / colour.std() * 14 + np.array([214, 160, 200])
    fibres = gaussian_filter(rng.random((patch, patch)), (1, 9), mode="wrap") - 0.5
    nuclei = gaussian_filter((rng.random((patch, patch)) > 0.9985).astype(float), 4.5, mode="wrap")
    nuclei = np.clip(nuclei / nuclei.max() * 2.2, 0, 1)[..., None]
    image = (
        colour
        + fibres[..., None] * 130
        + gaussian_filter(rng.normal(0, 1, (patch, patch, 3)), (0.8, 0.8, 0)) * 14
    )
    image = image * (1 - nuclei) + np.array([90, 60, 130]) * nuclei
    image = np.clip(image, 0, 255).astype(np.uint8)
    return np.tile(image, (-(-side // patch), -(-side // patch), 1))[:side, :side]


def halved(pixels: np.ndarray) -> np.ndarray:
    rows, columns = pixels.shape[0] // 2, pixels.shape[1] // 2
    blocks = pixels[: rows * 2, : columns * 2].reshape(rows, 2, columns, 2, 3)
    return ((blocks[:, 0, :, 0].astype(np.uint16) + blocks[:, 1, :, 1] + 1) // 2).astype(np.uint8)


def pyramid(pixels: np.ndarray) -> list[np.ndarray]:
    levels = [pixels]
    while min(levels[-1].shape[:2]) > 2 * _TILE:
        levels.append(halved(levels[-1]))
    return levels


def made_slides(folder: Path, side: int) -> list[Case]:
    levels = pyramid(texture(side))
    jpeg: dict[str, Any] = {"tile": (_TILE, _TILE), "photometric": "ycbcr", "compression": "jpeg"}
    jpeg |= {"compressionargs": {"level": 85}, "metadata": None}
    with tifffile.TiffWriter(folder / "made.svs", bigtiff=True) as writer:
        for level in levels:
            text = f"Aperio Image Library v12\r\n{side}x{side}|AppMag = 20|MPP = 0.5"
            writer.write(level, description=text, software=False, **jpeg)
    with tifffile.TiffWriter(folder / "made.ome.tif", ome=True, bigtiff=True) as writer:
        size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        writer.write(levels[0], subifds=len(levels) - 1, **(jpeg | {"metadata": {"axes": "YXS", **size}}))
        for level in levels[1:]:
            writer.write(level, subfiletype=1, **jpeg)
    write_dicom(folder / "dicom", folder / "made.svs", len(levels))
    names = ("made.svs", "made.ome.tif", "dicom")
    labels = ("made SVS", "made OME-TIFF", "made DICOM")
    return [Case(label, folder / name, side, side, _TILE) for label, name in zip(labels, names, strict=True)]


def write_dicom(folder: Path, source: Path, levels: int) -> None:
    """The same JPEG tiles, byte for byte, as VL Whole Slide Microscopy."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, JPEGBaseline8Bit, generate_uid

    folder.mkdir()
    with tifffile.TiffFile(source) as file:
        for level in range(levels):
            page = file.pages[level]
            assert isinstance(page, tifffile.TiffPage)
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.77.1.6")
            meta.MediaStorageSOPInstanceUID = generate_uid()
            meta.TransferSyntaxUID = JPEGBaseline8Bit
            path = folder / f"{level}.dcm"
            data: Dataset = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
            data.SOPClassUID, data.SOPInstanceUID = (
                meta.MediaStorageSOPClassUID,
                meta.MediaStorageSOPInstanceUID,
            )
            data.ImageType = ["ORIGINAL" if level == 0 else "DERIVED", "PRIMARY", "VOLUME", "NONE"]
            data.Modality, data.StudyInstanceUID, data.SeriesInstanceUID = "SM", "1.2.3.1", "1.2.3.2"
            data.FrameOfReferenceUID, data.PatientID, data.PatientName = "1.2.3.3", "MRN1", ""
            data.Rows = data.Columns = _TILE
            data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = page.shape[:2]
            data.NumberOfFrames, data.DimensionOrganizationType = len(page.dataoffsets), "TILED_FULL"
            data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = (
                3,
                "YBR_FULL_422",
                0,
            )
            data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
            data.NumberOfOpticalPaths = data.TotalPixelMatrixFocalPlanes = 1
            data.ImagedVolumeWidth = data.ImagedVolumeHeight = page.shape[0] * 2**level * 0.0005
            measures, shared = Dataset(), Dataset()
            measures.PixelSpacing, measures.SliceThickness = [0.0005 * 2**level] * 2, 0.004
            shared.PixelMeasuresSequence = [measures]
            data.SharedFunctionalGroupsSequence = [shared]
            pieces = zip(page.dataoffsets, page.databytecounts, strict=True)
            data.PixelData = encapsulate([_read(source, *piece) for piece in pieces])
            data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
            data.save_as(path, enforce_file_format=True)


def _read(path: Path, offset: int, count: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(count)


def sample_slides(data: Path) -> list[Case]:
    found = []
    for label, name in (
        ("sample SVS, JPEG", "CMU-1-Small-Region.svs"),
        ("sample SVS, JPEG 2000", "TCGA-CR-7395-01A-01-TS1.svs"),
    ):
        path = data / "slides" / name
        if path.is_file():
            with Slide(path) as slide:
                stored = slide.info.levels[0].tile_width
                found.append(Case(label, path, *slide.dimensions, stored))
    return found


# Readers: each opens a case and gives a function that reads a square


def ours(case: Case, stack: ExitStack) -> Read:
    slide = stack.enter_context(open_slide(case.path, Resolution.of(0.5)))
    return lambda corner, size: slide.read_region(0, (*corner, corner[0] + size, corner[1] + size))


def with_openslide(case: Case, stack: ExitStack) -> Read:
    import openslide

    path = case.path if case.path.is_file() else next(case.path.glob("0.dcm"))
    slide = stack.enter_context(openslide.OpenSlide(path))
    return lambda corner, size: np.asarray(slide.read_region(corner, 0, (size, size)).convert("RGB"))


def with_zarr(case: Case, stack: ExitStack) -> Read:
    import zarr

    if case.path.is_dir():
        raise ValueError("no TIFF")
    store = stack.enter_context(tifffile.imread(case.path, aszarr=True, level=0))
    array: Any = zarr.open(store, mode="r")
    return lambda corner, size: np.asarray(array[corner[1] : corner[1] + size, corner[0] : corner[0] + size])


def with_wsidicom(case: Case, stack: ExitStack) -> Read:
    from wsidicom import WsiDicom

    if case.path.is_file():
        raise ValueError("no DICOM")
    slide = stack.enter_context(WsiDicom.open(case.path))
    return lambda corner, size: slide.read_region(corner, 0, (size, size), as_array=True)


def with_fastslide(case: Case, stack: ExitStack) -> Read:
    import fastslide

    path = case.path if case.path.is_file() else next(case.path.glob("0.dcm"))
    slide = fastslide.FastSlide.from_file_path(path, cache=32 << 20)
    stack.callback(slide.close)
    return lambda corner, size: slide.read_region(corner, 0, (size, size)).numpy()


PEERS: dict[str, Callable[[Case, ExitStack], Read]] = {
    "clinimm read_region": ours,
    "openslide": with_openslide,
    "tifffile + zarr": with_zarr,
    "wsidicom": with_wsidicom,
    "fastslide": with_fastslide,
}


def raw(case: Case, stack: ExitStack) -> Read:
    """Bytes of a tile on the native grid, and the decoder; nothing else."""
    if case.path.is_dir():
        slide = open_dicom(case.path, 0)
        stack.callback(slide.close)
        frames = slide._sources[0].parts[0].frames  # type: ignore[attr-defined]  # the bare bytes
        offsets, counts = frames.starts, frames.stops - frames.starts
        source, tables, colours = case.path / "0.dcm", None, None
        compression = 7
    else:
        with tifffile.TiffFile(case.path) as file:
            page = file.pages.first
            offsets, counts = np.array(page.dataoffsets), np.array(page.databytecounts)
            tables, compression = page.jpegtables, int(page.compression)
            colours = "rgb" if page.photometric == 2 else "ycbcr"
        source = case.path
    handle = os.open(source, os.O_RDONLY)
    stack.callback(os.close, handle)
    columns = -(-case.width // case.stored)

    def read(corner: Corner, size: int) -> object:
        index = corner[1] // case.stored * columns + corner[0] // case.stored
        data = os.pread(handle, int(counts[index]), int(offsets[index]))
        if compression != 7:
            return imagecodecs.jpeg2k_decode(data)
        return imagecodecs.jpeg8_decode(data, tables=tables, colorspace=colours, outcolorspace="rgb")

    return read


# Measurement


@dataclass(frozen=True)
class Walk:
    """Tiles that one round visits: rows of neighbours, as an encoder or a viewer asks for them."""

    corners: tuple[Corner, ...]
    size: int


def walks(case: Case, native: bool, tiles: int, rounds: int) -> list[Walk]:
    size, start = (case.stored, 0) if native else (_TILE, _ODD)
    columns = (case.width - start) // size
    rows = (case.height - start) // size
    every = [(start + column * size, start + row * size) for row in range(rows) for column in range(columns)]
    first = [index * len(every) // rounds // columns * columns for index in range(rounds)]
    return [Walk(tuple(islice(cycle(every), at, at + min(tiles, len(every)))), size) for at in first]


def seconds(read: Read, walk: Walk, pool: ThreadPoolExecutor | None) -> float:
    """Processor seconds of one thread; wall seconds of a pool."""
    if pool is None:
        start = time.process_time()
        for corner in walk.corners:
            read(corner, walk.size)
        return time.process_time() - start
    start = time.perf_counter()
    for _ in pool.map(lambda corner: read(corner, walk.size), walk.corners):
        pass
    return time.perf_counter() - start


def streamed(slide: Slide, walk: Walk, threads: int) -> float:
    """The same tiles by ``stream_tiles``; the grid starts where the walk does."""
    view = View(slide, slide.resolution)
    grid = TileGrid(
        view, walk.size, walk.corners[0][0] % walk.size, walk.corners[0][1] % walk.size, 0, 0, True
    )
    places = [((x - grid.left) // walk.size, (y - grid.top) // walk.size) for x, y in walk.corners]
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    for _ in stream_tiles(grid, places, threads=threads):
        pass
    return clock() - start


def measured(case: Case, native: bool, threads: int, tiles: int, rounds: int) -> dict[str, float]:
    """Best tiles a second of each reader; the readers take turns, and open the file anew each time."""
    best: dict[str, float] = {}
    readers: dict[str, Callable[[Case, ExitStack], Read]] = {"raw tile decoding": raw} if native else {}
    for walk in walks(case, native, tiles, rounds):
        for name, opened in (readers | PEERS).items():
            with ExitStack() as stack:
                pool = stack.enter_context(ThreadPoolExecutor(threads)) if threads > 1 else None
                try:
                    read = opened(case, stack)
                except (ImportError, ValueError, RuntimeError, OSError):
                    continue  # not installed, or not its format: no row
                best[name] = max(best.get(name, 0.0), len(walk.corners) / seconds(read, walk, pool))
        with open_slide(case.path, Resolution.of(0.5)) as slide:
            best[_OURS] = max(best.get(_OURS, 0.0), len(walk.corners) / streamed(slide, walk, threads))
    return best


def report(case: Case, tiles: int, rounds: int) -> None:
    for native in (True, False):
        size = case.stored if native else _TILE
        where = "on the file's grid" if native else "across it"
        single = measured(case, native, 1, tiles, rounds)
        double = measured(case, native, 2, tiles, rounds)
        print(f"\n{case.name}, {size} px tiles {where}; n = {tiles} tiles x {rounds} rounds")
        base = max(rate for name, rate in single.items() if not name.startswith(("clinimm", "raw")))
        for name, rate in sorted(single.items(), key=lambda item: -item[1]):
            text = f"  {name:<22} {rate:6.0f} tiles/cpu-s  {rate / base:5.2f} x best peer"
            if "raw tile decoding" in single:
                text += f"  raw / it {single['raw tile decoding'] / rate:5.2f}"
            print(f"{text}   two threads {double.get(name, 0):6.0f} tiles/s")


def peak_mib(path: Path, count: int) -> float:
    """Peak resident memory of a process that streams ``count`` tiles, MiB."""
    done = subprocess.run(
        [sys.executable, __file__, "--stream", str(path), "--tiles", str(count)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def stream_only(path: Path, count: int) -> None:
    with open_slide(path, Resolution.of(0.5)) as slide:
        grid = grid_of(View(slide, slide.resolution), _TILE)
        for _ in stream_tiles(grid, islice(cycle(grid.places()), count), threads=2):
            pass
    status = Path("/proc/self/status").read_text()  # ru_maxrss would count the program that started this one
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def memory(cases: Sequence[Case]) -> None:
    print(f"\npeak memory of stream_tiles, {_TILE} px tiles, two threads (MiB)")
    for case in cases:
        few, many = peak_mib(case.path, 1000), peak_mib(case.path, 50_000)
        print(f"  {case.name:<22} 1,000 tiles {few:6.0f}   50,000 tiles {many:6.0f}")


def main() -> None:
    here = Path(os.environ.get("CLINIMM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=here)
    parser.add_argument("--side", type=int, default=12_288)
    parser.add_argument("--tiles", type=int, default=120)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--stream", type=Path, help="only stream this slide, and print the peak memory")
    given = parser.parse_args()
    if given.stream:
        stream_only(given.stream, given.tiles)
        return
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        cases = sample_slides(given.data) + made_slides(Path(folder), given.side)
        sizes = {case.name: case.path.stat().st_size >> 20 for case in cases if case.path.is_file()}
        print("MiB a file:", sizes)
        for case in cases:
            report(case, given.tiles, given.repeat)
        memory([case for case in cases if case.name in {"made SVS", "made DICOM"}])
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
