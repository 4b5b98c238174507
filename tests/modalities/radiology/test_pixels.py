"""The grey-scale pipeline against pydicom's own functions, and its guards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing

from clinimm.core.errors import InputRejected
from clinimm.modalities.radiology.pixels import apply_window, load_pixels, pick_frames

MakeDicom = Callable[..., bytes]
_RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def _grey(data: bytes) -> np.ndarray:
    image = load_pixels(data)
    assert image.values.dtype == np.float32
    assert image.values.shape[0] == 1 and image.values.shape[3] == 1
    return image.values[0, :, :, 0]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_equal_pydicom(function: str) -> None:
    dataset = Dataset()
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = 1000, 500, function
    dataset.BitsStored, dataset.PixelRepresentation = 12, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    expected = apply_windowing(_RAMP, dataset) / 4095
    assert apply_window(_RAMP.astype(np.float32), 1000, 500, function) == pytest.approx(expected, abs=1e-5)


def test_a_window_is_on_rescaled_values(make_dicom: MakeDicom) -> None:
    shown = _grey(
        make_dicom(_RAMP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=500, WindowWidth=1001)
    )
    values = _RAMP * 2.0 - 1000
    assert shown == pytest.approx(np.clip(values / 1000, 0, 1), abs=1e-3)


def test_monochrome1_is_inverted(make_dicom: MakeDicom) -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    plain = _grey(make_dicom(_RAMP, **window))
    inverted = _grey(make_dicom(_RAMP, PhotometricInterpretation="MONOCHROME1", **window))
    assert inverted == pytest.approx(1 - plain, abs=1e-6)
    assert plain[0, 0] == 0 and inverted[0, 0] == 1


def test_without_a_window_percentiles_decide_not_a_marker(make_dicom: MakeDicom) -> None:
    pixels = np.random.default_rng(0).integers(1000, 2000, (200, 200)).astype(np.uint16)
    marked = pixels.copy()
    marked[:4, :20] = 65535
    low, high = np.percentile(pixels, [1, 99])
    expected = np.clip((pixels - low) / (high - low), 0, 1)
    assert _grey(make_dicom(pixels)) == pytest.approx(expected, abs=0.01)
    assert np.abs(_grey(make_dicom(marked))[4:] - expected[4:]).mean() < 0.01


@settings(max_examples=40, deadline=None)
@given(
    factor=st.integers(1, 8),
    offset=st.integers(0, 20000),
    seed=st.integers(0, 1000),
)
def test_scanner_gain_and_offset_do_not_change_what_is_seen(
    make_dicom: MakeDicom, factor: int, offset: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 5000, (16, 16)).astype(np.uint16)
    other = (pixels * factor + offset).astype(np.uint16)
    assert _grey(make_dicom(other)) == pytest.approx(_grey(make_dicom(pixels)), abs=1e-3)


def test_eight_bits_keep_their_range(make_dicom: MakeDicom) -> None:
    pixels = np.full((8, 8), 51, np.uint8)
    pixels[0, 0] = 102
    assert _grey(make_dicom(pixels))[:2, 0] == pytest.approx([0.4, 0.2])


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"RescaleSlope": 0, "RescaleIntercept": 5}, "slope_zero"),
        ({"WindowCenter": 100, "WindowWidth": 0}, "window_zero"),
        ({"WindowCenter": 100, "WindowWidth": -5}, "window_zero"),
        ({"WindowCenter": 60000, "WindowWidth": 10}, "window_useless"),
    ],
)
def test_useless_numbers_are_flagged_and_set_aside(
    make_dicom: MakeDicom, changes: dict[str, float], flag: str
) -> None:
    image = load_pixels(make_dicom(_RAMP, **changes))
    assert image.flags == (flag,)
    assert image.values == pytest.approx(load_pixels(make_dicom(_RAMP)).values, abs=1e-3)


def test_an_empty_slope_is_one(make_dicom: MakeDicom) -> None:
    data = make_dicom(_RAMP, RescaleSlope="", RescaleIntercept="", WindowCenter=2048, WindowWidth=4096)
    assert _grey(data)[-1, -1] == 1


def test_a_slope_that_is_no_number_is_refused(make_dicom: MakeDicom) -> None:
    data = make_dicom(RescaleSlope=1.25, RescaleIntercept=0).replace(b"1.25", b"abcd")
    with pytest.raises(InputRejected, match="bad-number"):
        load_pixels(data)


def test_padding_is_black_and_does_not_count(make_dicom: MakeDicom) -> None:
    pixels = np.random.default_rng(0).integers(100, 200, (64, 64)).astype(np.int16)
    pixels[:40] = -2000
    shown = _grey(make_dicom(pixels, PixelPaddingValue=-2000))
    assert (shown[:40] == 0).all()
    assert shown[40:].std() > 0.2
    inverted = _grey(make_dicom(pixels, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1"))
    assert (inverted[:40] == 0).all()


def test_look_up_tables_equal_pydicom(make_dicom: MakeDicom) -> None:
    table = (np.linspace(0, 1, 256) ** 2 * 4095).astype(np.uint16)
    item = Dataset()
    item.add_new(0x00283002, "US", [256, 0, 12])
    item.add_new(0x00283006, "OW", table.tobytes())
    item.ModalityLUTType = "US"
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = make_dicom(pixels, VOILUTSequence=[item])
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
    expected = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset) / 4095
    assert _grey(data) == pytest.approx(expected, abs=1e-4)
    modality = _grey(make_dicom(pixels, ModalityLUTSequence=[item], WindowCenter=2048, WindowWidth=4096))
    assert modality == pytest.approx(table[pixels] / 4095, abs=1e-3)


def test_a_palette_equals_pydicom(make_dicom: MakeDicom) -> None:
    rng = np.random.default_rng(0)
    tables = {f"{c}PaletteColorLookupTableData": rng.integers(0, 1 << 16, 256).astype(np.uint16).tobytes()
              for c in ("Red", "Green", "Blue")}  # fmt: skip
    described = {f"{c}PaletteColorLookupTableDescriptor": [256, 0, 16] for c in ("Red", "Green", "Blue")}
    pixels = rng.integers(0, 256, (16, 16)).astype(np.uint8)
    data = make_dicom(pixels, PhotometricInterpretation="PALETTE COLOR", **described, **tables)
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
    expected = apply_color_lut(pixels, dataset) / 65535
    assert load_pixels(data).values[0] == pytest.approx(expected, abs=1e-4)


def test_a_table_without_its_data_is_refused(make_dicom: MakeDicom) -> None:
    with pytest.raises(InputRejected, match="bad-lut"):
        load_pixels(make_dicom(np.eye(8, dtype=np.uint8), PhotometricInterpretation="PALETTE COLOR"))


def test_ybr_becomes_rgb(make_dicom: MakeDicom) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[...] = (76, 85, 255)  # pure red, PS3.3 C.7.6.3.1.2
    rgb = load_pixels(make_dicom(pixels, PhotometricInterpretation="YBR_FULL")).values[0]
    assert rgb[0, 0] == pytest.approx([1, 0, 0], abs=0.01)


@given(total=st.integers(1, 500), wanted=st.integers(1, 40))
def test_frames_are_distinct_ordered_and_inside(total: int, wanted: int) -> None:
    chosen = pick_frames(total, wanted)
    assert len(chosen) == min(total, wanted)
    assert list(chosen) == sorted(set(chosen))
    assert chosen[0] >= 0 and chosen[-1] < total


def test_frames_of_a_cine_are_picked(make_dicom: MakeDicom) -> None:
    frames = np.stack([np.full((4, 4), value, np.uint8) for value in range(9)])
    image = load_pixels(make_dicom(frames[0], NumberOfFrames=9, PixelData=frames.tobytes()), frames=3)
    assert image.frames == (1, 4, 7)
    assert image.total_frames == 9
    assert image.values[:, 0, 0, 0] * 255 == pytest.approx([1, 4, 7])


def test_every_sample_with_pixels_is_shown_or_refused(test_data: Path) -> None:
    shown = 0
    for path in sorted((test_data / "samples" / "dicom").rglob("*")):
        if not path.is_file() or path.stat().st_size > 3 << 20:
            continue
        try:
            image = load_pixels(path.read_bytes())
        except InputRejected as refusal:
            assert refusal.remedy
            continue
        shown += 1
        assert np.isfinite(image.values).all(), path.name
        assert image.values.min() >= 0 and image.values.max() <= 1, path.name
    assert shown > 130
