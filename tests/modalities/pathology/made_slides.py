"""Slides of every format that is read, made in code: small, with texture, with a label to keep out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageFilter

#: Colour of every label, macro and thumbnail picture; no slide contains it.
FORBIDDEN = (0, 255, 0)
_SLIDE_SOP = "1.2.840.10008.5.1.4.1.1.77.1.6"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


def textured(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Something like tissue, (row, column, 3) uint8: smooth colour with dark round nuclei and grain."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(150, 236, (max(2, height // 48), max(2, width // 48), 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=int)
    nuclei = Image.fromarray((rng.random((height, width)) > 0.995).astype(np.uint8) * 255)
    spread = np.asarray(nuclei.filter(ImageFilter.GaussianBlur(2.5)), dtype=int)[..., None]
    image = image - spread * np.array([6, 8, 3])
    return np.clip(image + rng.integers(-9, 10, image.shape), 0, 254).astype(np.uint8)


def halved(pixels: np.ndarray) -> np.ndarray:
    """Half as wide and high, each pixel the mean of four."""
    rows, columns = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
    blocks = pixels[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def plain(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), FORBIDDEN, dtype=np.uint8)


def write_svs(
    path: Path, pixels: np.ndarray, tile: int = 240, mpp: str | None = "0.5", **options: Any
) -> Path:
    """Aperio: tiled level, thumbnail in strips, tiled half level, label, macro."""
    jpeg = {"compression": "jpeg", "compressionargs": {"level": 85, "outcolorspace": "rgb"}} | options
    height, width = pixels.shape[:2]
    stated = f"|MPP = {mpp}" if mpp else ""
    head = f"Aperio Image Library v12.0.0\r\n{width}x{height}"
    with tifffile.TiffWriter(path) as writer:
        shared: dict[str, Any] = {"photometric": "rgb", "metadata": None, "software": False}
        writer.write(pixels, tile=(tile, tile), description=f"{head}|AppMag = 20{stated}", **shared, **jpeg)
        writer.write(plain(64, 48), description=head, **shared)
        writer.write(halved(pixels), tile=(tile, tile), description=head, **shared, **jpeg)
        writer.write(plain(60, 80), description=f"{head} label", subfiletype=1, **shared)
        writer.write(plain(160, 60), description=f"{head} macro", subfiletype=9, **shared)
    return path


def write_ome(path: Path, pixels: np.ndarray, tile: int = 256, unit: str = "µm", size: float = 0.5) -> Path:
    """OME-TIFF: one RGB image with a sub-resolution, and a picture of the label."""
    options: dict[str, Any] = {
        "tile": (tile, tile),
        "photometric": "ycbcr",
        "compression": "jpeg",
        "compressionargs": {"level": 85},
    }
    sizes = {
        "PhysicalSizeX": size,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeY": size,
        "PhysicalSizeYUnit": unit,
    }
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(pixels, subifds=1, metadata={"axes": "YXS", "Name": "slide", **sizes}, **options)
        writer.write(halved(pixels), subfiletype=1, **options)
        writer.write(plain(400, 300), photometric="rgb", metadata={"axes": "YXS", "Name": "label image"})
    return path


def write_pyramid(path: Path, pixels: np.ndarray, tile: int = 256, **options: Any) -> Path:
    """A tiled pyramid as libvips writes it, then a label that is not a reduced version of it."""
    chosen: dict[str, Any] = {"compression": "zlib", "resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    chosen |= {"photometric": "rgb", "metadata": None, "software": False} | options
    with tifffile.TiffWriter(path, bigtiff=bool(chosen.pop("bigtiff", False))) as writer:
        writer.write(pixels, tile=(tile, tile), **chosen)
        writer.write(halved(pixels), tile=(tile, tile), subfiletype=1, **chosen)
        writer.write(plain(300, 300), photometric="rgb", metadata=None)
    return path


def tiles_of(pixels: np.ndarray, tile: int) -> list[np.ndarray]:
    """Tiles row by row, those of the edge filled with white."""
    rows, columns = -(-pixels.shape[0] // tile), -(-pixels.shape[1] // tile)
    padded = np.full((rows * tile, columns * tile, *pixels.shape[2:]), 255, dtype=pixels.dtype)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    return [
        padded[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
        for row in range(rows)
        for column in range(columns)
    ]


def encoded(tile: np.ndarray, syntax: str) -> bytes:
    if syntax == JPEG_BASELINE:
        return bytes(imagecodecs.jpeg8_encode(tile, level=85))
    if syntax == "1.2.840.10008.1.2.4.80":
        return bytes(imagecodecs.jpegls_encode(tile))
    if syntax == "1.2.840.10008.1.2.4.90":
        return bytes(imagecodecs.jpeg2k_encode(tile, codecformat="j2k", reversible=True, level=0))
    return tile.tobytes()


def write_dicom(
    path: Path,
    pixels: np.ndarray,
    tile: int = 240,
    syntax: str = JPEG_BASELINE,
    frames: Sequence[int] | None = None,
    sparse: bool = False,
    spacing_mm: float = 0.0005,
    **changes: Any,
) -> Path:
    """One level as VL Whole Slide Microscopy; ``frames`` are those written, all where it is None.

    ``changes`` replace elements, or drop them where they are None.
    """
    from pydicom import dcmwrite
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.sequence import Sequence as Items
    from pydicom.uid import UID, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(_SLIDE_SOP)
    meta.MediaStorageSOPInstanceUID = changes.pop("SOPInstanceUID", None) or generate_uid()
    meta.TransferSyntaxUID = UID(syntax)
    dataset: Dataset = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    all_tiles = tiles_of(pixels, tile)
    chosen = list(range(len(all_tiles))) if frames is None else list(frames)
    columns = -(-pixels.shape[1] // tile)
    is_grey = pixels.ndim == 2
    measures = Dataset()
    measures.PixelSpacing = [spacing_mm, spacing_mm]
    measures.SliceThickness = 0.004
    shared = Dataset()
    shared.PixelMeasuresSequence = Items([measures])
    values: dict[str, Any] = {
        "SOPClassUID": _SLIDE_SOP,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        "Modality": "SM",
        "PatientID": "MRN1",
        "PatientName": "",
        "StudyInstanceUID": "1.2.3.1",
        "SeriesInstanceUID": "1.2.3.2",
        "FrameOfReferenceUID": "1.2.3.3",
        "AcquisitionDateTime": "20240301102000",
        "Rows": tile,
        "Columns": tile,
        "TotalPixelMatrixColumns": pixels.shape[1],
        "TotalPixelMatrixRows": pixels.shape[0],
        "NumberOfFrames": len(chosen),
        "DimensionOrganizationType": "TILED_SPARSE" if sparse else "TILED_FULL",
        "SamplesPerPixel": 1 if is_grey else 3,
        "PhotometricInterpretation": "MONOCHROME2" if is_grey else _photometric(syntax),
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "ImagedVolumeWidth": pixels.shape[1] * spacing_mm,
        "ImagedVolumeHeight": pixels.shape[0] * spacing_mm,
        "NumberOfOpticalPaths": 1,
        "TotalPixelMatrixFocalPlanes": 1,
        "SharedFunctionalGroupsSequence": Items([shared]),
    }
    if not is_grey:
        values["PlanarConfiguration"] = 0
    if sparse:
        values["PerFrameFunctionalGroupsSequence"] = Items(
            [_position(index % columns * tile, index // columns * tile) for index in chosen]
        )
    contents = [encoded(all_tiles[index], syntax) for index in chosen]
    values["PixelData"] = b"".join(contents) if syntax == EXPLICIT_LITTLE else encapsulate(contents)
    for name, value in {**values, **changes}.items():
        if value is not None:
            setattr(dataset, name, value)
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = syntax != EXPLICIT_LITTLE
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def _photometric(syntax: str) -> str:
    return {JPEG_BASELINE: "YBR_FULL_422", "1.2.840.10008.1.2.4.90": "YBR_RCT"}.get(syntax, "RGB")


def _position(column: int, row: int) -> Any:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    place = Dataset()
    place.ColumnPositionInTotalImagePixelMatrix = column + 1
    place.RowPositionInTotalImagePixelMatrix = row + 1
    place.XOffsetInSlideCoordinateSystem = "0"
    place.YOffsetInSlideCoordinateSystem = "0"
    place.ZOffsetInSlideCoordinateSystem = "0"
    frame = Dataset()
    frame.PlanePositionSlideSequence = Items([place])
    return frame
