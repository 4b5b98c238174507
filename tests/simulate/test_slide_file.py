from datetime import UTC, datetime

import numpy as np
import openslide
import pytest

from clinimm.simulate.slide_file import slide_bytes


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    ramp = np.arange(1024)
    red, green = np.broadcast_to(ramp // 4, (1024, 1024)), np.broadcast_to(ramp[:, None] // 4, (1024, 1024))
    return np.stack([red, green, np.full_like(red, 128)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("aperio", "vendor", "suffix"), [(True, "aperio", "svs"), (False, "generic-tiff", "tiff")]
)
def test_openslide_reads_levels_resolution_time_and_pixels(tmp_path, rgb, aperio, vendor, suffix):
    path = tmp_path / f"slide.{suffix}"
    path.write_bytes(slide_bytes(rgb, datetime(2022, 3, 4, 5, 6, 7, tzinfo=UTC), aperio))
    with openslide.OpenSlide(path) as slide:
        properties = slide.properties
        assert properties["openslide.vendor"] == vendor
        assert slide.level_dimensions == ((1024, 1024), (512, 512), (256, 256))
        assert float(properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert float(properties["openslide.mpp-y"]) == pytest.approx(0.5)
        assert properties["openslide.level[0].tile-width"] == "256"
        if aperio:
            assert (properties["aperio.Date"], properties["aperio.Time"]) == ("03/04/22", "05:06:07")
            assert properties["aperio.AppMag"] == "20"
        else:
            assert properties["tiff.DateTime"] == "2022:03:04 05:06:07"
        for level, step in ((0, 1), (1, 2), (2, 4)):
            side = slide.level_dimensions[level][0]
            ours = rgb.reshape(side, step, side, step, 3).mean(axis=(1, 3))
            theirs = np.asarray(slide.read_region((0, 0), level, (side, side)).convert("RGB"), dtype=float)
            assert np.abs(theirs - ours).mean() < 3


def test_the_hospitals_slides_open_and_agree_with_the_truth(hospital):
    slides = [(key, p["slide"]) for key, p in hospital.patients.items() if p["slide"]]
    assert {slide["file"].rsplit(".")[-1] for _, slide in slides} == {"svs", "tiff"}
    for patient_id, truth in slides:
        assert truth["file"].split("/")[1] == patient_id
        with openslide.OpenSlide(hospital.folder / truth["file"]) as slide:
            assert slide.dimensions == (truth["pixels"], truth["pixels"])
            assert float(slide.properties["openslide.mpp-x"]) == truth["micrometres_per_pixel"]
            date = slide.properties.get("tiff.DateTime")
            if date is None:
                stamp = f"{slide.properties['aperio.Date']} {slide.properties['aperio.Time']}"
                found = datetime.strptime(stamp, "%m/%d/%y %H:%M:%S")
            else:
                found = datetime.strptime(date, "%Y:%m:%d %H:%M:%S")
            assert f"{found:%Y-%m-%dT%H:%M:%S}Z" == truth["time"]
