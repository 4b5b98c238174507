"""A file that was, or may have been, generated, whatever its format.

OME-TIFF and DICOM give the same values, for the same tiles have the same digest in both.
"""

from __future__ import annotations

from pathlib import Path

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import looks_like_dicom
from clinimm.modalities.pathology.file_bytes import FileBytes
from clinimm.modalities.pathology.tiff_directory import is_tiff
from clinimm.staining.generated_dicom import dicom_frames, read_dicom
from clinimm.staining.generated_parts import FoundLevel, GeneratedFile, Spacing
from clinimm.staining.generated_tiff import read_tiff

__all__ = ["FoundLevel", "GeneratedFile", "Spacing", "dicom_frames", "read_generated"]

_HEAD_BYTES = 512


def read_generated(path: Path) -> GeneratedFile:
    """Read a TIFF, or the DICOM series that a file or folder belongs to.

    Raises:
        InputRejected: it is neither, it cannot be opened, or it is damaged.
    """
    if path.is_dir():
        return read_dicom(path, None)
    if path.exists() and not path.is_file():
        raise InputRejected(
            "not-a-file", "it is a device or a pipe", "give the file that clinimm stain wrote"
        )
    file = FileBytes(path)
    try:
        head = file.head(_HEAD_BYTES)
        if is_tiff(head):
            return read_tiff(file, path)
    finally:
        file.close()
    if looks_like_dicom(path.name, head):
        return read_dicom(path.parent, path)
    raise InputRejected(
        "not-a-slide", "the file is neither TIFF nor DICOM", "give the file that clinimm stain wrote"
    )
