from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clinimm import encode
from clinimm.cohort.spec import CohortSpec
from clinimm.config import PipelineConfig
from clinimm.core.errors import ConfigError, DataError, MissingStageError
from clinimm.core.event import EVENT_COLUMNS
from clinimm.core.pseudonym import load_pseudonymiser
from clinimm.core.record import digest_bytes, digest_tree
from clinimm.progress import QUIET
from clinimm.sources import build_sources
from clinimm.sources.base import Opener
from clinimm.workspace import Workspace
from tests.outside_ecg.samples import recording

INDEX = datetime(2024, 3, 2, 12, tzinfo=UTC)
SPEC = {
    "name": "toy",
    "question": "Is it a toy?",
    "index": {"modality": "ecg"},
    "label": {"task": "toy", "code": "outcome//toy", "value": True, "window": ["0 d", "30 d"]},
    "inputs": {"ehr": {}, "notes": {}, "ecg": {"look_back": "7 d"}},
}


def event(subject: str, hours_before: float, code: str, modality: str, **fields: Any) -> dict[str, Any]:
    time = INDEX - timedelta(hours=hours_before)
    return {
        **dict.fromkeys(EVENT_COLUMNS),
        "subject_id": subject,
        "time": time,
        "code": code,
        "modality": modality,
        **fields,
    }


def fever(subject: str, hours_before: float, value: float = 38.0) -> dict[str, Any]:
    return event(subject, hours_before, "LOINC//8310-5", "ehr", numeric_value=value, unit="Cel")


