"""Stain pairs as public sets hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clinimm.core.errors import DataError
from clinimm.datasets.stain_pairs import PANELS, read_he_ihc, read_panels, warp_gap


def save(path: Path, image: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return image


def noise(seed: int, rows: int = 24, columns: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (rows, columns, 3), dtype=np.uint8)


def test_each_panel_gets_its_stain_and_the_drawing_is_left_out(tmp_path: Path) -> None:
    row = save(tmp_path / "b.png", noise(0, 8, 48))
    save(tmp_path / "a.png", noise(1, 8, 48))
    found = read_panels(tmp_path)
    first, second = found.images
    assert np.array_equal(second.source, row[:, :8]) and second.source_stain == "IHC"
    assert list(second.targets) == ["HEMATOXYLIN", "DAPI", "LAP2", "MARKER"]
    for place, name in enumerate(PANELS[1:-1], start=1):
        assert np.array_equal(second.targets[name], row[:, 8 * place : 8 * place + 8])
        assert second.known[name].all()
    assert (first.subject, second.subject) == ("subject 1", "subject 2") and not found.refusals


def test_a_file_that_is_no_row_of_panels_is_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(0, 8, 47))
    (tmp_path / "b.png").write_bytes(b"no image")
    save(tmp_path / "c.png", noise(0, 8, 48))
    (tmp_path / "notes.txt").write_text("not looked at")
    found = read_panels(tmp_path)
    assert [(one.file, one.code) for one in found.refusals] == [
        ("a.png", "not-panels"),
        ("b.png", "unreadable"),
    ]
    assert "8 x 47" in found.refusals[0].reason and "8 x 48" in found.refusals[0].reason
    assert [one.subject for one in found.images] == ["subject 3"]


@pytest.mark.parametrize("read", [read_panels, read_he_ihc])
def test_a_folder_without_the_layout_is_a_named_error(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(DataError, match="is no folder"):
        read(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no image with the layout"):
        read(tmp_path)


def test_stains_beside_the_same_source_become_targets_of_one_subject(tmp_path: Path) -> None:
    source = noise(0)
    for stain, seed in (("ki67", 1), ("cd31", 2)):
        save(tmp_path / f"block_a_{stain}_HE.png", source)
        save(tmp_path / f"block_a_{stain}_IHC.png", noise(seed))
    save(tmp_path / "block_b_ki67_HE.png", noise(3))
    save(tmp_path / "block_b_ki67_IHC.png", noise(4))
    first, second = read_he_ihc(tmp_path).images
    assert (first.subject, second.subject) == ("subject 1", "subject 2")
    assert np.array_equal(first.source, source)
    assert np.array_equal(first.targets["KI67"], noise(1)) and np.array_equal(first.targets["CD31"], noise(2))
    assert list(second.targets) == ["KI67"]


def test_another_section_of_a_block_stays_apart_and_keeps_the_subject(tmp_path: Path) -> None:
    for stain, seed in (("ki67", 1), ("cd31", 2)):
        save(tmp_path / f"block_{stain}_HE.png", noise(10 + seed))
        save(tmp_path / f"block_{stain}_IHC.png", noise(seed))
    found = read_he_ihc(tmp_path).images
    assert [one.subject for one in found] == ["subject 1", "subject 1"]
    assert len({one.specimen for one in found}) == 2


def test_a_source_without_its_partner_is_listed(tmp_path: Path) -> None:
    for name in ("a_ki67_HE", "a_cd31_HE", "a_cd31_IHC"):
        save(tmp_path / f"{name}.png", noise(0))
    found = read_he_ihc(tmp_path)
    assert [one.code for one in found.refusals] == ["no-partner"]
    assert list(found.images[0].targets) == ["CD31"]


def test_the_gap_of_a_warp_is_white_at_the_edge_and_glass_is_not() -> None:
    image = noise(0, 40, 40)
    image[:6] = 255  # the warp left nothing here
    image[20:30, 20:30] = 255  # glass in the middle
    gap = warp_gap(image)
    assert gap[:6].all() and not gap[6:].any()
    assert not warp_gap(noise(0, 40, 40)).any()


def test_no_file_name_reaches_the_pairs(tmp_path: Path) -> None:
    save(tmp_path / "doe_john.png", noise(0, 8, 48))
    one = read_panels(tmp_path).images[0]
    assert "doe" not in one.subject + one.specimen


def test_the_licensed_sets_have_the_layouts(test_data: Path) -> None:
    panels = read_panels(test_data / "stains" / "deepliif" / "train")
    assert len(panels.images) == 2 and not panels.refusals
    assert {image.shape for one in panels.images for image in one.targets.values()} == {(512, 512, 3)}
    (lesion,) = read_he_ihc(test_data / "stains" / "lesion_he_ihc").images
    assert sorted(lesion.targets) == ["CD31", "KI67"]
    assert all(0.8 < known.mean() < 1 for known in lesion.known.values())
