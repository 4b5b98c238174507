from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from clinimm.config import StainingConfig
from clinimm.core.record import digest_file
from clinimm.simulate.slide import plan_slide, render_slide
from clinimm.staining import region_cache
from clinimm.staining.make_regions import Files, Made, make_regions
from clinimm.staining.pair_store import PairStore, write_regions
from clinimm.staining.region_cache import cached_regions

pytestmark = pytest.mark.xdist_group("regions")  # what all of them share is made once

SIDE = 512


def _write(path: Path, rgb: np.ndarray, description: str | None = None) -> tuple[Path, str]:
    per_centimetre = 10_000 / 0.5
    tifffile.imwrite(
        path,
        rgb,
        tile=(256, 256),
        photometric="rgb",
        resolution=(per_centimetre, per_centimetre),
        resolutionunit="CENTIMETER",
        description=description,
        metadata=None,
    )
    return path, digest_file(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("pair")
    rgb = render_slide(plan_slide(True, SIDE, np.random.default_rng(3))).rgb
    other = np.roll(rgb, (6, -9), axis=(0, 1))[..., ::-1]  # moved, and in other colours
    return Files(
        "S1",
        "A1",
        _write(folder / "he.tif", rgb),
        {"KI67": _write(folder / "ki.tif", np.ascontiguousarray(other))},
    )


CONFIG = StainingConfig(region_pixels=256, regions=2, resolution_um=0.5)


@pytest.fixture(scope="module")
def made(files: Files) -> Made:
    return make_regions(files, CONFIG)


def test_regions_are_cut_where_the_target_lies_on_the_source(made: Made, files: Files) -> None:
    assert len(made.regions) == 2
    whole = tifffile.imread(files.source[0])
    for region in made.regions:
        pair = region.pair
        place = np.s_[region.top : region.top + region.side, region.left : region.left + region.side]
        assert np.array_equal(pair.source, whole[place])
        inner = np.s_[16:-16, 16:-16]
        back = pair.targets["KI67"][..., ::-1].astype(int)
        moved = np.abs(back - pair.source)[inner][pair.valid[inner]].mean()
        unmoved = np.abs(np.roll(whole, (6, -9), axis=(0, 1))[place].astype(int) - pair.source)[inner].mean()
        assert moved < 0.35 * unmoved
    row = made.errors[0]
    assert row["refused"] is None
    assert float(str(row["after_p50_um"])) < 1 < float(str(row["before_p50_um"]))


def test_without_registration_slides_are_taken_as_they_lie(files: Files) -> None:
    made = make_regions(files, replace_config(register_pairs=False))
    target = tifffile.imread(files.targets["KI67"][0])
    region = made.regions[0]
    place = np.s_[region.top : region.top + region.side, region.left : region.left + region.side]
    assert np.array_equal(region.pair.targets["KI67"], target[place])
    assert region.error_um is None and made.errors == ()


def test_a_slide_that_was_generated_is_refused_unless_that_is_meant(files: Files, tmp_path: Path) -> None:
    from clinimm.modalities.synthetic import Provenance

    rgb = tifffile.imread(files.targets["KI67"][0])
    marked = replace(
        files, targets={"KI67": _write(tmp_path / "made.tif", rgb, Provenance(stain="KI67").mark)}
    )
    refused = make_regions(marked, replace_config(register_pairs=False))
    assert refused.regions == () and [one.code for one in refused.refusals] == ["synthetic-image"]
    meant = make_regions(marked, replace_config(register_pairs=False, allow_synthetic_input=True))
    assert all(region.pair.synthetic for region in meant.regions)


def test_glass_is_refused_with_a_reason(files: Files, tmp_path: Path) -> None:
    glass = _write(tmp_path / "glass.tif", np.full((SIDE, SIDE, 3), 244, np.uint8))
    found = make_regions(replace(files, source=glass), replace_config(register_pairs=False))
    assert found.regions == () and [one.code for one in found.refusals] == ["no-tissue"]


def test_what_was_registered_once_is_not_registered_again(
    files: Files, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(region_cache, "make_regions", lambda *_: made)
    first = cached_regions(files, tmp_path, CONFIG, 0)

    def again(*_: object) -> Made:
        raise AssertionError("registered again")

    monkeypatch.setattr(region_cache, "make_regions", again)
    other = replace(files, subject_id="S2")
    second = cached_regions(other, tmp_path, CONFIG, 0)
    assert [one.pair.subject_id for one in second.regions] == ["S2"] * len(first.regions)
    assert all(
        np.array_equal(a.pair.targets["KI67"], b.pair.targets["KI67"])
        for a, b in zip(first.regions, second.regions, strict=True)
    )
    assert second.errors[0]["after_p50_um"] == made.errors[0]["after_p50_um"]
    with pytest.raises(AssertionError, match="registered again"):
        cached_regions(files, tmp_path, replace_config(region_pixels=128), 0)


def test_regions_come_back_from_disk_as_they_were(made: Made, tmp_path: Path) -> None:
    write_regions(tmp_path, made.regions)
    store = PairStore(tmp_path)
    assert store.subjects == {"S1"} and store.places(["nobody"]) == []
    for place, region in enumerate(made.regions):
        back = store.at(place)
        assert (back.left, back.top, back.side, back.digest) == (
            region.left,
            region.top,
            region.side,
            region.digest,
        )
        assert back.error_um == pytest.approx(region.error_um)
        assert np.array_equal(back.pair.source, region.pair.source)
        assert np.array_equal(back.pair.valid, region.pair.valid)


def replace_config(**changes: object) -> StainingConfig:
    return CONFIG.model_copy(update=changes)
