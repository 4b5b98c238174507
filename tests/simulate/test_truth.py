from clinimm.config import IngestConfig
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.ingest.reading import TRUTH_SCHEMA
from clinimm.ingest.stage import ingest
from clinimm.modalities import all_modalities
from clinimm.progress import QUIET
from clinimm.simulate.bayes import bayes_auroc
from clinimm.simulate.hospital import find_scenario
from clinimm.sources.local import LocalSource
from clinimm.sources.memory import MemorySource


def test_the_truth_states_what_was_planted_and_the_limits(hospital):
    truth = hospital.truth
    assert truth["scenario"] == "mixed"
    assert truth["subjects"] == len(truth["patients"])
    assert truth["bayes_auroc"]["radiology"] == round(bayes_auroc(find_scenario("mixed"))["radiology"], 6)
    assert truth["effects"]["crp_mg_per_l_median_and_log_sd"]["present"][0] > 100


def test_presence_agrees_with_files_and_times(hospital):
    for patient in hospital.patients.values():
        index = patient["index_time"]
        assert (index is not None) == patient["present"]["film"] == bool(patient["films"])
        if index is None:
            continue
        slide = patient["slide"]
        assert (slide is not None and slide["time"] <= index) == patient["present"]["slide"]
        assert any(note["time"] <= index for note in patient["notes"]) == patient["present"]["note"]
        known = [lab for lab in patient["labs"] if lab["factor"] == "inflamed"]
        assert bool(known) == patient["present"]["crp"]
        assert all(lab["issued"] <= index for lab in known)
        assert all(lab["issued"] > index for lab in patient["labs"] if lab["factor"] == "late")


def test_flaws_are_in_the_export_as_told(hospital):
    listed = [o["id"] for o in hospital.lines("Observation")]
    repeated = [i for p in hospital.patients.values() for i in p["flaws"]["repeated_in_export"]]
    assert sorted(i for i in set(listed) if listed.count(i) > 1) == sorted(repeated)
    wrong = [i for p in hospital.patients.values() for i in p["flaws"]["entered_in_error"]]
    marked = [o["id"] for o in hospital.resources("Observation") if o["status"] == "entered-in-error"]
    assert sorted(marked) == sorted(wrong)


def test_copied_films_are_identical(hospital):
    copies = [path for p in hospital.patients.values() for path in p["flaws"]["copied_files"]]
    for path in copies:
        original = hospital.folder / path.replace("_copy", "")
        assert (hospital.folder / path).read_bytes() == original.read_bytes()


def test_ingest_leaves_the_truth_out_and_refuses_nothing_of_the_demo(hospital, tmp_path):
    source = LocalSource(hospital.folder)
    names = [file.path for file in source.files()]
    assert "truth.json" in names
    notes = ingest(
        [source], all_modalities(), IngestConfig(workers=1), Pseudonymiser(bytes(16)), tmp_path, QUIET
    )
    assert notes["refusals_by_code"] == {}
    assert notes["dropped"]["simulated-truth"] == 1
    assert hospital.truth["schema"] == TRUTH_SCHEMA
    tampered = MemorySource({"other.json": b'{"schema": "clinimm.other/1"}'})
    read = ingest(
        [tampered], all_modalities(), IngestConfig(workers=1), Pseudonymiser(bytes(16)), tmp_path, QUIET
    )
    assert read["refusals_by_code"] == {"not-fhir": 1}
