"""A slide from the DICOM files of one series, whichever of them is named."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import WHOLE_SLIDE, media_storage, read_header
from clinimm.modalities.pathology.dicom_part import Part, read_part
from clinimm.modalities.pathology.pixels import Level, Rgb, SlideInfo, shrinking
from clinimm.modalities.pathology.tile_decoder import Coding, decode
from clinimm.modalities.pathology.tiled import TiledPixels

_SERIES_UID = 0x0020000E
_HEAD_BYTES = 512
_ONE_SLIDE = "export one brightfield slide, one focal plane, to a folder of its own"


def open_dicom(path: Path, cache_bytes: int) -> TiledPixels:
    """The slide of a DICOM file with its siblings of the same series, or of a folder of one series.

    Raises:
        InputRejected: ``not-a-slide`` (a label, a macro picture, no slide or several);
            what ``read_part`` refuses in any file of the series.
    """
    if path.is_file():
        first = read_part(path)
        if first is None:
            raise InputRejected(
                "not-a-slide",
                "the DICOM file holds the label, macro or thumbnail picture of a slide",
                "name a file whose Image Type is VOLUME",
            )
        first.frames.file.close()
        series, pyramid = _series_uid(path), first.pyramid_uid
    else:
        series, pyramid = _only_series(path), None
    folder = path if path.is_dir() else path.parent
    parts = _read_parts(file for file in _slide_files(folder) if _series_uid(file) == series)
    if pyramid is not None:
        parts = [part for part in parts if part.pyramid_uid == pyramid]
    return _assembled(parts, cache_bytes)


def _read_parts(files: Iterable[Path]) -> list[Part]:
    parts: dict[str, Part] = {}
    try:
        for file in files:
            part = read_part(file)
            if part is not None and parts.setdefault(part.instance_uid, part) is not part:
                part.frames.file.close()  # a second copy of the same instance
    except InputRejected:
        _close(parts.values())
        raise
    return list(parts.values())


def _assembled(parts: list[Part], cache_bytes: int) -> TiledPixels:
    try:
        return _slide(parts, cache_bytes)
    except InputRejected:
        _close(parts)
        raise


def _slide(parts: list[Part], cache_bytes: int) -> TiledPixels:
    if not parts:
        raise InputRejected("not-a-slide", "no file of the series holds a level of a slide", _ONE_SLIDE)
    base = max(parts, key=lambda part: part.width)
    levels, sources = [], []
    for pieces in _by_level(parts):
        level = pieces[0]
        downsample = shrinking(level.width, level.height, base.width, base.height)
        if downsample is None:
            raise InputRejected(
                "not-a-slide",
                f"pictures of {base.width} x {base.height} and {level.width} x {level.height} pixels "
                "in one series are not levels of one slide",
                _ONE_SLIDE,
            )
        levels.append(Level(level.width, level.height, downsample, level.tile_width, level.tile_height))
        sources.append(_level_tiles(pieces))
    info = SlideInfo(base.width, base.height, tuple(levels), base.resolution, "dicom", base.properties)
    return TiledPixels(info, tuple(sources), cache_bytes, lambda: _close(parts))


def _by_level(parts: Iterable[Part]) -> list[list[Part]]:
    """Files of the same level together, in the order of their frames; finest level first."""
    levels: dict[tuple[int, int], list[Part]] = {}
    for part in sorted(parts, key=lambda part: (-part.width, -part.height, part.first_frame)):
        level = levels.setdefault((part.width, part.height), [])
        if level and (part.concatenation_uid is None or part.concatenation_uid != level[0].concatenation_uid):
            raise InputRejected(
                "not-a-slide",
                f"two files of the series hold a level of {part.width} x {part.height} pixels "
                "(focal planes, optical paths or slides)",
                _ONE_SLIDE,
            )
        level.append(part)
    return list(levels.values())


@dataclass(frozen=True)
class DicomTiles:
    """The tiles of a level: tile column and row -> file and frame. Tiles that are missing are white."""

    parts: tuple[Part, ...]
    codings: tuple[Coding, ...]
    places: Mapping[tuple[int, int], tuple[int, int]] | None
    columns: int
    offset: int

    def tile(self, column: int, row: int) -> Rgb | None:
        """A tile; None where the file set has none for this place.

        Raises:
            InputRejected: ``cannot-read`` or ``truncated``.
        """
        if self.places is not None:
            place = self.places.get((column, row))
        else:
            place = self._in_order(self.offset + row * self.columns + column)
        if place is None:
            return None
        part = self.parts[place[0]]
        data = part.frames.content(place[1])
        return decode(self.codings[place[0]], data, part.tile_width, part.tile_height)

    def _in_order(self, frame: int) -> tuple[int, int] | None:
        for index, part in enumerate(self.parts):
            if part.first_frame <= frame < part.first_frame + len(part.frames):
                return index, frame - part.first_frame
        return None


def _level_tiles(pieces: list[Part]) -> DicomTiles:
    """Tiles of one level; of several focal planes the middle one is read (PS3.3 C.7.6.17.3)."""
    one = pieces[0]
    columns, rows = -(-one.width // one.tile_width), -(-one.height // one.tile_height)
    codings = tuple(_as_stored(part) for part in pieces)
    if any(part.positions for part in pieces):
        if one.planes > 1:
            raise InputRejected("not-a-slide", "sparse tiles lie in several focal planes", _ONE_SLIDE)
        places = {
            place: (index, frame)
            for index, part in enumerate(pieces)
            for frame, place in enumerate(part.positions or ())
        }
        return DicomTiles(tuple(pieces), codings, places, columns, 0)
    expected, found = columns * rows * one.planes, sum(len(part.frames) for part in pieces)
    if found < expected:
        raise InputRejected(
            "truncated",
            f"a level of {columns} x {rows} tiles has {found} frames; expected {expected}",
            "send all files of the series",
        )
    return DicomTiles(tuple(pieces), codings, None, columns, (one.planes // 2) * columns * rows)


def _as_stored(part: Part) -> Coding:
    """The coding of a file's frames; a JPEG that states its own colours (Adobe, JFIF) is believed.

    Photometric Interpretation is RGB in some files whose JPEG frames are YCbCr, and the reverse.
    """
    if part.coding.codec != "jpeg" or part.coding.samples == 1:
        return part.coding
    start, stop = int(part.frames.starts[0]), int(part.frames.stops[0])
    head = part.frames.file.read(start, min(64, max(0, stop - start)))
    states_colours = b"Adobe\0" in head or b"JFIF\0" in head
    return replace(part.coding, colours=None) if states_colours else part.coding


def _close(parts: Iterable[Part]) -> None:
    for part in parts:
        part.frames.file.close()


def _slide_files(folder: Path) -> list[Path]:
    """Whole-slide files of a folder by their file meta information."""
    found = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_file():
            with Path(entry.path).open("rb") as stream:
                if media_storage(stream.read(_HEAD_BYTES))[0] == WHOLE_SLIDE:
                    found.append(Path(entry.path))
    return found


def _only_series(folder: Path) -> str | None:
    series = {_series_uid(file) for file in _slide_files(folder)}
    if len(series) != 1:
        raise InputRejected(
            "not-a-slide",
            f"the folder holds {len(series)} series of whole-slide files; expected 1",
            _ONE_SLIDE,
        )
    return series.pop()


def _series_uid(path: Path) -> str | None:
    state = path.stat()
    return _known_series_uid(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1 << 16)
def _known_series_uid(path: Path, modified_ns: int, size: int) -> str | None:
    """Series Instance UID, remembered, for every file of a folder asks for those of its siblings."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return read_header(data).code(_SERIES_UID)
