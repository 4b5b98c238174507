import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from clinimm.config import IngestConfig, PipelineConfig, SourceConfig
from clinimm.core.errors import ConfigError
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.core.record import digest_tree
from clinimm.ingest.stage import ingest, run
from clinimm.ingest.tables import EVENT_SCHEMA
from clinimm.modalities import all_modalities
from clinimm.modality import Modality
from clinimm.progress import QUIET
from clinimm.sources.base import Opener, Source
from clinimm.sources.local import LocalSource
from clinimm.sources.memory import MemorySource
from clinimm.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parent))
from toy_reader import TOY  # importlib mode puts no test folder on the path

_PSEUDONYMS = Pseudonymiser(b"0123456789abcdef")
_LOINC = "http://loinc.org"
Json = dict[str, Any]
Ingest = Callable[..., "Result"]


class Result:
    def __init__(self, folder: Path, notes: dict[str, Any]) -> None:
        self.folder, self.notes = folder, notes
        self.events = pd.read_parquet(folder / "events.parquet")
        self.refusals = pd.read_parquet(folder / "refusals.parquet")
        self.subjects = pd.read_parquet(folder / "subjects.parquet")

    @property
    def codes(self) -> list[str]:
        return sorted(set(self.events["code"]) - {"DEMOGRAPHIC//sex", "DEMOGRAPHIC//age_years"})


@pytest.fixture
def run_ingest(tmp_path: Path) -> Ingest:
    def call(
        content: Mapping[str, bytes | Json] | Source,
        *more: Source,
        out: str = "out",
        modalities: Mapping[str, Modality] | None = None,
        **rules: Any,
    ) -> Result:
        settings = IngestConfig(**({"workers": 1} | rules))
        sources = [content if not isinstance(content, Mapping) else MemorySource(_bytes(content)), *more]
        folder = tmp_path / out
        folder.mkdir(exist_ok=True)
        table = modalities if modalities is not None else {"toy": TOY} | all_modalities()
        return Result(folder, ingest(sources, table, settings, _PSEUDONYMS, folder, QUIET))

    return call


def _bytes(content: Mapping[str, bytes | Json]) -> dict[str, bytes]:
    return {
        name: data if isinstance(data, bytes) else json.dumps(data).encode() for name, data in content.items()
    }


def patient(key: str = "p1", value: str = "MRN0001", **fields: Any) -> Json:
    return {
        "resourceType": "Patient",
        "id": key,
        "identifier": [{"system": "urn:oid:1.2", "value": value}],
    } | fields


