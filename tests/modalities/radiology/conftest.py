"""Compressed DICOM files, built in code."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def make_jpeg_dicom(make_dicom: Callable[..., bytes]) -> Callable[..., bytes]:
    """A JPEG Baseline film; ``claimed`` is the size that the header tells."""

    def build(
        pixels: np.ndarray, claimed: tuple[int, int] | None = None, stream: bytes | None = None
    ) -> bytes:
        from PIL import Image
        from pydicom import dcmread, dcmwrite
        from pydicom.encaps import encapsulate

        if stream is None:
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
            stream = buffer.getvalue()
        dataset = dcmread(io.BytesIO(make_dicom(pixels)))
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"
        dataset.Rows, dataset.Columns = claimed or pixels.shape[:2]
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].is_undefined_length = True
        out = io.BytesIO()
        dcmwrite(out, dataset)
        return out.getvalue()

    return build