def write(workspace: Workspace, events: list[dict[str, Any]]) -> None:
    table = pd.DataFrame(events, columns=[*EVENT_COLUMNS])
    table["numeric_value"] = table["numeric_value"].astype("float64")
    table["time"] = pd.to_datetime(table["time"], utc=True).dt.as_unit("us")
    table = table.sort_values(["subject_id", "time", "code"], kind="stable")
    table.astype({name: "str" for name, kind in EVENT_COLUMNS.items() if kind == "string"}).to_parquet(
        workspace.stage("ingest") / "events.parquet", index=False
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    source = tmp_path / "export"
    source.mkdir()
    for subject in "ab":
        (source / f"{subject}.ecg").write_bytes(recording(subject, INDEX.isoformat(), ord(subject)))
    config = PipelineConfig.model_validate(
        {
            "name": "toy",
            "runs_dir": tmp_path / "runs",
            "sources": [{"root": source}],
            "plugins": ["tests.outside_ecg"],
        }
    )
    workspace = Workspace(config)
    cohort = pd.DataFrame({"subject_id": ["a", "b", "c"], "index_time": [INDEX] * 3})
    cohort["index_time"] = cohort["index_time"].dt.as_unit("us")
    cohort.to_parquet(workspace.stage("cohort") / "cohort.parquet", index=False)
    spec = CohortSpec.model_validate(SPEC)
    (workspace.stage("cohort") / "spec.json").write_text(spec.model_dump_json(exclude_unset=True))
    return workspace


def recorded(
    workspace: Workspace, subject: str, hours_before: float, name: str | None = None
) -> dict[str, Any]:
    opener = Opener(build_sources(workspace.config), load_pseudonymiser())
    path = f"{name or subject}.ecg"
    digest = digest_bytes(f"{path} of {subject}".encode())
    return event(subject, hours_before, "ECG//lead-II", "ecg", uri=opener.seal(0, path), digest=digest)


def some_events(workspace: Workspace) -> list[dict[str, Any]]:
    return [
        fever("a", 5),
        fever("b", 3, 37.0),
        fever("c", 0),
        recorded(workspace, "a", 1),
        recorded(workspace, "b", 2),
    ]


def test_every_modality_that_somebody_has_is_written(workspace: Workspace) -> None:
    write(workspace, some_events(workspace))

    notes = encode.run(workspace, QUIET)

    folder = workspace.stage("encode")
    index = json.loads((folder / "index.json").read_text())
    assert {path.parent.name for path in folder.glob("*/tokens.parquet")} == {"ehr", "ecg"}
    assert (index["notes"]["rows"], index["ehr"]["rows"], index["ecg"]["subjects"]) == (0, 3, 2)
    assert {key: notes["ecg"][key] for key in index["ecg"]} == index["ecg"]
    assert notes["ecg"]["cache_misses"] == 2
    tokens, values = (
        pd.read_parquet(folder / "ecg" / "tokens.parquet"),
        np.load(folder / "ecg" / "values.npy"),
    )
    assert len(tokens) == len(values) == 8
    assert values.dtype == np.float16
    assert tokens["time_hours"].tolist() == [1.0] * 4 + [2.0] * 4


def test_an_item_that_cannot_be_encoded_is_listed_without_stopping(workspace: Workspace) -> None:
    write(workspace, [*some_events(workspace), recorded(workspace, "c", 1, name="gone")])

    index = encode.run(workspace, QUIET)

    refusals = pd.read_parquet(workspace.stage("encode") / "refusals.parquet")
    assert index["ecg"]["refused"] == {"unreadable": 1}
    assert refusals[["modality", "item", "code"]].to_numpy().tolist() == [
        ["ecg", "ECG//lead-II", "unreadable"]
    ]
    assert "gone" not in refusals.to_json()


def test_a_second_run_reads_the_cache_and_gives_the_same_bytes(workspace: Workspace) -> None:
    write(workspace, some_events(workspace))
    first = encode.run(workspace, QUIET)
    before = digest_tree(workspace.stage("encode"))

    second = encode.run(workspace, QUIET)

    assert (first["ecg"]["cache_hits"], second["ecg"]["cache_hits"]) == (0, 2)
    assert digest_tree(workspace.stage("encode")) == before


def test_tokens_of_a_modality_that_is_now_off_do_not_stay(workspace: Workspace) -> None:
    write(workspace, some_events(workspace))
    encode.run(workspace, QUIET)
    off = workspace.config.model_copy(
        update={"modalities": {"ecg": workspace.config.modality("ecg").model_copy(update={"enabled": False})}}
    )

    index = encode.run(Workspace(off), QUIET)

    assert "ecg" not in index
    assert not (workspace.stage("encode") / "ecg").exists()


LATER = st.fixed_dictionaries(
    {
        "subject": st.sampled_from("abc"),
        "hours_after": st.floats(1 / 3600, 24 * 365),
        "kind": st.sampled_from(["fever", "ecg", "note", "age"]),
        "value": st.floats(-1e3, 1e3),
    }
)


def later_event(workspace: Workspace, drawn: dict[str, Any]) -> dict[str, Any]:
    subject, hours = drawn["subject"], -drawn["hours_after"]
    if drawn["kind"] == "ecg":
        return recorded(workspace, subject, hours, name="a")
    if drawn["kind"] == "note":
        return event(subject, hours, "LOINC//11506-3", "notes", text_value="Died on Friday.")
    code = "DEMOGRAPHIC//age_years" if drawn["kind"] == "age" else "LOINC//8310-5"
    return event(subject, hours, code, "ehr", numeric_value=drawn["value"], category="demographic")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(later=st.lists(LATER, max_size=6))
def test_no_later_event_changes_a_byte_of_the_tokens(
    workspace: Workspace, later: list[dict[str, Any]]
) -> None:
    write(workspace, some_events(workspace))
    encode.run(workspace, QUIET)
    before = digest_tree(workspace.stage("encode"))

    write(workspace, [*some_events(workspace), *(later_event(workspace, drawn) for drawn in later)])
    encode.run(workspace, QUIET)

    assert digest_tree(workspace.stage("encode")) == before


def test_an_earlier_event_does_change_them(workspace: Workspace) -> None:
    write(workspace, some_events(workspace))
    encode.run(workspace, QUIET)
    before = digest_tree(workspace.stage("encode"))

    write(workspace, [*some_events(workspace), fever("a", 0.5)])
    encode.run(workspace, QUIET)

    assert digest_tree(workspace.stage("encode")) != before


def test_errors_say_what_to_do(workspace: Workspace) -> None:
    with pytest.raises(MissingStageError, match="clinimm ingest"):
        encode.run(workspace, QUIET)
    write(workspace, [fever("a", -1)])
    with pytest.raises(DataError, match="no subject has anything visible"):
        encode.run(workspace, QUIET)
    plain = Workspace(workspace.config.model_copy(update={"plugins": ()}))
    with pytest.raises(ConfigError, match="names ecg under inputs; known modalities are ehr, notes"):
        encode.run(plain, QUIET)
