"""Tiles against the pixels that were encoded; bytes that lie about their size or are damaged."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
import pytest

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.tile_decoder import Coding, decode, jpeg_size
from tests.modalities.pathology.made_slides import textured

_TILE = textured(64, 48)


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        ("raw", _TILE.tobytes()),
        ("deflate", imagecodecs.zlib_encode(_TILE.tobytes())),
        ("lzw", imagecodecs.lzw_encode(_TILE.tobytes())),
        ("packbits", imagecodecs.packbits_encode(_TILE.tobytes())),
        ("zstandard", imagecodecs.zstd_encode(_TILE.tobytes())),
        ("jpeg-ls", imagecodecs.jpegls_encode(_TILE)),
        ("jpeg-2000", imagecodecs.jpeg2k_encode(_TILE, reversible=True, level=0)),
        ("jpeg-lossless", imagecodecs.ljpeg_encode(_TILE[..., 0])),
        ("webp", imagecodecs.webp_encode(_TILE, lossless=True)),
    ],
)
def test_lossless_codecs_give_the_pixels_back(codec: str, data: bytes) -> None:
    samples = 1 if codec == "jpeg-lossless" else 3
    expected = np.stack([_TILE[..., 0]] * 3, axis=-1) if samples == 1 else _TILE
    assert np.array_equal(decode(Coding(codec, samples), data, 64, 48), expected)


def test_run_length_of_dicom_is_decoded() -> None:
    from pydicom.pixels.encoders import RLELosslessEncoder

    options: dict[str, Any] = {
        "rows": 48,
        "columns": 64,
        "samples_per_pixel": 3,
        "bits_allocated": 8,
        "bits_stored": 8,
    }
    options |= {"pixel_representation": 0, "number_of_frames": 1, "planar_configuration": 0}
    data = RLELosslessEncoder.encode(_TILE, photometric_interpretation="RGB", **options)
    assert np.array_equal(decode(Coding("rle"), data, 64, 48), _TILE)


@pytest.mark.parametrize("colours", ["rgb", "ycbcr"])
def test_jpeg_colours_are_those_that_the_file_says(colours: str) -> None:
    data = imagecodecs.jpeg8_encode(_TILE, level=95, colorspace="rgb", outcolorspace=colours)
    found = decode(Coding("jpeg", colours=colours), data, 64, 48)
    assert np.abs(found.astype(int) - _TILE).mean() < 6
    other = {"rgb": "ycbcr", "ycbcr": "rgb"}[colours]
    assert np.abs(decode(Coding("jpeg", colours=other), data, 64, 48).astype(int) - _TILE).mean() > 20


def test_a_smaller_tile_is_filled_with_white_and_a_strip_cut() -> None:
    data = imagecodecs.jpeg8_encode(_TILE[:32, :40], level=95)
    found = decode(Coding("jpeg"), data, 64, 48)
    assert found.shape == (48, 64, 3) and (found[32:] == 255).all() and (found[:, 40:] == 255).all()
    data = imagecodecs.jpeg8_encode(_TILE, level=95)
    assert decode(Coding("jpeg"), data, 64, 40).shape == (40, 64, 3)


def test_a_jpeg_that_declares_more_than_its_place_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = imagecodecs.jpeg8_encode(np.zeros((1024, 1024, 3), np.uint8))
    assert jpeg_size(data) == (1024, 1024)
    with pytest.raises(InputRejected, match=r"declares 1024 x 1024 pixels where 64 x 48 are due"):
        decode(Coding("jpeg"), data, 64, 48)


@pytest.mark.parametrize("codec", ["deflate", "lzw", "packbits", "zstandard", "jpeg-2000", "jpeg-ls", "jpeg"])
def test_bombs_and_damage_are_refused_or_cut(codec: str) -> None:
    large = np.zeros((1024, 1024, 3), np.uint8)
    name = {
        "deflate": "zlib",
        "zstandard": "zstd",
        "jpeg-2000": "jpeg2k",
        "jpeg-ls": "jpegls",
        "jpeg": "jpeg8",
    }
    encode = getattr(imagecodecs, f"{name.get(codec, codec)}_encode")
    is_bytes = codec in {"deflate", "lzw", "packbits", "zstandard"}
    if codec == "packbits":  # imagecodecs takes minutes to write 24,576 times "128 zeros"
        bomb = b"\x81\x00" * (large.size // 128)
    else:
        bomb = bytes(encode(large.tobytes() if is_bytes else large))
    for data in (bomb, b"", b"\0" * 50, bomb[: len(bomb) // 3], b"no such tile" * 20):
        try:
            assert decode(Coding(codec), data, 64, 48).shape == (48, 64, 3)
        except InputRejected as refusal:
            assert refusal.code == "cannot-read"


def test_too_few_raw_bytes_are_refused() -> None:
    with pytest.raises(InputRejected, match="expected 9216"):
        decode(Coding("raw"), bytes(9215), 64, 48)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\0\x10" + bytes(14), b"\xff\xd8\xff\xff\xff"]
)
def test_no_frame_header_is_no_size(data: bytes) -> None:
    assert jpeg_size(data) is None
