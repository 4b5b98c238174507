"""One whole run for virtual staining on a simulated hospital: every stage, small and real."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clinimm.config import PipelineConfig, load_pipeline
from clinimm.core.errors import ModelError
from clinimm.modalities.pathology.synthetic import is_synthetic
from clinimm.pipeline import run_pipeline
from clinimm.progress import QUIET
from clinimm.simulate.hospital import simulate
from clinimm.staining.pair_store import PairStore
from clinimm.staining.prediction_store import Results
from clinimm.staining.stain_file import StainRequest, stain_file
from clinimm.staining.stainer import Stainer
from clinimm.workspace import Workspace

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
    assert registration["version"] == 1
    assert (registration["alias"] == "candidate") == (audit["exit_status"] == 0)
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
    stain_file(replace(request, despite_verdict=True))
    assert is_synthetic(request.out) is not None
