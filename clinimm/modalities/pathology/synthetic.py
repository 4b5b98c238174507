"""Whether a picture or slide says that it was generated, whatever its format.

Ingest and training ask here before they take an image for tissue (law 6). Only headers are read;
the label in the pixels is looked for by ``clinimm provenance verify``.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from clinimm.modalities.dicom_header import looks_like_dicom, read_header
from clinimm.modalities.pathology.file_bytes import FileBytes
from clinimm.modalities.pathology.tiff_directory import (
    Directory,
    Tag,
    is_tiff,
    read_directories,
    sub_directories,
)
from clinimm.modalities.synthetic import SIMULATOR, Provenance, read_dicom_marks, read_mark

_HEAD_BYTES = 512
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff")
_EXIF_DESCRIPTION = 0x010E


def is_synthetic(path: Path) -> Provenance | None:
    """What a file says about having been generated; None where it says nothing.

    Args:
        path: a DICOM file, or a folder with the files of one DICOM slide; a TIFF, PNG or JPEG.

    Raises:
        InputRejected: the file is damaged.

    >>> is_synthetic(Path("biopsy.svs"))  # doctest: +SKIP
    """
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.is_file())
        return next((found for found in map(is_synthetic, files) if found is not None), None)
    file = FileBytes(path)
    try:
        head = file.head(_HEAD_BYTES)
        if is_tiff(head):
            return _first(_tiff_texts(file))
    finally:
        file.close()
    if looks_like_dicom(path.name, head):
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return read_dicom_marks(read_header(data))
    if head.startswith(_PICTURES):
        return _first(_picture_texts(path))
    return None


def is_simulated(path: Path) -> bool:
    """Whether a slide says that ``clinimm simulate`` drew it.

    Raises:
        InputRejected: the file is damaged.
    """
    if not path.is_file():
        return False
    file = FileBytes(path)
    try:
        if not is_tiff(file.head(_HEAD_BYTES)):
            return False
        return any(
            one.text(Tag.SOFTWARE) == SIMULATOR
            for one in read_directories(file)
            if Tag.SOFTWARE in one.fields
        )
    finally:
        file.close()


def _first(texts: Iterator[tuple[str, str]]) -> Provenance | None:
    return next((found for text, where in texts if (found := read_mark(text, where)) is not None), None)


def _tiff_texts(file: FileBytes) -> Iterator[tuple[str, str]]:
    for directory in read_directories(file):
        for one in (directory, *_below(directory)):
            for tag in (Tag.DESCRIPTION, Tag.SOFTWARE, Tag.XMP):
                if tag in one.fields:
                    yield one.text(tag), f"TIFF {tag.name.lower().replace('_', ' ')}"


def _below(directory: Directory) -> tuple[Directory, ...]:
    return sub_directories(directory) if Tag.SUB_IFDS in directory.fields else ()


def _picture_texts(path: Path) -> Iterator[tuple[str, str]]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            values = {**picture.info, "EXIF description": picture.getexif().get(_EXIF_DESCRIPTION)}
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return  # no picture: whoever reads the pixels refuses it by name
    for name, value in values.items():
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if isinstance(text, str):
            yield text, f"picture's {name}"
