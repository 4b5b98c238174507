from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clinimm.core.errors import ConfigError
from clinimm.core.record import digest_tree
from clinimm.simulate import hospital as room
from clinimm.simulate.hospital import find_scenario, simulate, write_hospital

_SMALL = replace(find_scenario("synergy"), film_pixels=64, slide_pixels=1024)


def _written(folder: Path, subjects: int, workers: int = 1, seed: int = 3) -> Path:
    folder.mkdir()
    write_hospital(folder, _SMALL, subjects, seed, workers=workers)
    return folder


def test_the_same_arguments_give_the_same_bytes_in_any_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_PARALLEL_FROM", 2)
    alone = digest_tree(_written(tmp_path / "alone", 9))
    assert len(alone) > 20
    assert digest_tree(_written(tmp_path / "together", 9, workers=2)) == alone


def test_another_seed_is_another_hospital(tmp_path):
    ours = digest_tree(_written(tmp_path / "ours", 3))
    theirs = digest_tree(_written(tmp_path / "theirs", 3, seed=4))
    assert not {p for p in ours if p.startswith("dicom/")} & {p for p in theirs if p.startswith("dicom/")}


def test_a_patient_is_the_same_in_hospitals_of_any_size(tmp_path):
    few, many = _written(tmp_path / "few", 3), _written(tmp_path / "many", 5)
    of_many = digest_tree(many)
    for path, digest in digest_tree(few).items():
        if path.startswith(("dicom/", "slides/", "notes/", "fhir/bundles/")):
            assert of_many[path] == digest
    patients = [json.loads((folder / "truth.json").read_text())["patients"] for folder in (few, many)]
    assert patients[0].items() <= patients[1].items()
    bulk = [(folder / "fhir" / "Observation.ndjson").read_bytes() for folder in (few, many)]
    assert bulk[1].startswith(bulk[0])


def test_simulating_again_replaces_the_hospital_and_keeps_other_files(tmp_path):
    out = tmp_path / "out"
    simulate(out, 3, 1)
    before = digest_tree(out)
    (out / "fhir" / "stale.ndjson").write_text("{}")
    (out / "mine.yaml").write_text("name: mine")
    simulate(out, 3, 1)
    assert digest_tree(out) == before | {"mine.yaml": digest_tree(out)["mine.yaml"]}
    assert not list(tmp_path.glob(".*partial"))


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "thesis.docx").write_text("precious")
    with pytest.raises(ConfigError, match="not empty"):
        simulate(tmp_path, 3, 1)
    assert (tmp_path / "thesis.docx").read_text() == "precious"


def test_a_killed_run_leaves_no_half_hospital(tmp_path, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(room, "hospital_truth", stop)
        with pytest.raises(KeyboardInterrupt):
            simulate(tmp_path / "out", 2, 1)
    assert not (tmp_path / "out").exists()
    simulate(tmp_path / "out", 2, 1)
    assert (tmp_path / "out" / "truth.json").is_file()


@pytest.mark.parametrize(
    ("subjects", "seed", "scenario", "message"),
    [
        (0, 1, "null", "expected 1 to"),
        (3, -1, "null", "seed -1"),
        (3, 1, "sinergy", r"unknown scenario 'sinergy'; known are synergy, redundant"),
    ],
)
def test_wrong_arguments_say_what_was_expected(tmp_path, subjects, seed, scenario, message):
    with pytest.raises(ConfigError, match=message):
        simulate(tmp_path / "out", subjects, seed, scenario)
