"""One whole run for virtual staining on a simulated hospital: every stage, small and real."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import tifffile
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from clinimm.config import PipelineConfig, load_pipeline
from clinimm.core.errors import DataError, IntegrityError, ModelError
from clinimm.core.record import digest_file
from clinimm.modalities.pathology.slide import open_slide
from clinimm.modalities.pathology.synthetic import is_synthetic
from clinimm.pipeline import run_pipeline
from clinimm.progress import QUIET
from clinimm.simulate.hospital import simulate
from clinimm.staining.pair_store import PairStore
from clinimm.staining.prediction_store import Result, Results
from clinimm.staining.provenance import verify_file
from clinimm.staining.stain_band import CELL_PIXELS
from clinimm.staining.stain_file import StainRequest, stain_file
from clinimm.staining.stainer import Stainer
from clinimm.staining.verdict import AS_REGISTERED
from clinimm.workspace import Workspace

pytestmark = pytest.mark.xdist_group("staining run")  # what all of them share is made once

PIPELINE = Path(__file__).parents[3] / "pipelines" / "virtual_staining.yaml"
SMALL = (
    "staining.register_pairs=false",  # registration has tests of its own, and takes seconds a pair
    "staining.regions=1",
    "staining.region_pixels=256",
    "staining.members=1",
    "staining.width=8",
    "staining.levels=3",
    "staining.steps=30",
    "staining.check_every=15",
    "staining.crop_pixels=64",
    "explain.subjects=1",
    "report.patients=1",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("staining")
    simulate(folder / "hospital", 12, 5, "stain_determined", QUIET)
    config = _config(folder)
    run_pipeline(config, progress=QUIET)
    return Workspace(config)


def _config(folder: Path, *more: str) -> PipelineConfig:
    places = [f"runs_dir={folder / 'runs'}", f"sources=[{{kind: local, root: {folder / 'hospital'}}}]"]
    return load_pipeline(PIPELINE, [*places, *SMALL, *more])


def test_held_out_subjects_are_stained_by_a_model_that_never_saw_them(finished: Workspace) -> None:
    splits = pd.read_parquet(finished.root / "cohort" / "splits.parquet")
    held_out = set(splits.loc[splits["split"] == "held_out", "subject_id"])
    results = Results(finished.root / "predict", PairStore(finished.root / "encode" / "pairs"))
    assert {one.region.pair.subject_id for one in results} == held_out
    trained = set(splits.loc[splits["split"].isin(["train", "tuning"]), "subject_id"])
    assert held_out.isdisjoint(trained)
    spec = Stainer.from_pretrained(finished.root / "train" / "model").spec
    assert spec.stains == ("KI67", "PANCK")
    learned = spec.provenance["training_subjects"] + spec.provenance["tuning_subjects"]
    assert learned == len(trained & PairStore(finished.root / "encode" / "pairs").subjects)


def test_every_stain_has_a_verdict_and_stands_beside_the_baselines(finished: Workspace) -> None:
    metrics = json.loads((finished.root / "evaluate" / "metrics.json").read_text())
    assert set(metrics["stains"]) == {"KI67", "PANCK"}
    for entry in metrics["stains"].values():
        assert entry["verdict"]["key"] in {"learnable", "not_learnable", "cannot_tell"}
        assert entry["registration_error_um"] is None
        assert AS_REGISTERED in entry["verdict"]["warnings"]
        assert entry["record_adds"]  # the ablation: with the record against pixels alone
        assert entry["safety"]["reliability"]
        planted = entry["safety"]["planted"]
        assert set(planted["planted"]) == {"pasted", "erased"}
        assert planted["outside"]["noise"]["value"] > 0.9  # noise is no tissue
    table = pd.read_parquet(finished.root / "evaluate" / "table.parquet")
    assert {"unet", "copy", "mean_colour", "quadratic", "deconvolution"} <= set(table["method"])


def test_psnr_in_the_table_is_that_of_the_images_on_disk(finished: Workspace) -> None:
    results = Results(finished.root / "predict", PairStore(finished.root / "encode" / "pairs"))
    found = []
    for one in results:
        pair = one.region.pair
        difference = one.made["KI67"].rgb[pair.valid].astype(float) - pair.targets["KI67"][pair.valid]
        found.append(10 * np.log10(255**2 / np.mean(difference**2)))
    table = pd.read_parquet(finished.root / "evaluate" / "table.parquet")
    row = table[(table["method"] == "unet") & (table["stain"] == "KI67") & (table["metric"] == "psnr")]
    assert row["value"].item() == pytest.approx(np.mean(found), abs=0.02)


def test_audit_manifest_and_registration_are_there(finished: Workspace) -> None:
    audit = json.loads((finished.root / "audit" / "audit.json").read_text())
    assert audit["verdict"] in {"passed", "broken", "undecided"}
    registration = json.loads((finished.root / "register" / "registration.json").read_text())
    assert registration["model_id"] is None and registration["run_id"]
    assert registration["candidate"] == (audit["exit_status"] == 0)
    manifest = json.loads((finished.root / "register" / "manifest.json").read_text())
    assert "evaluate/table.parquet" in manifest["manifest"]["files"]


def test_explanation_adds_up(finished: Workspace) -> None:
    entries = json.loads((finished.root / "explain" / "regions.json").read_text())
    assert {entry["stain"] for entry in entries} == {"KI67", "PANCK"}
    for entry in entries:
        facts = sum(fact["score"] for fact in entry["facts"])
        parts = (
            entry["baseline_amount"] + entry["from_pixels"] + facts + entry["presence"] + entry["residual"]
        )
        assert parts == pytest.approx(entry["amount"], abs=5e-3)  # the smallest facts are left out
        pixels = np.load(finished.root / "explain" / entry["pixels"])
        assert pixels.sum() == pytest.approx(entry["from_pixels"], abs=1e-4)


def test_a_stain_that_was_not_found_learnable_is_not_made(finished: Workspace, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.root / "train" / "model", run / "train" / "model")
    (run / "evaluate").mkdir()
    verdict = {"stains": {"KI67": {"verdict": {"key": "cannot_tell", "sentence": "Nobody knows."}}}}
    (run / "evaluate" / "metrics.json").write_text(json.dumps(verdict))
    slide = next((finished.root.parents[1] / "hospital" / "slides").glob("*/A1_HE.svs"))
    request = StainRequest(run, slide, tmp_path / "out.ome.tif", stain="KI67")
    with pytest.raises(ModelError, match="Nobody knows"):
        stain_file(request)
    assert not request.out.exists()
    dicom = replace(request, despite_verdict=True, out=tmp_path / "out", form="dicom")
    outcome = stain_file(dicom)
    assert is_synthetic(dicom.out) is not None
    said = "Made despite the verdict: Nobody knows."
    assert said in outcome.cautions.sentences
    assert said in pydicom.dcmread(dicom.out / "level-0.dcm", stop_before_pixels=True).DerivationDescription
    (run / "train" / "model" / "safety.json").unlink()
    with pytest.raises(ModelError, match=r"no safety\.json.*--without-safety-case"):
        stain_file(replace(request, despite_verdict=True, out=tmp_path / "unsafe.ome.tif"))


def _slide_of(finished: Workspace) -> tuple[Path, Result]:
    """The source slide of a held-out region."""
    results = Results(finished.root / "predict", PairStore(finished.root / "encode" / "pairs"))
    result = next(iter(results))
    slides = (finished.root.parents[1] / "hospital" / "slides").glob("*/*_HE.svs")
    return next(path for path in slides if digest_file(path) == result.region.digest), result


def _signer(finished: Workspace) -> Path:
    """The public key of who registered the run; each test has a home, and so a key, of its own."""
    signature = json.loads((finished.root / "register" / "manifest.json").read_text())["signature"]
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(signature["public_key"]))
    path = finished.root.parent / "signer.pub"
    path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def _request(finished: Workspace, slide: Path, out: Path, **changes: object) -> StainRequest:
    request = StainRequest(
        finished.root, slide, out, stain="KI67", despite_verdict=True, trusted_key=_signer(finished)
    )
    return replace(request, **changes)  # type: ignore[arg-type]  # any field may be changed


def test_error_map_of_a_slide_is_the_calibrated_one_that_the_region_page_shows(
    finished: Workspace, tmp_path: Path
) -> None:
    slide, result = _slide_of(finished)
    out = tmp_path / "out.ome.tif"
    outcome = stain_file(
        _request(finished, slide, out, subject_id=result.region.pair.subject_id, lossless=True)
    )
    with tifffile.TiffFile(out) as tiff:
        chart = (tiff.series[1].asarray().astype(float) - 1) / 65534
    halo = Stainer.from_pretrained(finished.root / "train" / "model").halo
    with open_slide(slide) as opened:
        scale = 0.5 / opened.mpp_um
    top, left = (round(place / scale) for place in (result.region.top, result.region.left))
    assert top % CELL_PIXELS == left % CELL_PIXELS == 0
    shown = result.made["KI67"].expected_error
    side = len(shown) // CELL_PIXELS
    cells = shown.reshape(side, CELL_PIXELS, side, CELL_PIXELS).mean(axis=(1, 3))
    inner = -(-halo // CELL_PIXELS)  # nearer to its edge a region sees less than the slide
    assert side - 2 * inner >= 2
    first = (top // CELL_PIXELS, left // CELL_PIXELS)
    found = chart[first[0] : first[0] + side, first[1] : first[1] + side]
    part = (slice(inner, -inner), slice(inner, -inner))
    np.testing.assert_allclose(found[part], cells[part], atol=1e-3)  # a region keeps thousandths
    assert outcome.stained.calibrated and outcome.cautions.record == "of this slide"
    assert outcome.cautions.registered and outcome.cautions.trained_on_synthetic
    assert "Training pairs were taken as registered; no error was measured." in outcome.cautions.sentences
    signed = verify_file(out).manifest
    assert signed is not None and signed["cautions"]["trained_on_synthetic"] is True
    assert signed["settings"]["notes"] == ["VERDICT OVERRIDDEN", "TRAINED ON SYNTHETIC"]


def test_pen_on_a_slide_is_refused_as_pen(finished: Workspace, tmp_path: Path) -> None:
    slide, _ = _slide_of(finished)
    with open_slide(slide) as opened:
        um, (width, height) = opened.mpp_um, opened.dimensions
        pixels = opened.read_region(0, (0, 0, width, height)).copy()
    stroke = round(150 / um)  # from edge to edge, and wide enough that tiles lie under it as a whole
    middle = width // 2
    pixels[:, middle - stroke // 2 : middle + stroke // 2] = (30, 30, 35)
    inked = tmp_path / "inked.tif"
    resolution = (10_000 / um, 10_000 / um)
    tifffile.imwrite(
        inked, pixels, tile=(256, 256), photometric="rgb", resolution=resolution, resolutionunit="CENTIMETER"
    )
    before, after = (
        stain_file(_request(finished, path, tmp_path / f"{path.stem}.ome.tif")).stained
        for path in (slide, inked)
    )
    assert before.refused_tiles.get("pen", 0) == 0
    assert after.refused_tiles["pen"] >= 3
    # No ink passes for bare glass.
    cells = after.uncertainty[:, round(middle * um / 0.5) // CELL_PIXELS]
    assert np.isfinite(cells).all()


def test_a_record_of_somebody_else_is_not_read_for_a_known_slide(finished: Workspace, tmp_path: Path) -> None:
    slide, result = _slide_of(finished)
    subjects = PairStore(finished.root / "encode" / "pairs").subjects - {result.region.pair.subject_id}
    other, out = sorted(subjects)[0], tmp_path / "out.ome.tif"
    with pytest.raises(DataError, match="another subject's"):
        stain_file(_request(finished, slide, out, subject_id=other))
    assert not out.exists()
    # Elsewhere, and with one more byte, the run does not know it.
    unknown = tmp_path / "slide.svs"
    unknown.write_bytes(slide.read_bytes() + b"\0")
    chosen = stain_file(_request(finished, unknown, out, subject_id=other)).cautions
    assert chosen.record == "chosen by the user"
    assert stain_file(_request(finished, unknown, tmp_path / "b.ome.tif")).cautions.record == "none given"


@pytest.mark.parametrize("name", ["train/model/safety.json", "evaluate/metrics.json"])
def test_a_registered_run_stains_only_as_it_was_signed(
    finished: Workspace, tmp_path: Path, name: str
) -> None:
    slide, _ = _slide_of(finished)
    run = tmp_path / "run"
    for part in ("train/model", "register"):
        shutil.copytree(finished.root / part, run / part)
    (run / "evaluate").mkdir()
    for file in ("evaluate/metrics.json", "pipeline.yaml"):
        shutil.copyfile(finished.root / file, run / file)
    value = json.loads((run / name).read_text())
    (run / name).write_text(json.dumps(value, indent=3))
    for given in (run, run / "train" / "model"):
        with pytest.raises(IntegrityError, match=name):
            stain_file(replace(_request(finished, slide, tmp_path / "out.ome.tif"), run=given))


def test_a_run_on_simulated_slides_says_so_wherever_it_speaks(finished: Workspace) -> None:
    spec = Stainer.from_pretrained(finished.root / "train" / "model").spec
    assert spec.provenance["trained_on_synthetic"] is True
    assert PairStore(finished.root / "encode" / "pairs").table["simulated"].all()
    page = (finished.root / "report" / "index.html").read_text(encoding="utf-8")
    assert "trained on synthetic images" in page


def test_the_run_says_what_refusal_will_cost_a_new_subject(finished: Workspace) -> None:
    metrics = json.loads((finished.root / "evaluate" / "metrics.json").read_text())
    for entry in metrics["stains"].values():
        (fit,) = entry["safety"]["refusal"]
        assert fit["aim"] == 0.05 and fit["tiles"] > 0
        left_out = fit["left_out"]
        assert left_out["promised"] == pytest.approx(1 / (left_out["subjects"] + 1))
    page = (finished.root / "report" / "index.html").read_text(encoding="utf-8")
    assert "Of a tuning subject whom they left out they refuse" in page
