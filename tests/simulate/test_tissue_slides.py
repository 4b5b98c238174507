"""Hospitals with paired stains: files, record and truth agree, and ingest takes all of them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
from skimage.color import rgb2hed

from clinimm.config import IngestConfig
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.core.record import digest_tree
from clinimm.ingest.stage import ingest
from clinimm.modalities import all_modalities
from clinimm.progress import QUIET
from clinimm.simulate.hospital import find_scenario, write_hospital
from clinimm.simulate.misregister import offset_field
from clinimm.simulate.scenario import Scenario
from clinimm.simulate.subject import draw_subject
from clinimm.simulate.tissue_slides import draw_block, plan_block
from clinimm.sources.local import LocalSource

_SUBJECTS, _SEED = 5, 3
_NAMES = ("stain_determined", "stain_undetermined", "stain_by_record")


def _small(name: str) -> Scenario:
    scenario = find_scenario(name)
    assert scenario.stains is not None
    return replace(scenario, stains=replace(scenario.stains, pixels=256, artefacts=0.4))


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    found = {}
    for name in _NAMES:
        folder = tmp_path_factory.mktemp(name)
        write_hospital(folder, _small(name), _SUBJECTS, _SEED)
        found[name] = folder, json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    return found


def _slides(truth: dict[str, Any]) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    return [
        (key, patient, slide)
        for key, patient in truth["patients"].items()
        for slide in patient["block"]["slides"]
    ]


def _pixels(path: Path) -> np.ndarray:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))


def test_openslide_opens_every_slide_and_finds_what_the_truth_states(hospitals):
    folder, truth = hospitals["stain_determined"]
    suffixes = set()
    for key, patient, told in _slides(truth):
        parts = told["file"].split("/")
        suffixes.add(parts[2].split(".")[1])
        assert parts[:2] == ["slides", key]
        assert parts[2].startswith(f"A1_{told['stain']}.")
        with openslide.OpenSlide(folder / told["file"]) as slide:
            assert slide.dimensions == (256, 256)
            assert slide.level_count == 3
            assert float(slide.properties["openslide.mpp-x"]) == patient["block"]["um_per_pixel"]
            if parts[2].endswith("svs"):
                assert slide.properties["aperio.ScanScope ID"] == told["scanner"]
                stamp = f"{slide.properties['aperio.Date']} {slide.properties['aperio.Time']}"
                found = datetime.strptime(stamp, "%m/%d/%y %H:%M:%S")
            else:
                found = datetime.strptime(slide.properties["tiff.DateTime"], "%Y:%m:%d %H:%M:%S")
            assert f"{found:%Y-%m-%dT%H:%M:%S}Z" == told["time"]
    assert suffixes == {"svs", "tiff"}


def test_the_h_and_e_is_the_index_and_the_stains_come_a_day_later(hospitals):
    for _, truth in hospitals.values():
        for key, patient, told in _slides(truth):
            after = datetime.fromisoformat(told["time"]) - datetime.fromisoformat(patient["index_time"])
            if told["stain"] == "HE":
                assert after == timedelta(0), key
            else:
                assert timedelta(hours=19) < after < timedelta(hours=29)
        assert not any(patient["films"] or patient["slide"] for patient in truth["patients"].values())


def test_the_table_of_nuclei_is_the_drawn_tissue_and_the_truth_counts_it(hospitals):
    name = "stain_by_record"
    folder, truth = hospitals[name]
    for number, (key, patient) in enumerate(truth["patients"].items()):
        block = patient["block"]
        table = json.loads((folder / block["nuclei_file"]).read_text())["nuclei"]
        drawn = draw_block(_small(name).stains, draw_subject(_small(name), _SEED, number))
        assert drawn.table_path == f"truth/{key}.json"
        assert np.allclose(table["column"], drawn.tissue.nuclei.column, atol=1e-3)
        assert {t: table["type"].count(t) for t in sorted(set(table["type"]))} == block["nuclei_by_type"]
        for told in block["slides"][1:]:
            positive = table[f"{told['stain']}_positive"]
            assert told["positivity_index"] == pytest.approx(np.mean(positive), abs=1e-6)
            grades = np.digitize(table[f"{told['stain']}_intensity"], (0.2, 0.4, 0.6))
            assert told["h_score"] == pytest.approx(100 * grades.mean(), abs=1e-3)
            assert told["nuclei"] == len(positive) == block["nuclei"]


def test_the_file_s_pixels_have_the_stained_area_of_the_truth(hospitals):
    """Of stains without artefacts, with JPEG and the site's colours in between."""
    folder, truth = hospitals["stain_determined"]
    told = [slide for _, _, slide in _slides(truth) if slide["stain"] != "HE" and not slide["artefacts"]]
    measured = [
        (rgb2hed(_pixels(folder / slide["file"]))[..., 2] * 6 > slide["stained_from_density"]).mean()
        for slide in told
    ]
    planted = [slide["stained_share"] for slide in told]
    assert len(told) >= 4
    assert np.corrcoef(measured, planted)[0, 1] > 0.97
    assert np.abs(np.subtract(measured, planted)).max() < 0.06


