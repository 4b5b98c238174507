import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from clinimm.cli.app import run
from clinimm.core.errors import ConfigError, InputRejected
from clinimm.core.record import digest_file
from clinimm.modalities.pathology.slide import open_slide
from clinimm.modalities.synthetic import Provenance
from clinimm.staining.register_files import Request, register_files
from tests.staining.registration_toy import UM, toy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides, landmarks, and what the verb made of them."""
    root = tmp_path_factory.mktemp("register")
    pair = toy()
    Image.fromarray(pair.source).save(root / "he.png")
    Image.fromarray(pair.target).save(root / "ki67.png")
    Image.fromarray(np.full_like(pair.source, 243)).save(root / "blank.png")
    rows = np.hstack([pair.source_points, pair.target_points])
    np.savetxt(
        root / "points.csv",
        rows,
        delimiter=",",
        header="source_x_um,source_y_um,target_x_um,target_y_um",
        comments="",
    )
    options = ["--out", str(root / "out"), "--mpp-um", str(UM), "--landmarks", str(root / "points.csv"), "-q"]
    code = run(["register-stains", str(root / "he.png"), str(root / "ki67.png"), *options])
    assert code == 0
    return root


def test_the_record_has_maps_errors_and_digests(folder: Path) -> None:
    record = json.loads((folder / "out" / "registration.json").read_text())
    assert record["refused"] is None
    assert record["landmarks_before"]["p50_um"] > 15
    assert record["landmarks_after"]["p50_um"] < 0.8
    assert record["landmarks_after"]["places"] == len(toy().source_points)
    assert record["after"]["judged"] >= 5
    assert record["source"]["sha256"] == digest_file(folder / "he.png")
    assert record["seed"] == 0
    assert record["code_version"]
    for name, digest in record["outputs"].items():
        assert digest_file(folder / "out" / name) == digest
    assert "he.png" not in json.dumps(record)


def test_the_written_map_is_the_one_that_was_judged(folder: Path) -> None:
    record = json.loads((folder / "out" / "registration.json").read_text())
    displacement = np.load(folder / "out" / "displacement.npy", allow_pickle=False)
    affine, spacing = record["maps"]["affine"], record["maps"]["displacement"]["spacing_um"]
    pair = toy()
    nodes = np.rint(pair.source_points / spacing).astype(int)
    moved = pair.source_points @ np.array(affine["matrix"]).T + np.array(affine["offset_um"])
    moved = moved + displacement[nodes[:, 1], nodes[:, 0]]
    assert np.median(np.linalg.norm(moved - pair.target_points, axis=-1)) < 1.0


def test_the_warped_slide_opens_with_its_resolution_on_the_sources_grid(folder: Path) -> None:
    path = folder / "out" / "warped.ome.tif"
    pair = toy()
    with open_slide(path) as slide:
        assert slide.dimensions == pair.source.shape[1::-1]
        assert slide.resolution.um_per_pixel == pytest.approx(UM)
    moved = tifffile.imread(path)
    valid = (moved < 250).any(axis=-1)
    assert np.corrcoef(moved[..., 0][valid], pair.source[..., 0][valid])[0, 1] > 0.7


def test_there_are_pictures_before_and_after(folder: Path) -> None:
    for name in ("before.png", "after.png"):
        image = np.asarray(Image.open(folder / "out" / name))
        assert image.shape == (320, 2 * 320 + 8, 3)
    shares = []
    for name in ("before.png", "after.png"):
        right = np.asarray(Image.open(folder / "out" / name))[60:-60, 320 + 68 : -60].astype(int)
        shares.append(np.abs(right[..., 0] - right[..., 1]).mean())  # green beside magenta
    assert shares[1] < 0.6 * shares[0]


def test_a_refused_pair_exits_2_and_leaves_no_warped_slide(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "warped.ome.tif").write_bytes(b"of an earlier run")
    files = [str(folder / "he.png"), str(folder / "blank.png")]
    code = run(["register-stains", *files, "--out", str(tmp_path), "--mpp-um", str(UM), "-q"])
    assert code == 2
    assert "Refused for training, no-tissue" in capsys.readouterr().out
    assert not (tmp_path / "warped.ome.tif").exists()
    assert json.loads((tmp_path / "registration.json").read_text())["refused"]["code"] == "no-tissue"


def test_a_file_without_a_resolution_names_the_option(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="--mpp-um") as refusal:
        register_files(Request(folder / "he.png", folder / "ki67.png", tmp_path))
    assert refusal.value.code == "no-resolution"


def test_a_generated_picture_is_not_registered(folder: Path, tmp_path: Path) -> None:
    marked = PngImagePlugin.PngInfo()
    marked.add_text("Description", Provenance(stain="KI67").mark)
    Image.fromarray(toy().target).save(tmp_path / "made.png", pnginfo=marked)
    with pytest.raises(InputRejected, match="generated") as refusal:
        register_files(Request(folder / "he.png", tmp_path / "made.png", tmp_path / "out", mpp_um=UM))
    assert refusal.value.code == "synthetic-input"


def test_what_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        register_files(Request(folder / "he.png", tmp_path / "none.svs", tmp_path, mpp_um=UM))
    with pytest.raises(ConfigError, match="a folder is written"):
        register_files(Request(folder / "he.png", folder / "ki67.png", folder / "he.png", mpp_um=UM))