def observation(name: str = "o1", who: str = "p1", **fields: Any) -> Json:
    base: Json = {
        "resourceType": "Observation", "id": name, "status": "final",
        "code": {"coding": [{"system": _LOINC, "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{who}"}, "valueInteger": 70,
        "effectiveDateTime": "2020-05-01T08:00:00Z",
    }  # fmt: skip
    return base | fields


def ndjson(*resources: Json) -> bytes:
    return b"\n".join(json.dumps(resource).encode() for resource in resources)


def toy(
    who: str = "MRN0001", code: str = "TOY//1", value: int = 1, at: str = "2020-05-02T00:00:00+00:00"
) -> bytes:
    return f"{who} {at} {code} {value}".encode()


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_events_have_the_promised_schema_and_order(run_ingest: Ingest) -> None:
    result = run_ingest({"a.ndjson": ndjson(patient(gender="female"), observation()), "b.toy": toy()})
    table = pq.read_table(result.folder / "events.parquet")
    assert table.schema.equals(EVENT_SCHEMA)
    assert list(table["code"].to_pylist()) == ["DEMOGRAPHIC//sex", "LOINC//8867-4", "TOY//1"]
    assert len(set(result.events["subject_id"])) == 1
    ordered = result.events.sort_values(["subject_id", "time", "code"], kind="stable")
    pd.testing.assert_frame_equal(ordered, result.events)


def test_an_event_of_a_file_has_its_digest_and_a_sealed_uri_that_opens(run_ingest: Ingest) -> None:
    source = MemorySource({"deep/b.toy": toy()})
    row = run_ingest(source).events.iloc[-1]
    assert row["uri"].startswith("sealed:")
    assert Opener([source], _PSEUDONYMS).read(row["uri"]) == toy()
    import hashlib

    assert row["digest"] == hashlib.sha256(toy()).hexdigest()


def test_subjects_can_be_looked_up_by_any_identifier(run_ingest: Ingest) -> None:
    result = run_ingest({"a.ndjson": ndjson(patient(), observation())})
    hashes = set(result.subjects["identifier_hash"])
    assert {_PSEUDONYMS.identifier("MRN0001"), _PSEUDONYMS.identifier("p1")} == hashes
    assert set(result.subjects["subject_id"]) == {_PSEUDONYMS.subject(None, "MRN0001")}


def test_the_output_does_not_depend_on_the_number_of_processes(run_ingest: Ingest) -> None:
    content: dict[str, bytes | Json] = {f"f{k}.toy": toy(f"MRN{k % 7:04}", value=k) for k in range(200)}
    content |= {"a.ndjson": ndjson(patient(), observation()), "broken.json": b"{"}
    for out, workers in (("one", 1), ("two", 2)):
        run_ingest(content, out=out, workers=workers)
    one, two = (run_ingest(content, out=out).folder for out in ("one", "two"))
    assert digest_tree(one) == digest_tree(two)


def test_no_identifier_name_or_birth_date_is_in_any_written_file(run_ingest: Ingest) -> None:
    who = patient(
        value="MRN-SECRET-1",
        birthDate="1984-07-02",
        name=[{"family": "Brannick", "given": ["Elva"]}],
        id="pid-secret",
    )
    note = "Elva Brannick (MRN-SECRET-1), born 1984-07-02 or July 2, 1984, has fever."
    content = {
        "fhir/a.ndjson": ndjson(
            who,
            observation(who="pid-secret", name="x", valueInteger=None, valueString="seen by Brannick"),
            {"resourceType": "DiagnosticReport", "id": "r", "status": "final", "code": {"text": "CXR"},
             "subject": {"reference": "Patient/pid-secret"}, "issued": "2020-05-01T00:00:00Z",
             "conclusion": "Elva is well", "encounter": {"reference": "Encounter/enc-secret"}},
        ) + b"\n{broken",
        "MRN-SECRET-1/note.toy": b"raise",
        "MRN-SECRET-1__20200501T080000Z.txt": note.encode(),
        "Brannick_Elva.csv": b"a,b",
    }  # fmt: skip
    result = run_ingest(content)
    (cleaned,) = result.events.loc[result.events["modality"] == "notes", "text_value"]
    assert len(cleaned) == len(note)
    assert cleaned.endswith("has fever.")
    assert result.notes["texts_cleaned"] == 3
    plain = written(result.folder)
    texts = "".join(
        str(cell) for frame in (result.events, result.refusals) for cell in frame.to_numpy().ravel()
    )
    for secret in ("SECRET", "Brannick", "Elva", "1984", "secret"):
        assert secret.encode() not in plain
        assert secret not in texts
    paths = set(result.refusals["file"])
    assert f"{_PSEUDONYMS.subject(None, 'MRN-SECRET-1')}/note.toy" in paths
    assert "_____________.csv" in paths


def test_a_note_has_the_digest_of_its_cleaned_text(run_ingest: Ingest) -> None:
    import hashlib

    result = run_ingest({"MRN0001__20200501T080000Z.txt": b"MRN0001 has fever."})
    row = result.events.iloc[-1]
    assert row["text_value"] == "_______ has fever."
    assert row["digest"] == hashlib.sha256(row["text_value"].encode()).hexdigest()


def test_files_of_unknown_kind_and_readers_that_fail_are_refused_by_name(run_ingest: Ingest) -> None:
    result = run_ingest({"a.csv": b"1", "b.toy": b"raise", "c.toy": b"", "d.toy": toy()}, max_file_mib=1)
    codes = dict(zip(result.refusals["file"], result.refusals["code"], strict=True))
    assert codes == {"a.csv": "unknown-format", "b.toy": "reader-failed", "c.toy": "empty-file"}
    reason = result.refusals.set_index("file").loc["b.toy", "reason"]
    assert "ZeroDivisionError" in reason
    assert "Brannick" not in reason
    assert result.codes == ["TOY//1"]
    assert result.notes["refusals_by_code"] == {"empty-file": 1, "reader-failed": 1, "unknown-format": 1}


def test_a_file_that_is_too_large_is_refused(run_ingest: Ingest) -> None:
    result = run_ingest({"a.toy": b" " * (1 << 20) + toy()}, max_file_mib=1)
    assert list(result.refusals["code"]) == ["too-large"]


def test_a_file_that_kills_its_process_is_refused_and_the_others_are_read(run_ingest: Ingest) -> None:
    content = {f"f{k}.toy": toy(code=f"TOY//{k:02}") for k in range(20)}
    content |= {"f7.toy": b"crash", "f13.toy": b"crash"}
    result = run_ingest(content, workers=2)
    assert dict(zip(result.refusals["file"], result.refusals["code"], strict=True)) == {
        "f7.toy": "reader-crashed", "f13.toy": "reader-crashed",
    }  # fmt: skip
    assert len(result.codes) == 18


def test_a_refusal_that_may_pass_is_tried_again(run_ingest: Ingest) -> None:
    content = {"a.toy": b"raise", "b.toy": toy()}
    assert run_ingest(content).notes["read"] == 2
    again = run_ingest(content)
    assert again.notes["read"] == 1
    assert list(again.refusals["code"]) == ["reader-failed"]


def test_a_second_run_reads_only_what_is_new(run_ingest: Ingest, tmp_path: Path) -> None:
    root = tmp_path / "export"
    root.mkdir()
    for k in range(5):
        (root / f"f{k}.toy").write_bytes(toy(code=f"TOY//{k}"))
    source = LocalSource(root)
    assert run_ingest(source).notes["read"] == 5
    first = run_ingest(source)
    assert (first.notes["read"], len(first.codes)) == (0, 5)
    (root / "f1.toy").write_bytes(toy(code="TOY//changed"))
    (root / "f2.toy").unlink()
    (root / "f3.toy").touch()
    (root / "f9.toy").write_bytes(toy(code="TOY//9"))
    second = run_ingest(source)
    assert second.notes["read"] == 2
    assert second.codes == ["TOY//0", "TOY//3", "TOY//4", "TOY//9", "TOY//changed"]
    assert run_ingest(source).notes["read"] == 0
    fresh = run_ingest(source, out="fresh")
    for name in ("events.parquet", "refusals.parquet", "subjects.parquet"):
        assert (fresh.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_a_removed_file_leaves_nothing_in_the_state(run_ingest: Ingest, tmp_path: Path) -> None:
    run_ingest({"a.toy": toy()})
    result = run_ingest({"b.ndjson": ndjson(patient(), observation())})
    assert result.codes == ["LOINC//8867-4"]
    assert len(list((result.folder / "state").glob("*.shard"))) == 1


def test_another_key_reads_everything_again(run_ingest: Ingest, tmp_path: Path) -> None:
    run_ingest({"a.toy": toy()})
    other = Pseudonymiser(b"fedcba9876543210")
    rules = IngestConfig(workers=1)
    source = MemorySource({"a.toy": toy()})
    assert ingest([source], {"toy": TOY}, rules, other, tmp_path / "out", QUIET)["read"] == 1


def test_other_rules_read_everything_again(run_ingest: Ingest) -> None:
    run_ingest({"a.toy": toy()})
    assert run_ingest({"a.toy": toy()}, timezone="Europe/Paris").notes["read"] == 1


_KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import toy_reader
from clinimm.config import IngestConfig
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.ingest import pool
from clinimm.ingest.stage import ingest
from clinimm.progress import QUIET
from clinimm.sources.local import LocalSource
pool._FILES_A_BATCH = 2
read = pool.Worker.read
def slowly(self, batch):
    time.sleep(0.02)
    return read(self, batch)
pool.Worker.read = slowly
out = Path(sys.argv[2])
ingest([LocalSource(Path(sys.argv[1]))], {"toy": toy_reader.TOY}, IngestConfig(workers=1),
       Pseudonymiser(b"0123456789abcdef"), out, QUIET)
"""


def test_a_killed_run_goes_on_where_it_stopped(run_ingest: Ingest, tmp_path: Path) -> None:
    root, out = tmp_path / "export", tmp_path / "out"
    root.mkdir()
    out.mkdir()
    for k in range(400):
        (root / f"f{k:03}.toy").write_bytes(toy(code=f"TOY//{k}"))
    arguments = [sys.executable, "-c", _KILLED, str(root), str(out), str(Path(__file__).parent)]
    process = subprocess.Popen(arguments)
    shards = out / "state"
    deadline = time.monotonic() + 60
    while len(list(shards.glob("*.shard"))) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "events.parquet").exists()
    result = run_ingest(LocalSource(root), modalities={"toy": TOY})
    assert 0 < result.notes["read"] <= 390
    assert len(result.codes) == 400


def test_equal_copies_are_one_and_versions_follow_each_other(run_ingest: Ingest) -> None:
    old = observation(meta={"lastUpdated": "2020-06-01T00:00:00Z"}, valueInteger=1)
    new = observation(meta={"lastUpdated": "2020-07-01T00:00:00Z"}, valueInteger=2)
    result = run_ingest(
        {"a.ndjson": ndjson(patient(), new, observation("o2")), "b.ndjson": ndjson(old, observation("o2"))}
    )
    assert lives(result) == [
        (1, "2020-05-01T08:00:00", "2020-07-01T00:00:00", None),
        (70, "2020-05-01T08:00:00", None, None),
        (2, "2020-07-01T00:00:00", None, "revised"),
    ]
    assert result.notes["dropped"] == {"duplicate": 1}
    assert result.notes["revised_or_withdrawn_later"] == 1


def lives(result: Result) -> list[tuple[float, str, str | None, str | None]]:
    """Value, since when, until when and flags of each event."""
    return [
        (
            row.numeric_value,
            row.time.isoformat()[:19],
            None if pd.isna(row.until) else row.until.isoformat()[:19],
            None if pd.isna(row.flags) else row.flags,
        )
        for row in result.events.itertuples()
    ]


def test_a_correction_in_an_export_with_history_replaces_the_first_value_when_it_was_made(
    run_ingest: Ingest,
) -> None:
    first = observation(meta={"lastUpdated": "2020-05-01T08:05:00Z"}, valueInteger=1)
    second = observation(
        meta={"lastUpdated": "2020-05-01T20:00:00Z"}, valueInteger=2, status="corrected",
        issued="2020-05-01T19:59:00Z",
    )  # fmt: skip
    for out, lines in (("one", (first, second)), ("two", (second, first))):
        assert lives(run_ingest({"a.ndjson": ndjson(patient(), *lines)}, out=out)) == [
            (1, "2020-05-01T08:00:00", "2020-05-01T20:00:00", None),
            (2, "2020-05-01T20:00:00", None, "revised"),
        ]


def test_what_was_taken_back_was_known_until_then(run_ingest: Ingest) -> None:
    first = observation(meta={"lastUpdated": "2020-05-01T08:05:00Z"})
    wrong = observation(status="entered-in-error", meta={"lastUpdated": "2020-05-01T20:00:00Z"})
    expected = [(70, "2020-05-01T08:00:00", "2020-05-01T20:00:00", None)]
    both = run_ingest({"a.ndjson": ndjson(patient(), first, wrong)}, out="both")
    assert lives(both) == expected
    alone = {"a.ndjson": ndjson(patient(), wrong)}
    assert lives(run_ingest(alone, out="alone", last_updated_is_change=True)) == expected
    assert lives(run_ingest(alone, out="dropped")) == []


def test_a_correction_that_a_later_export_repeats_keeps_its_earliest_bound(run_ingest: Ingest) -> None:
    copies = [
        observation(status="corrected", meta={"lastUpdated": f"2020-0{month}-01T00:00:00Z"})
        for month in (7, 6)
    ]
    result = run_ingest({"a.ndjson": ndjson(patient(), copies[0]), "b.ndjson": ndjson(copies[1])})
    assert lives(result) == [(70, "2020-06-01T00:00:00", None, "revised")]
    assert result.notes["dropped"] == {"duplicate": 1}


def test_two_contents_of_one_resource_that_nothing_orders_are_flagged(run_ingest: Ingest) -> None:
    result = run_ingest(
        {"a.ndjson": ndjson(patient(), observation(valueInteger=1)), "b.ndjson": ndjson(observation())}
    )
    assert lives(result) == [(70, "2020-05-01T08:00:00", None, "undated_revision")]
    assert result.notes["dropped"] == {"older-version": 1}
    assert result.notes["flags"] == {"undated_revision": 1}


def test_a_later_version_in_error_takes_the_fact_back(run_ingest: Ingest) -> None:
    wrong = observation(status="entered-in-error")
    result = run_ingest(
        {"a.ndjson": ndjson(patient(), observation(), observation("o2")), "b.ndjson": ndjson(wrong)}
    )
    assert result.notes["events_by_modality"] == {"ehr": 1}
    assert result.notes["dropped"] == {"entered-in-error": 1, "withdrawn": 1}


def test_a_version_goes_with_all_its_components(run_ingest: Ingest) -> None:
    def pressure(*codes: str) -> Json:
        parts = [
            {"code": {"coding": [{"system": _LOINC, "code": code}]}, "valueInteger": 80} for code in codes
        ]
        return observation(valueInteger=None, component=parts)

    old, new = (
        pressure("8480-6", "8462-4"),
        pressure("8480-6") | {"meta": {"lastUpdated": "2021-01-01T00:00:00Z"}},
    )
    for resource in (old, new):
        del resource["valueInteger"]
    result = run_ingest({"a.ndjson": ndjson(patient(), new), "b.ndjson": ndjson(old)})
    until = result.events.set_index("code")["until"]
    assert sorted(until.index) == ["LOINC//8462-4", "LOINC//8480-6"]
    assert until["LOINC//8462-4"].isoformat()[:10] == "2021-01-01"
    assert pd.isna(until["LOINC//8480-6"])


def test_one_object_id_with_two_contents_is_flagged_and_with_one_is_one(run_ingest: Ingest) -> None:
    clash = {"x/same.toy": toy(value=1), "y/same.toy": toy(value=2), "z/same.toy": toy(value=2)}
    sources = [MemorySource({"same.toy": data}) for data in clash.values()]
    result = run_ingest(*sources)
    assert list(result.events["flags"]) == ["duplicate_uid", "duplicate_uid"]
    assert result.notes["dropped"] == {"duplicate": 1}


def test_future_facts_are_flagged(run_ingest: Ingest) -> None:
    late = observation(effectiveDateTime="2199-01-01T00:00:00Z")
    result = run_ingest({"a.ndjson": ndjson(patient(), late)})
    assert list(result.events["flags"]) == ["future"]
    assert result.notes["flags"] == {"future": 1}


def test_orphans_are_one_refusal_a_file_and_patient(run_ingest: Ingest) -> None:
    result = run_ingest({"a.ndjson": ndjson(*(observation(f"o{k}", who="nobody") for k in range(3)))})
    assert list(result.refusals["code"]) == ["orphan"]
    assert list(result.refusals["item"]) == ["Observation/o0 and 2 more"]
    assert result.notes["events"] == 0


def test_a_conflict_refuses_the_image_and_keeps_the_record(run_ingest: Ingest) -> None:
    from dataclasses import replace

    def contradicting(source: Source, file: Any) -> Any:
        scanned = TOY.scan(source, file)
        identity = replace(scanned.identities[0], birth_date="1950-01-01")
        return replace(scanned, identities=(identity,))

    content = {"a.ndjson": ndjson(patient(birthDate="1984-07-02"), observation()), "b.toy": toy()}
    result = run_ingest(content, modalities={"toy": replace(TOY, scan=contradicting)} | all_modalities())
    assert list(result.refusals[["file", "code"]].itertuples(index=False)) == [("b.toy", "identity-conflict")]
    assert result.codes == ["LOINC//8867-4"]


def test_the_site_is_the_sources_where_the_file_names_none(run_ingest: Ingest) -> None:
    stay = {
        "resourceType": "Encounter", "id": "e", "status": "finished", "subject": {"reference": "Patient/p1"},
        "period": {"start": "2020-05-01T08:00:00Z"}, "serviceProvider": {"display": "South"},
    }  # fmt: skip
    source = MemorySource({"a.ndjson": ndjson(patient(), observation(), stay)}, site="North")
    result = run_ingest(source)
    sites = {row.code: json.loads(row.attributes)["site"] for row in result.events.itertuples()}
    assert sites == {"LOINC//8867-4": "North", "FHIR//Encounter": "South"}


def test_no_events_at_all_still_writes_the_tables(run_ingest: Ingest) -> None:
    result = run_ingest({"a.json": b"{"})
    assert result.events.empty
    assert list(result.refusals["code"]) == ["not-json"]
    assert run_ingest({}).notes["files"] == 0


def test_run_reads_the_pipeline_file_and_needs_a_source(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "M1__20200501T083000Z.txt").write_bytes(b"Fever.")
    sources = (SourceConfig(root=tmp_path / "export"),)
    config = PipelineConfig(
        name="x", runs_dir=tmp_path / "runs", sources=sources, ingest=IngestConfig(workers=1)
    )
    assert run(Workspace(config), QUIET)["events"] == 1
    with pytest.raises(ConfigError, match="names no sources"):
        run(Workspace(config.model_copy(update={"sources": ()})), QUIET)