def test_landmarks_agree_with_the_stated_movement(hospitals):
    _, truth = hospitals["stain_determined"]
    scenario = _small("stain_determined")
    for number, patient in enumerate(truth["patients"].values()):
        plan = plan_block(scenario.stains, draw_subject(scenario, _SEED, number))
        for told, stain in zip(patient["block"]["slides"][1:], plan.stains, strict=True):
            pairs = np.array([(mark["he"], mark["stain"]) for mark in told["landmarks"]])
            near = np.round(pairs[:, 1]).astype(int)
            offset = offset_field(stain.move, plan.pixels, plan.um_per_pixel)[:, near[:, 1], near[:, 0]].T
            assert np.abs(pairs[:, 0] - pairs[:, 1] - offset).max() < 0.15
            assert 2 < told["misregistration"]["mean_um"] <= told["misregistration"]["largest_um"] < 15


def test_scenarios_share_their_h_and_e_and_differ_in_the_stain(hospitals):
    trees = {name: digest_tree(folder) for name, (folder, _) in hospitals.items()}
    ours, theirs = trees["stain_determined"], trees["stain_undetermined"]
    slides = [path for path in ours if path.startswith("slides/")]
    assert len(slides) == 3 * _SUBJECTS
    assert all((ours[path] == theirs[path]) == ("_HE." in path) for path in slides)


def test_the_fact_is_in_the_record_before_the_h_and_e(hospitals):
    _, truth = hospitals["stain_by_record"]
    facts = []
    for patient in truth["patients"].values():
        fact = patient["block"]["fact"]
        facts.append(fact["present"])
        assert fact["present"] == patient["factors"]["inflamed"] == patient["factors"]["distress"]
        known = [lab for lab in patient["labs"] if lab["factor"] == "inflamed"]
        assert known
        assert all(lab["issued"] < patient["index_time"] for lab in known)
        assert all((lab["usual_value"] > 30) == fact["present"] for lab in known)
    assert len(set(facts)) == 2


def test_a_planted_artefact_is_in_the_truth_with_its_box(hospitals):
    _, truth = hospitals["stain_determined"]
    artefacts = [artefact for _, _, slide in _slides(truth) for artefact in slide["artefacts"]]
    assert artefacts
    for artefact in artefacts:
        left, top, right, bottom = artefact["box"]
        assert 0 <= left < right <= 256
        assert 0 <= top < bottom <= 256
        assert 0 < artefact["share"] <= (right - left) * (bottom - top) / 256**2 + 1e-6


def test_ingest_links_every_slide_and_leaves_the_truth_out(hospitals, tmp_path):
    folder, truth = hospitals["stain_by_record"]
    notes = ingest(
        [LocalSource(folder)],
        all_modalities(),
        IngestConfig(workers=1),
        Pseudonymiser(bytes(16)),
        tmp_path,
        QUIET,
    )
    assert notes["refusals_by_code"] == {}
    assert notes["dropped"]["simulated-truth"] == 1 + len(truth["patients"])


def test_knobs_of_stains_are_told_only_where_there_are_any(hospitals, hospital):
    assert hospitals["stain_determined"][1]["knobs"]["stains"]["pixels"] == 256
    assert "stains" not in hospital.truth["knobs"]
    assert not any("block" in patient for patient in hospital.patients.values())


def test_the_limits_of_the_outcome_are_chance(hospitals):
    for _, truth in hospitals.values():
        assert set(truth["bayes_auroc"].values()) == {0.5}
