"""Tiny DICOM files and slides, built in code."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MakeDicom = Callable[..., bytes]


def _make_dicom(
    pixels: np.ndarray | None = None, syntax: str = "1.2.840.10008.1.2.1", **changes: Any
) -> bytes:
    from pydicom import dcmwrite
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import UID

    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8) if pixels is None else pixels
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = changes.get("SOPClassUID", "1.2.840.10008.5.1.4.1.1.1")
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    meta.TransferSyntaxUID = UID(syntax)
    dataset: Dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    bits = pixels.dtype.itemsize * 8
    values = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": "1.2.3.4",
        "StudyDate": "20240301",
        "StudyTime": "101500",
        "ContentDate": "20240301",
        "ContentTime": "102000.5",
        "Modality": "DX",
        "Manufacturer": "Acme",
        "ManufacturerModelName": "Ray 1",
        "InstitutionName": "North",
        "PatientName": "Doe^Jane",
        "PatientID": "MRN1",
        "PatientBirthDate": "19700102",
        "PatientSex": "F",
        "PatientAge": "054Y",
        "ViewPosition": "PA",
        "BodyPartExamined": "CHEST",
        "SamplesPerPixel": 3 if pixels.ndim == 3 else 1,
        "PhotometricInterpretation": "RGB" if pixels.ndim == 3 else "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "PixelSpacing": [0.2, 0.1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes(),
    }
    if pixels.ndim == 3:
        values["PlanarConfiguration"] = 0
    for name, value in {**values, **changes}.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture(scope="session")
def make_dicom() -> MakeDicom:
    """Bytes of a small chest film; keyword arguments replace (or with None drop) its elements."""
    return _make_dicom


def _make_slide(
    path: Path, side: int = 1024, mpp_um: float | None = 0.5, scanned: str | None = "2024:03:01 10:20:00"
) -> Path:
    import tifffile

    rng = np.random.default_rng(0)
    picture = np.full((side, side, 3), 244, dtype=np.uint8)
    middle = slice(side // 4, 3 * side // 4)
    picture[middle, middle] = (190, 110, 170)
    picture = np.clip(picture.astype(int) + rng.integers(-4, 5, picture.shape), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    resolution = (1e4 / mpp_um, 1e4 / mpp_um) if mpp_um else None
    with tifffile.TiffWriter(path) as writer:
        for level in range(2):
            writer.write(
                picture[:: 2**level, :: 2**level],
                tile=(256, 256),
                photometric="rgb",
                compression="zlib",
                subfiletype=int(level > 0),
                resolution=resolution,
                resolutionunit="CENTIMETER" if resolution else "NONE",
                datetime=scanned if level == 0 else None,
                metadata=None,
                software=False,
            )
    return path


@pytest.fixture(scope="session")
def make_slide() -> Callable[..., Path]:
    """A pyramidal TIFF at ``path``: glass with a square of tissue in its middle half."""
    return _make_slide
