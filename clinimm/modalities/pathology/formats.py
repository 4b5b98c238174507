"""Which reader opens a file, by its first bytes and never by its name."""

from __future__ import annotations

from pathlib import Path

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.file_bytes import FileBytes
from clinimm.modalities.pathology.pixels import SlidePixels
from clinimm.modalities.pathology.tiff_directory import is_tiff

_HEAD_BYTES = 132
_MEBIBYTE = 1 << 20


def open_pixels(path: Path, cache_mib: float) -> SlidePixels:
    """The pixels of a slide: a file, one file of a DICOM series, or a folder with one DICOM series.

    Args:
        path: of the file or folder.
        cache_mib: most that partly used tiles take, MiB.

    Raises:
        InputRejected: nothing reads it, it is damaged, or it holds no slide.
    """
    cache_bytes = int(cache_mib * _MEBIBYTE)
    if path.is_dir():
        return _dicom(path, cache_bytes)
    file = FileBytes(path)
    try:
        head = file.head(_HEAD_BYTES)
        if is_tiff(head):
            from clinimm.modalities.pathology.tiff_file import open_tiff

            found = open_tiff(file, path.name, cache_bytes)
            if found is not None:
                return found
            file.close()
    except InputRejected:
        file.close()
        raise
    file.close()
    return _other(path, head, cache_bytes)


def _other(path: Path, head: bytes, cache_bytes: int) -> SlidePixels:
    from clinimm.modalities.pathology.picture import PicturePixels, picture_format

    if head[128:132] == b"DICM":
        return _dicom(path, cache_bytes)
    if (kind := picture_format(head)) and path.suffix.lower() != ".mrxs":
        return PicturePixels(path, kind)
    from clinimm.modalities.pathology.openslide_file import OpenSlidePixels

    return OpenSlidePixels(path)


def _dicom(path: Path, cache_bytes: int) -> SlidePixels:
    from clinimm.modalities.pathology.dicom_slide import open_dicom

    return open_dicom(path, cache_bytes)
